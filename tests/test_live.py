"""A run looked at while it goes on."""

import json
import os
import subprocess
import sys

import dask
import numpy as np
import pytest
from fcunet_dask import open_scan, run, save_scan
from fcunet_dask._commit import BlockStore, is_owned, owner
from fcunet_dask._places import place
from fcunet_dask.errors import AnalysisError, StoreError
from fcunet_dask.pipeline import Settings, detect, live, strain_so_far, watch
from fcunet_dask.plot.live import live as draw_live


class PowerError(RuntimeError):
    """The power went out."""


@pytest.fixture
def stored(scan, tmp_path, monkeypatch, probe):
    """The scan in four blocks, and its probe known."""
    monkeypatch.setattr(detect, "measure_probe", lambda *a, **k: probe)
    save_scan(scan[["pattern"]], tmp_path / "scan.zarr", shard=(4, 4))
    return open_scan(tmp_path / "scan.zarr", blocks=(4, 4))


def interrupted(stored, out, after):
    """Run until `after` blocks are finished."""
    with pytest.MonkeyPatch.context() as patch:
        real, calls = BlockStore.write, []

        def write(self, *args):
            calls.append(args)
            if len(calls) > after:
                raise PowerError
            real(self, *args)

        patch.setattr(BlockStore, "write", write)
        with dask.config.set(scheduler="synchronous"), pytest.raises(PowerError):
            run(stored, out)


def test_the_map_so_far_is_that_of_the_end_up_to_the_reference(stored, tmp_path):
    out = tmp_path / "out"
    interrupted(stored, out, after=3)
    early = strain_so_far(out)
    finished = early["finished"].values
    assert 0 < finished.sum() < finished.size
    assert np.isnan(early["strain_xx"].values[~finished]).all()
    late = run(stored, out).load()
    difference = (early["strain_xx"] - late["strain_xx"]).values[finished]
    assert abs(difference - np.median(difference)).max() < 2e-3
    assert abs(np.median(difference)) < 0.02


def test_large_scans_are_thinned(stored, tmp_path, monkeypatch):
    interrupted(stored, tmp_path / "out", after=3)
    monkeypatch.setattr(live, "POSITIONS", 12)
    assert strain_so_far(tmp_path / "out")["strain_xx"].size <= 12


def test_the_reference_of_a_thinned_map_is_the_same_part(stored, tmp_path, monkeypatch):
    """The last two columns, of which one is left."""
    out = tmp_path / "out"
    interrupted(stored, out, after=3)
    part = Settings(reference=(slice(0, 4), slice(6, 8)))
    whole = strain_so_far(out, part)["strain_xx"]
    monkeypatch.setattr(live, "POSITIONS", 24)
    thin = strain_so_far(out, part)["strain_xx"]
    same = whole.sel(scan_y=thin.scan_y, scan_x=thin.scan_x)
    assert thin.sizes["scan_x"] < whole.sizes["scan_x"]
    assert abs(thin - same).max() < 1e-3


@pytest.mark.parametrize(
    ("part", "size", "step", "left"),
    [
        (slice(4, 8), 16, 2, slice(2, 4)),
        (slice(5, 6), 16, 4, slice(2, 3)),
        (slice(None), 9, 4, slice(0, 3)),
        (slice(-4, None), 16, 2, slice(6, 8)),
    ],
)
def test_parts_of_thinned_axes(part, size, step, left):
    assert live._thinned(part, size, step) == left


def test_nothing_finished_is_said_so(stored, tmp_path):
    with pytest.raises(StoreError):
        strain_so_far(tmp_path / "out")
    interrupted(stored, tmp_path / "out", after=0)
    with pytest.raises(AnalysisError, match="no block is finished"):
        strain_so_far(tmp_path / "out")


def test_watching_ends_with_the_run_and_draws_every_map(stored, tmp_path, monkeypatch):
    out = tmp_path / "out"
    steps = iter(
        [
            lambda: interrupted(stored, out, after=2),
            lambda: interrupted(stored, out, after=1),
            lambda: run(stored, out),
        ]
    )
    monkeypatch.setattr(live.time, "sleep", lambda seconds: next(steps)())
    seen = []

    def noted():
        for maps in watch(out, every=1.0):
            seen.append(float(maps["finished"].mean()))
            yield maps

    figure = draw_live(noted())
    assert seen == sorted(seen)
    assert len(seen) == 3
    assert seen[-1] == 1.0
    assert figure.get_suptitle() == "100 % of the positions"


SOON = {"every": 0.01, "patience": 0.1}


def claimed(out, **words):
    """Leave the claim of a process of this machine, with other `words`."""
    claim = {**owner._where(), "pid": os.getpid()} | words
    place(str(out)).write(owner.OWNER, json.dumps(claim).encode())


def dead():
    """Return the number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_name_at_which_nothing_begins_is_said(stored, tmp_path):
    with pytest.raises(StoreError, match=r"strian is no store .* no run has begun"):
        list(watch(tmp_path / "strian", **SOON))
    with pytest.raises(StoreError, match=r"is a scan, not the results"):
        list(watch(tmp_path / "scan.zarr", every=0.01, patience=1000))


@pytest.mark.parametrize("claim", [None, "dead", "silent"])
def test_a_run_that_ended_unfinished_is_said(stored, tmp_path, claim):
    """It was interrupted, killed here, or on a host that is heard of no more."""
    out = tmp_path / "out"
    interrupted(stored, out, after=3)
    if claim == "dead":
        claimed(out, pid=dead())
    if claim == "silent":
        claimed(out, host="elsewhere")
        os.utime(out / owner.OWNER, (1, 1))
    maps = watch(out, **SOON)
    assert 0 < next(maps)["finished"].mean() < 1
    with pytest.raises(
        StoreError, match=r"ended unfinished, with 3 of 4 blocks.*same command again"
    ):
        list(maps)


@pytest.mark.parametrize("words", [{}, {"host": "elsewhere"}])
def test_a_run_that_goes_on_is_waited_for(stored, tmp_path, monkeypatch, words):
    """Its process lives, here or as far as is known elsewhere."""
    out = tmp_path / "out"
    steps = iter([lambda: None] * 5 + [lambda: claimed(out, pid=dead())])
    monkeypatch.setattr(live.time, "sleep", lambda seconds: next(steps)())
    claimed(out, **words)
    assert is_owned(place(str(out)))
    with pytest.raises(StoreError, match="no run has begun"):
        list(watch(out, patience=0.0))
    assert next(steps, None) is None
    assert not is_owned(place(str(out)))
