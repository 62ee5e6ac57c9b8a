"""Functions over the blocks of a scan: one task each, and nothing else."""

import collections
import functools
import os
import threading
import time

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from distributed import Client, LocalCluster, get_worker
from fcunet_dask import _blockwise, open_scan, save_scan
from fcunet_dask._blockwise import (
    commit_blocks,
    commit_patterns,
    map_patterns,
    map_positions,
    verify_blocks,
)
from fcunet_dask._commit import ArraySpec, BlockStore
from fcunet_dask.errors import StoreError
from fcunet_dask.schema import SCAN, Q

WIDTHS = {"total": (), "corner": (2, 3)}


def work(block):
    """Sum and first pixels of every pattern."""
    return {
        "total": block.sum(axis=(2, 3), dtype=float),
        "corner": block[:, :, :2, :3],
    }


def patterns(data):
    return xr.DataArray(data, dims=(*SCAN, *Q))


@pytest.fixture
def data():
    return np.random.default_rng(1).integers(0, 99, (5, 7, 4, 6)).astype("u2")


@pytest.mark.parametrize("chunks", [None, (5, 7, 4, 6), (2, 3, 4, 6), (2, 7, 2, 3)])
def test_results_are_those_of_the_whole(chunks, data):
    lazy = data if chunks is None else da.from_array(data, chunks)
    found = map_patterns(work, patterns(lazy), WIDTHS)
    for name, values in work(data).items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name].compute(), values)


def test_nothing_runs_while_the_graph_is_built(data, never):
    map_patterns(work, patterns(da.from_array(data, (2, 3, 4, 6))), WIDTHS)


def test_a_scan_from_a_store_is_one_task_a_block(tmp_path, scan):
    save_scan(
        scan.drop_vars([n for n in scan if n.startswith("true")]),
        tmp_path / "a.zarr",
        shard=(4, 4),
    )
    stored = open_scan(tmp_path / "a.zarr")
    found = map_patterns(work, stored["pattern"], WIDTHS)["total"]
    graph = found.__dask_graph__()
    names = " ".join(graph.layers)
    for word in ("rechunk", "overlap", "transpose", "concatenate", "from-array"):
        assert word not in names
    (optimized,) = dask.optimize(found)
    blocks = np.prod(found.numblocks)
    assert len(optimized.__dask_graph__()) <= blocks + 3
    np.testing.assert_allclose(
        found.compute(), scan["pattern"].values.sum(axis=(2, 3)), rtol=1e-6
    )


class Store:
    """Blocks of 2 × 3 positions in memory; those of the first row are there."""

    def __init__(self, shape):
        self.shape = shape
        self.written = {}
        self.room = 6

    def region(self, block_id):
        return tuple(
            slice(i * n, min((i + 1) * n, s))
            for i, n, s in zip(block_id, (2, 3), self.shape, strict=True)
        )

    def pending(self):
        return [(y, x) for y in (1, 2) for x in range(3)]

    def has(self, block_id):
        return block_id in self.written

    def expect_room(self, block_id):
        if len(self.written) >= self.room:
            msg = "no room"
            raise OSError(msg)

    def write(self, block_id, values):
        self.written[block_id] = values["total"]


@pytest.mark.parametrize("kind", ["numpy", "source"])
def test_what_has_no_room_is_not_computed(kind, data, tmp_path):
    array = patterns(data)
    if kind == "source":
        np.save(tmp_path / "a.npy", data)
        array = open_scan(tmp_path / "a.npy")["pattern"]
    store, computed = Store(data.shape[:2]), []
    store.room = 2

    def counted(block):
        computed.append(block.shape)
        return work(block)

    with dask.config.set(scheduler="synchronous"), pytest.raises(OSError, match="room"):
        commit_patterns(counted, array, store)
    assert len(computed) == len(store.written) == 2


@pytest.mark.parametrize("kind", ["numpy", "dask", "source"])
def test_only_pending_blocks_are_committed(kind, data, tmp_path):
    array = patterns(data)
    if kind == "dask":
        array = patterns(da.from_array(data, (5, 4, 4, 6)))
    elif kind == "source":
        np.save(tmp_path / "a.npy", data)
        array = open_scan(tmp_path / "a.npy")["pattern"]
    store = Store(data.shape[:2])
    with dask.config.set(scheduler="synchronous"):
        commit_patterns(work, array, store)
    assert sorted(store.written) == store.pending()
    totals = data.sum(axis=(2, 3))
    for block_id, values in store.written.items():
        np.testing.assert_array_equal(values, totals[store.region(block_id)])


def test_bands_bound_what_the_scheduler_sees(data, monkeypatch):
    monkeypatch.setattr(_blockwise, "BAND", 4)
    store, seen = Store(data.shape[:2]), []

    def counted(graph, keys, **options):
        before = len(store.written)
        results = dask.get(graph, keys, **options)
        seen.append(len(store.written) - before)
        return results

    with dask.config.set(scheduler=counted):
        commit_patterns(work, patterns(data), store)
    assert seen == [4, 2]


def test_blocks_of_a_file_go_where_they_are_told(tmp_path, data):
    np.save(tmp_path / "a.npy", data)
    array = open_scan(tmp_path / "a.npy")["pattern"]
    seen = []

    def noted(graph, keys, **options):
        seen.append(graph.__dask_annotations__())
        return dask.get(graph, keys, **options)

    store = Store(data.shape[:2])
    with dask.config.set(scheduler=noted), dask.annotate(resources={"GPU": 1}):
        commit_patterns(work, array, store)
    tasks = seen[0]["resources"]
    assert sum(isinstance(key, tuple) for key in tasks) == len(store.written) == 6
    assert set(map(str, tasks.values())) == {"{'GPU': 1}"}


def test_a_block_that_is_there_already_is_not_made_again(data):
    store, asked = Store(data.shape[:2]), []

    def make(region):
        asked.append(region)
        return {"total": np.zeros(1)}

    store.written[1, 0] = "by a worker that died after it"
    with dask.config.set(scheduler="synchronous"):
        commit_blocks(make, store)
    assert len(asked) == 5
    assert store.written[1, 0] == "by a worker that died after it"


def test_what_is_committed_is_read_back_where_the_scheduler_says(data, tmp_path):
    store = BlockStore.create(
        tmp_path / "out",
        {"total": ArraySpec(dims=SCAN, shape=(4, 6), dtype="f8", chunks=(2, 3))},
        (2, 3),
        fingerprint={},
    )
    with store:
        for block_id in ((0, 0), (0, 1), (1, 1)):
            store.write(block_id, {"total": np.full((2, 3), sum(block_id) + 1.0)})
        store.arrays["total"][0, 0] = 7.0
        seen = []

        def counted(graph, keys, **options):
            seen.append(keys)
            return dask.get(graph, keys, **options)

        with dask.config.set(scheduler=counted):
            verify_blocks(store)
    assert len(seen) == 1
    assert store.committed() == [(0, 1), (1, 1)]
    assert store.pending() == [(0, 0), (1, 0)]
    with dask.config.set(scheduler="synchronous"):
        verify_blocks(store)
    assert store.committed() == [(0, 1), (1, 1)]


def test_a_file_is_not_read_again_for_what_is_in_memory(data, tmp_path):
    np.save(tmp_path / "a.npy", data)
    array = open_scan(tmp_path / "a.npy")["pattern"].persist()
    np.save(tmp_path / "a.npy", 0 * data)
    found = map_patterns(work, array, WIDTHS)["total"]
    np.testing.assert_array_equal(found.compute(), data.sum(axis=(2, 3)))


def test_map_positions_takes_arrays_in_any_blocks(data):
    values = xr.DataArray(data[..., 0], dims=(*SCAN, "peak"))
    kernel = functools.partial(np.sum, axis=1, keepdims=True)
    whole = map_positions(kernel, [values], 1)
    cut = map_positions(kernel, [values.chunk(scan_y=2, peak=1)], 1)
    np.testing.assert_allclose(cut, whole)


def test_map_positions_keeps_positions_apart():
    first = xr.DataArray(np.arange(12.0).reshape(3, 4), dims=SCAN)
    second = first.expand_dims(peak=2).transpose(*SCAN, "peak").chunk(scan_y=2)

    def kernel(a, b, factor):
        return np.stack([a * factor, b.sum(axis=1)], axis=-1)

    found = map_positions(kernel, [first.chunk(scan_y=2), second], 2, factor=3.0)
    assert found.dims == (*SCAN, "result")
    np.testing.assert_array_equal(found[..., 0], first * 3)
    np.testing.assert_array_equal(found[..., 1], first * 2)


class Grid(Store):
    """One block a row; each notes who made it."""

    def pending(self):
        return [(y, 0) for y in range(self.shape[0] // 2)]

    def expect_room(self, block_id):
        pass

    def write(self, block_id, values):
        PLACES[block_id] = get_worker().address


PLACES = {}


def pause(region):
    time.sleep(0.2)
    return {}


@pytest.fixture
def four():
    """Four workers of one thread with a resource, that have computed nothing yet."""
    options = {"processes": False, "dashboard_address": ":0", "resources": {"GPU": 1}}
    with (
        LocalCluster(n_workers=4, threads_per_worker=1, **options) as cluster,
        Client(cluster) as client,
    ):
        PLACES.clear()
        yield client


@pytest.mark.parametrize("resources", [{}, {"GPU": 1}])
@pytest.mark.parametrize("rows", [4, 8, 12])
def test_few_blocks_are_made_by_all_workers(four, rows, resources):
    """Nobody knows yet how long a block takes, so no worker takes it from another."""
    with dask.annotate(resources=resources):
        commit_blocks(pause, Grid((2 * rows, 3)))
    assert len(PLACES) == rows
    made = collections.Counter(PLACES.values())
    assert len(made) == 4
    assert max(made.values()) <= rows // 4 + 1


def made_here(block):
    """Take a while, and say which worker does it."""
    time.sleep(0.2)
    worker = int(get_worker().address.rpartition("/")[2])
    return {"worker": np.full(block.shape[:2], worker, np.float32)}


class Loading:
    """A function that loads something large when it is first called."""

    def __init__(self):
        self.loaded = False

    def __call__(self, block):
        loads = np.full(block.shape[:2], not self.loaded, np.float32)
        self.loaded = True
        return {"loads": loads}


def test_what_a_function_loads_is_loaded_once_in_a_process(scan, tmp_path):
    save_scan(scan[["pattern"]], tmp_path / "scan.zarr", shard=(4, 4))
    opened = open_scan(tmp_path / "scan.zarr", blocks=(4, 4))["pattern"]
    options = {"processes": False, "dashboard_address": ":0"}
    for patterns_ in (opened, opened.copy().load().chunk(scan_y=1, scan_x=1)):
        with (
            LocalCluster(n_workers=1, threads_per_worker=1, **options) as cluster,
            Client(cluster),
        ):
            found = map_patterns(Loading(), patterns_, {"loads": ()})["loads"]
            starts = [np.cumsum((0, *n[:-1])) for n in patterns_.chunks[:2]]
            assert found.compute()[np.ix_(*starts)].sum() == 1  # in one of the blocks


def test_threads_need_nothing_that_can_travel(scan):
    """Only processes do."""
    held = scan.pattern.chunk(scan_y=2)
    lock = threading.Lock()

    def locked(block):
        with lock:
            return {"total": block.sum(axis=(2, 3), dtype=np.float32)}

    found = map_patterns(locked, held, {"total": ()})["total"].compute()
    np.testing.assert_allclose(found, held.sum(("q_y", "q_x")))


@pytest.mark.parametrize("most", [2**26, 0])
def test_a_few_lazy_blocks_are_made_by_all_workers(
    most, four, scan, tmp_path, monkeypatch
):
    """All but those that share what is too large to travel with each."""
    taller = scan[["pattern"]].isel(scan_y=np.arange(16) % 6).drop_vars("scan_y")
    save_scan(taller, tmp_path / "scan.zarr", shard=(4, 4))
    opened = open_scan(tmp_path / "scan.zarr", blocks=(4, 4))
    monkeypatch.setattr(_blockwise, "MOST_SHARED", most)
    found = map_patterns(made_here, opened["pattern"], {"worker": ()})["worker"]
    made = collections.Counter(found.compute()[::4, ::4].ravel().tolist())
    assert sum(made.values()) == 8
    assert (max(made.values()) <= 3) == (most > 0)


def test_what_is_large_travels_once(four, monkeypatch):
    monkeypatch.setattr(_blockwise, "MOST_SHARED", 0)
    commit_blocks(pause, Grid((8, 3)))
    assert len(PLACES) == 4


class Elsewhere(Store):
    """A store that this machine sees and its workers do not."""

    def __reduce__(self):
        return unseen, ("/mnt/notebook/out",)


def unseen(location):
    msg = f"{location} is no store that this package wrote"
    raise StoreError(msg)


def test_a_store_that_workers_do_not_see_is_an_error_and_costs_no_worker(data):
    with LocalCluster(
        n_workers=1, threads_per_worker=1, dashboard_address=":0"
    ) as cluster, Client(cluster) as client:  # fmt: skip
        before = client.submit(os.getpid, pure=False).result()
        with pytest.raises(StoreError, match="/mnt/notebook/out is no store"):
            commit_blocks(work, Elsewhere(data.shape[:2]))
        assert client.submit(os.getpid, pure=False).result(timeout=30) == before
