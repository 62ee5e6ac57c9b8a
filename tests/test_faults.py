"""Processes that are killed on real runs; `benchmarks/faults` does it many times."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cloudpickle
import dask
import pytest
from fcunet_dask import connect_cluster, load_detector, open_scan, run, save_scan
from fcunet_dask._commit import BlockStore
from fcunet_dask.errors import ReaderError

SCRIPT = """
import sys, time
import dask
from fcunet_dask import load_detector, open_scan, run
from test_faults import Slow
with dask.config.set(scheduler="synchronous"):
    run(open_scan(sys.argv[1], blocks=(2, 2)), sys.argv[2], detector=Slow())
"""


class Slow:
    """Finds disks, but takes its time."""

    __slots__ = ()
    max_peaks = 64

    def __dask_tokenize__(self):
        return "slow"

    def __call__(self, patterns):
        time.sleep(0.1)
        return load_detector("template", radius=4.2, max_peaks=64)(patterns)


@pytest.fixture(scope="module")
def path(scan, tmp_path_factory):
    """A scan with its probe, in twelve blocks of four patterns."""
    path = tmp_path_factory.mktemp("scan") / "scan.zarr"
    save_scan(scan[["pattern", "probe"]], path, shard=(4, 4))
    return path


@pytest.fixture(scope="module")
def undisturbed(path, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "out"
    run(open_scan(path, blocks=(2, 2)), out, detector=Slow())
    return content(out)


def content(out):
    return {p.relative_to(out): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def marks(out):
    return {p: p.stat().st_mtime_ns for p in out.glob("marks/*/*/*.json")}


def wait_for_marks(out, number):
    end = time.monotonic() + 120
    while len(marks(out)) < number:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_killed_client_loses_nothing_that_was_finished(path, undisturbed, tmp_path):
    out = tmp_path / "out"
    folders = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(path), str(out)],
        env=os.environ | {"PYTHONPATH": folders},
    )
    wait_for_marks(out, 4)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = marks(out)
    assert len(before) < 12
    run(open_scan(path, blocks=(2, 2)), out, detector=Slow())
    after = marks(out)
    assert {p: after[p] for p in before} == before  # none was done again
    assert content(out) == undisturbed


@pytest.fixture
def by_value():
    """Workers cannot import this file: what is in it travels with the tasks."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def test_a_killed_worker_is_replaced(path, undisturbed, tmp_path, by_value):
    out = tmp_path / "out"
    with connect_cluster(n_workers=2, dashboard_address=":0") as client:
        pids = client.run(os.getpid)

        def killing(stage, done, total):
            if stage == "disks" and done >= 3 and pids:
                os.kill(pids.popitem()[1], signal.SIGKILL)
                pids.clear()

        run(open_scan(path, blocks=(2, 2)), out, detector=Slow(), progress=killing)
        client.cluster.close()
    assert not pids
    assert content(out) == undisturbed


def test_a_corrupted_chunk_stops_the_run_until_it_is_mended(
    path, undisturbed, tmp_path
):
    out = tmp_path / "out"
    chunk = path / "pattern" / "c" / "1" / "1" / "0" / "0"
    whole = chunk.read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 8

    def damaging(stage, done, total):
        if stage == "disks":  # the probe is measured: now the damage is met by a block
            chunk.write_bytes(damaged)

    with (
        dask.config.set(scheduler="synchronous"),
        pytest.raises(ReaderError, match=r"scan\.zarr: .* damaged"),
    ):
        run(open_scan(path, blocks=(2, 2)), out, detector=Slow(), progress=damaging)
    chunk.write_bytes(whole)
    assert BlockStore(out).pending()
    run(open_scan(path, blocks=(2, 2)), out, detector=Slow())
    assert content(out) == undisturbed
