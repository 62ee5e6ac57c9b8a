"""A plan says what will happen: every number is held against the run itself."""

import re
import shutil
import sys
import threading
from collections import namedtuple

import dask
import numpy as np
import pytest
from distributed import LocalCluster
from fcunet_dask import (
    Calibration,
    connect_cluster,
    open_scan,
    plan,
    run,
    save_scan,
    simulate_scan,
)
from fcunet_dask._blockwise import blocks_in_task
from fcunet_dask._commit import BlockStore
from fcunet_dask.errors import ParameterError, StoreError
from fcunet_dask.pipeline import Settings
from fcunet_dask.pipeline.workers import WORKER_BYTES, Workers, active_workers

PLAN = sys.modules[plan.__module__]


@pytest.fixture(scope="module")
def scan_path(tmp_path_factory):
    """24 × 40 patterns in blocks of 8 × 8, with counting noise."""
    path = tmp_path_factory.mktemp("scan") / "scan.zarr"
    made = simulate_scan(
        scan=(24, 40), detector=(64, 64), radius=3.0, g1=(2.0, 12.0), g2=(12.0, -2.0),
        dose=1e5, blocks=(8, 8),
    )  # fmt: skip
    save_scan(made[["pattern"]], path, shard=(8, 8))
    return path


@pytest.fixture(scope="module")
def scan(scan_path):
    return open_scan(scan_path, blocks=(8, 8))


@pytest.fixture(scope="module")
def planned(scan, tmp_path_factory):
    return plan(scan, tmp_path_factory.mktemp("out"))


@pytest.fixture(scope="module")
def done(scan, tmp_path_factory):
    """Folder of a run, and the graphs that its scheduler was given."""
    out = tmp_path_factory.mktemp("run") / "out"
    graphs = []

    def counted(graph, keys, **options):
        graphs.append(dict(graph.__dask_graph__()))
        return dask.get(graph, keys, **options)

    with dask.config.set(scheduler=counted):
        run(scan, out)
    return out, graphs


def test_blocks_tasks_and_bytes_are_those_of_the_run(planned, done, scan):
    out, graphs = done
    store = BlockStore(out)
    assert planned.blocks == len(list(store.blocks())) == 15
    assert planned.block == store.block
    commits = [g for g in graphs if any("commit" in str(k) for k in g)]
    tasks = [k for k in commits[0] if isinstance(k, tuple)]
    assert planned.tasks == len(tasks)
    assert planned.bands == len(commits) - 1  # the last is the second pass
    analysis = BlockStore(out / store.summary["analysis"])
    assert planned.map_blocks == len(list(analysis.blocks()))
    assert planned.scan_bytes == scan.pattern.values.nbytes
    assert planned.block_bytes == scan.pattern[:8, :8].values.nbytes


def test_the_disk_takes_what_was_said(planned, done):
    out, _ = done
    sizes = [p.stat().st_size for p in out.rglob("*") if p.is_file()]
    assert 0.75 < planned.result_bytes / sum(sizes) < 1.25


def test_disks_and_times_are_measured(planned, done, scan):
    q = BlockStore(done[0]).arrays["bragg_q"][:]
    mean = np.isfinite(q[..., 0]).sum(axis=-1).mean()
    assert abs(planned.disks - mean) < 3
    assert planned.read_seconds > 0
    assert planned.detect_seconds > 0
    threads = min(planned.workers.threads, 15)
    per_pattern = planned.seconds * threads / (24 * 40)
    assert per_pattern > planned.read_seconds + planned.detect_seconds


def test_a_block_larger_than_a_worker_is_refused(scan, tmp_path, monkeypatch):
    small = Workers(processes=1, threads=1, memory_bytes=WORKER_BYTES)
    monkeypatch.setattr(PLAN, "active_workers", lambda: small)
    found = plan(scan, tmp_path)
    assert "blocks of 8" not in found.problems[0]
    assert "block of 8 × 8 patterns in each of 1 threads" in found.problems[0]
    assert "and has 200 MiB" in found.problems[0]
    assert "smaller blocks=(rows, columns); not even one" in found.problems[0]
    with pytest.raises(ParameterError, match="200 MiB"):
        run(scan, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_blocks_that_would_fit_are_named(scan, scan_path, tmp_path, monkeypatch):
    """8 × 8 patterns of 64 × 64 uint16 have 512 KiB; 4 × 4 are an eighth of 1 MiB."""
    memory = WORKER_BYTES + 140 * 2**10
    small = Workers(processes=1, threads=1, memory_bytes=memory)
    monkeypatch.setattr(PLAN, "active_workers", lambda: small)
    words = r"smaller blocks=\(4, 4\) \(--blocks 4,4\)"
    with pytest.raises(ParameterError, match=words):
        PLAN.check_fits(scan, tmp_path)
    PLAN.check_fits(open_scan(scan_path, blocks=(4, 4)), tmp_path)


def test_smaller_blocks_keep_more_threads_busy(scan_path, tmp_path, monkeypatch):
    """One block for eight threads; what is named must fit, whoever is busy then."""
    opened = open_scan(scan_path, blocks=(24, 40))
    memory = WORKER_BYTES + 3 * 2**20
    one = Workers(processes=1, threads=8, memory_bytes=memory)
    monkeypatch.setattr(PLAN, "active_workers", lambda: one)
    with pytest.raises(ParameterError, match="in each of 1 threads") as refused:
        PLAN.check_fits(opened, tmp_path)
    named = re.search(r"--blocks (\d+),(\d+)", str(refused.value))
    blocks = tuple(int(n) for n in named.groups())
    PLAN.check_fits(open_scan(scan_path, blocks=blocks), tmp_path)
    assert blocks[0] * blocks[1] * 2**13 * 8 > 3 * 2**19  # and not one that is tiny


def test_every_thread_of_a_worker_needs_its_block(scan, tmp_path, monkeypatch):
    """A block of 8 × 8 patterns of 64 × 64 uint16 has 512 KiB; 3 of them are too much."""
    assert scan.pattern[:8, :8].nbytes == 2**19
    memory = WORKER_BYTES + 5 * 2**18

    def refused(processes, threads):
        workers = Workers(processes=processes, threads=threads, memory_bytes=memory)
        monkeypatch.setattr(PLAN, "active_workers", lambda: workers)
        try:
            PLAN.check_fits(scan, tmp_path)
        except ParameterError as error:
            return str(error)
        return ""

    assert not refused(processes=1, threads=2)
    assert "in each of 3 threads" in refused(processes=1, threads=3)
    assert not refused(processes=2, threads=4)
    assert "in each of 3 threads" in refused(processes=2, threads=5)
    assert "in each of 15 threads" in refused(processes=1, threads=64)  # 15 blocks


def test_a_plan_counts_the_threads(planned, scan, tmp_path, monkeypatch):
    one, four = (Workers(processes=1, threads=n, memory_bytes=2**40) for n in (1, 4))
    needed = []
    for workers in (one, four):
        monkeypatch.setattr(PLAN, "active_workers", lambda workers=workers: workers)
        needed.append(plan(scan, tmp_path).worker_bytes - WORKER_BYTES)
    assert needed[1] / needed[0] == pytest.approx(4, rel=0.05)


def test_a_scan_in_memory_is_planned_as_it_is_run(scan, tmp_path, monkeypatch):
    """20 rows and 40 columns: 2 × 3 blocks of 16 × 16; in 1/Å, where that is given."""
    held = scan.isel(scan_y=slice(20)).load()
    assert held.pattern.chunks is None
    seen = []
    choose = PLAN.choose_detector
    monkeypatch.setattr(
        PLAN, "choose_detector", lambda s, c: seen.append(s) or choose(s, c)
    )
    settings = Settings(calibration=Calibration(q_step=0.02))
    found = plan(held, tmp_path / "out", settings=settings)
    run(held, tmp_path / "out", settings=settings)
    assert found.block == BlockStore(tmp_path / "out").block == (16, 16)
    assert found.blocks == len(list(BlockStore(tmp_path / "out").blocks())) == 6
    assert np.diff(seen[0].q_x)[0] == pytest.approx(0.02)


def test_plan_refuses_what_run_refuses(scan, tmp_path):
    settings = Settings(reference=(slice(30, 40), slice(None)))
    with pytest.raises(ParameterError, match="holds no position"):
        plan(scan, tmp_path, settings=settings)


def test_memory_is_that_of_the_container(monkeypatch):
    monkeypatch.setattr("distributed.system.MEMORY_LIMIT", 12345)
    assert active_workers().memory_bytes == 12345


def test_one_thread_computes_where_dask_is_told_so():
    with dask.config.set(scheduler="synchronous"):
        assert active_workers().threads == 1
    with dask.config.set(scheduler="threads", num_workers=3):
        assert active_workers().threads == 3


def test_results_larger_than_the_disk_are_refused(scan, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda p: usage(1000, 0, 1000))
    found = plan(scan, tmp_path)
    assert found.free_bytes == 1000
    assert "GiB are free: make room" in found.problems[0]
    with pytest.raises(StoreError, match="make room"):
        run(scan, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_workers_are_those_of_the_client(scan, tmp_path):
    with connect_cluster(
        n_workers=2, memory_limit="700MiB", dashboard_address=":0"
    ) as client:
        found = active_workers()
        client.cluster.close()
    assert found == Workers(processes=2, threads=2, memory_bytes=700 * 2**20)


def test_a_run_says_that_it_waits_for_workers(scan, tmp_path, caplog):
    """It begins without, and ends when one has come."""
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as cluster,
        cluster.get_client(),
    ):
        came = threading.Timer(1.0, cluster.scale, [1])
        came.start()
        run(scan.chunk(scan_y=4), tmp_path / "out")
        came.join()
        run(scan.chunk(scan_y=4), tmp_path / "out")
        said = [r.message for r in caplog.records if "no workers yet" in r.message]
        assert said == [
            f"{cluster.scheduler_address} has no workers yet: work waits until some "
            "come; till then this process is reckoned with"
        ]


def test_workers_are_those_with_the_resources_that_are_asked_for(caplog):
    """As the scheduler gives them out: a worker without gets nothing."""
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=3, processes=False,
            resources={"GPU": 1}, dashboard_address=":0",
        ) as cluster,
        cluster.get_client(),
    ):  # fmt: skip
        with dask.annotate(resources={"GPU": 1}):
            found = active_workers()
        assert (found.processes, found.threads, found.gpus) == (2, 6, 2)
        assert not [r for r in caplog.records if r.name == active_workers.__module__]
        with dask.annotate(resources={"GPU": 2}):
            assert active_workers().gpus == 0
    assert [
        r.message for r in caplog.records if r.name == active_workers.__module__
    ] == [
        f"{cluster.scheduler_address} has no workers with GPU=2 yet: work waits until "
        "some come; till then this process is reckoned with"
    ]


def test_a_plan_counts_the_memory_of_gpus(scan, tmp_path):
    """Dask tells what pynvml finds; blocks of 512 KiB in each of three threads."""
    for card, problems in ((2**21, 1), (2**22, 0)):
        with (
            LocalCluster(
                n_workers=1, threads_per_worker=3, processes=False,
                startup_information={"gpu": lambda _, card=card: {"memory-total": card}},
                dashboard_address=":0",
            ) as cluster,
            cluster.get_client(),
        ):  # fmt: skip
            found = plan(scan, tmp_path)
        assert (found.workers.gpus, found.workers.device_bytes) == (1, card)
        assert found.device_bytes == 3 * 2**19
        assert len(found.problems) == problems
        assert all("half of its memory is 1 MiB" in p for p in found.problems)


@pytest.mark.parametrize("name", ["", "maps.zarr", "pattern/maps.zarr"])
def test_a_plan_says_that_the_output_lies_in_the_scan(scan_path, name):
    """Run refuses it; the plan must not promise it."""
    out = scan_path / name
    (problem,) = plan(open_scan(scan_path), out).problems
    with pytest.raises(StoreError) as refused:
        run(open_scan(scan_path), out)
    assert problem == str(refused.value)


def test_thousands_of_blocks_are_shared_out():
    assert [blocks_in_task(n) for n in (1, 4000, 9000, 100_000)] == [1, 1, 2, 8]
