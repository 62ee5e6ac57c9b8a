"""A store is whole, or says what is missing; two runs never mix."""

import errno
import json
import os
import pickle
import resource
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from fcunet_dask._commit import ArraySpec, BlockStore, checksum, owner
from fcunet_dask._commit.files import write_json
from fcunet_dask._commit.owner import STALE_S
from fcunet_dask._places import FolderPlace
from fcunet_dask.errors import StoreError

SHAPE = (9, 13, 3)
SPECS = {
    "peak": ArraySpec(
        dims=("scan_y", "scan_x", "peak"),
        shape=SHAPE,
        dtype="float32",
        chunks=(2, 2, 3),
        shards=(4, 4, 3),
        fill_value=float("nan"),
        attrs={"units": "1/Å"},
    ),
    "status": ArraySpec(
        dims=("scan_y", "scan_x"), shape=SHAPE[:2], dtype="uint8", chunks=(4, 4)
    ),
}
TRUTH = {
    "peak": np.arange(np.prod(SHAPE), dtype="float32").reshape(SHAPE),
    "status": np.zeros(SHAPE[:2], "uint8"),
}
PARAMETERS = {"detector": {"name": "echo", "threshold": 0.5}, "source": "a.h5"}


def create(path, parameters=PARAMETERS, **options):
    return BlockStore.create(path, SPECS, (4, 4), fingerprint=parameters, **options)


def fill(store, blocks=None):
    for block in store.pending() if blocks is None else blocks:
        region = store.region(block)
        store.write(block, {n: v[region] for n, v in TRUTH.items()}, {"n": 1})


def content(path):
    return {p.relative_to(path): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_blocks_tile_the_scan(tmp_path):
    with create(tmp_path / "a.zarr") as store:
        covered = np.zeros(SHAPE[:2], int)
        for block in store.blocks():
            covered[store.region(block)] += 1
        assert store.grid == (3, 4)
        assert (covered == 1).all()
        assert store.pending() == list(store.blocks())


def test_filled_store_reads_in_xarray(tmp_path):
    with create(tmp_path / "a.zarr", attrs={"title": "t"}) as store:
        fill(store)
        store.put("probe", ("q_y",), np.arange(5.0), {"units": "counts"})
        store.finish()
        assert store.complete
        assert store.mark((2, 3))["summary"] == {"n": 1}
    found = xr.open_zarr(tmp_path / "a.zarr", consolidated=False)
    np.testing.assert_array_equal(found["peak"], TRUTH["peak"])
    np.testing.assert_array_equal(found["status"], 0)
    np.testing.assert_array_equal(found["probe"], np.arange(5.0))
    assert found["peak"].dims == ("scan_y", "scan_x", "peak")
    assert found["peak"].attrs["units"] == "1/Å"
    assert found.attrs["title"] == "t"


def test_unwritten_blocks_are_fill(tmp_path):
    with create(tmp_path / "a.zarr") as store:
        fill(store, [(0, 0)])
        assert np.isnan(store.read("peak", (1, 1))).all()
        assert len(store.pending()) == 11
        with pytest.raises(StoreError, match="11 blocks are missing"):
            store.finish()
        assert not store.complete


def test_interrupted_run_ends_bit_identical(tmp_path):
    with create(tmp_path / "whole.zarr") as store:
        fill(store)
        store.finish()
    with create(tmp_path / "broken.zarr") as store:
        fill(store, [(0, 0), (1, 2)])
    scratch = f"c.{uuid.uuid4().hex}.partial"
    (tmp_path / "broken.zarr" / "peak" / scratch).write_bytes(b"half")
    with create(tmp_path / "broken.zarr") as store:
        assert (1, 2) not in store.pending()
        fill(store)
        store.finish()
    assert content(tmp_path / "broken.zarr") == content(tmp_path / "whole.zarr")


def test_other_parameters_are_named(tmp_path):
    create(tmp_path / "a.zarr").close()
    other = {"detector": {"name": "echo", "threshold": 0.7}, "source": "a.h5"}
    with pytest.raises(StoreError, match=r"detector.threshold: 0.5 there, 0.7 now"):
        create(tmp_path / "a.zarr", other)
    with pytest.raises(StoreError, match="overwrite=True"):
        create(tmp_path / "a.zarr", resume=False)


def test_overwrite_starts_anew(tmp_path):
    with create(tmp_path / "a.zarr") as store:
        fill(store)
    with create(tmp_path / "a.zarr", {"other": 1}, overwrite=True) as store:
        assert len(store.pending()) == 12
        assert store.fingerprint == {"other": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.zarr"]


def test_tasks_of_a_run_that_was_replaced_write_nothing(tmp_path):
    """A task may outlive its run, on a cluster that goes on."""
    with create(tmp_path / "a.zarr") as first:
        late = pickle.loads(pickle.dumps(first))
        fill(late, [(0, 0)])
    with create(tmp_path / "a.zarr", {"other": 1}, overwrite=True) as second:
        with pytest.raises(StoreError, match="another run has replaced this store"):
            fill(late, [(0, 1)])
        with pytest.raises(StoreError, match="another run has replaced this store"):
            pickle.loads(pickle.dumps(late))
        assert len(second.pending()) == 12
        # and a mark that was on its way says nothing of the new store
        write_json(second.place, late._mark((1, 1)), {"checksums": {}, "summary": {}})
        assert len(second.pending()) == 12
        assert not second.has((1, 1))


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("trouble", ["cut", "too many open files"])
def test_a_store_that_cannot_be_read_is_not_taken_for_none(
    tmp_path, monkeypatch, trouble, overwrite
):
    with create(tmp_path / "a.zarr") as store:
        fill(store, [(0, 0), (0, 1)])
    whole = (tmp_path / "a.zarr" / "zarr.json").read_bytes()
    if trouble == "cut":
        (tmp_path / "a.zarr" / "zarr.json").write_bytes(whole[:20])
    else:
        monkeypatch.setattr(FolderPlace, "read", too_many)
    with pytest.raises(StoreError, match=r"zarr\.json cannot be read"):
        create(tmp_path / "a.zarr", overwrite=overwrite)
    monkeypatch.undo()
    (tmp_path / "a.zarr" / "zarr.json").write_bytes(whole)
    with create(tmp_path / "a.zarr") as store:
        assert len(store.pending()) == 10


def too_many(self, key):
    raise OSError(errno.EMFILE, "Too many open files", key)


@pytest.mark.parametrize("overwrite", [False, True])
def test_foreign_things_are_never_touched(tmp_path, overwrite):
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter.tex").write_text("years of work")
    file = tmp_path / "scan.h5"
    file.write_text("raw")
    zarr.create_group(tmp_path / "foreign.zarr")
    for path in (folder, file, tmp_path / "foreign.zarr"):
        with pytest.raises(StoreError, match="no store of this package"):
            create(path, overwrite=overwrite)
    assert (folder / "chapter.tex").read_text() == "years of work"
    assert file.read_text() == "raw"


@pytest.mark.parametrize("state", ["being made", "whole"])
@pytest.mark.parametrize(
    "foreign", ["raw/precious.dm4", "peak/notes.txt", "mine", "bare"]
)
def test_files_of_others_in_a_store_are_never_deleted(tmp_path, state, foreign):
    path = tmp_path / "a.zarr"
    with create(path) as store:
        fill(store, [(0, 0)])
    (path / foreign).parent.mkdir(exist_ok=True)
    if foreign in ("mine", "bare"):
        how = {"compressors": None} if foreign == "bare" else {}
        zarr.create_array(path / foreign, data=np.arange(3.0), **how)
    else:
        (path / foreign).write_bytes(b"months of work")
    if state == "being made":
        leave_half_made(path)
    before = content(path)
    with pytest.raises(
        StoreError, match=f"holds {foreign}.*did not write: nothing was"
    ):
        create(path, {"other": 1}, overwrite=state == "whole")
    assert content(path) == before


def test_what_others_half_wrote_is_not_deleted(tmp_path):
    create(tmp_path / "a.zarr").close()
    download = tmp_path / "a.zarr" / "scan.dm4.partial"
    download.write_bytes(b"months of work")
    create(tmp_path / "a.zarr").close()
    create(tmp_path / "a.zarr", overwrite=True).close()
    assert download.read_bytes() == b"months of work"


def test_overwriting_deletes_all_that_the_package_wrote(tmp_path):
    path, fresh = tmp_path / "a.zarr", tmp_path / "fresh.zarr"
    with create(path, small={"axis": (("y",), np.arange(3.0), {})}) as store:
        store.put("probe", ("q_y", "q_x"), np.ones((5, 5)))
        store.put("number", (), np.float64(2.5))
        fill(store)
        with create(path / "analysis-0123abcd") as analysis:
            fill(analysis)
            analysis.finish()
        store.finish()
    create(path, {"other": 1}, overwrite=True).close()
    create(fresh, {"other": 1}).close()
    names = [{p.relative_to(a) for p in a.rglob("*")} for a in (path, fresh)]
    assert names[0] == names[1]


@pytest.mark.parametrize("kept", range(6))
def test_overwriting_that_was_killed_is_gone_on_with(tmp_path, monkeypatch, kept):
    """Six files besides the claim: an array put later is known by its description."""
    path = tmp_path / "a.zarr"
    with create(path) as store:
        store.put("probe", ("q_y",), np.arange(5.0))
    left, delete = iter(range(kept)), FolderPlace.delete

    def killed(self, key):
        if next(left, None) is None:
            raise KeyboardInterrupt
        delete(self, key)

    with monkeypatch.context() as patch:
        patch.setattr(FolderPlace, "delete", killed)
        with pytest.raises(KeyboardInterrupt):
            create(path, {"other": 1}, overwrite=True)
    (path / "marks" / "owner.json").write_text(json.dumps(dead_owner()))
    with create(path, {"another": 1}, overwrite=True) as store:
        assert not (path / "probe").exists()
        assert len(store.pending()) == 12


def test_one_owner_at_a_time(tmp_path):
    path = tmp_path / "a.zarr"
    with (
        create(path),
        pytest.raises(StoreError, match=f"by process {os.getpid()}"),
    ):
        create(path)
    create(path).close()


def test_dead_owner_is_replaced(tmp_path):
    path = tmp_path / "a.zarr"
    create(path).close()
    file = path / "marks" / "owner.json"
    file.write_text(json.dumps(dead_owner()))
    create(path).close()
    in_a_container = {**dead_owner(), "pid_namespace": 1}
    file.write_text(json.dumps(in_a_container))
    with pytest.raises(StoreError, match="being written"):
        create(path)
    file.write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    with pytest.raises(StoreError, match="elsewhere"):
        create(path)
    os.utime(file, (0, file.stat().st_mtime - STALE_S - 1))
    create(path).close()
    file.write_text("")  # torn by a full disk, and young
    with pytest.raises(StoreError, match="being written"):
        create(path)
    file.unlink()


def test_full_disk_leaves_no_owner(tmp_path):
    path = tmp_path / "a.zarr"
    create(path).close()

    with file_size_limit(10), pytest.raises(StoreError, match="the disk is full"):
        create(path)
    assert not (path / "marks" / "owner.json").exists()
    create(path).close()


@contextmanager
def file_size_limit(size):
    """No file of this process grows beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_full_disk_leaves_no_half_made_store(tmp_path):
    path = tmp_path / "a.zarr"
    with file_size_limit(1000), pytest.raises(StoreError, match="the disk is full"):
        create(path, {"words": "w" * 2000})
    with create(path) as store:  # what was left is no hindrance
        fill(store)
        store.finish()


def test_a_store_that_was_being_made_is_made_anew(tmp_path):
    path = tmp_path / "a.zarr"
    create(path).close()
    leave_half_made(path)
    (path / "peak" / "c").mkdir()
    (path / "peak" / "c" / "0").write_text("of something else")
    with pytest.raises(StoreError, match="no store that this package wrote"):
        BlockStore(path)
    with create(path, {"other": 1}) as store:
        assert len(store.pending()) == 12
        assert not (path / "peak" / "c" / "0").exists()


def test_who_lost_the_store_cannot_declare_it_whole(tmp_path):
    path = tmp_path / "a.zarr"
    store = create(path)
    fill(store)
    (path / "marks" / "owner.json").unlink()
    with create(path) as other:
        with pytest.raises(StoreError, match="another process took this store over"):
            store.finish()
        store.close()
        other.finish()
    assert BlockStore(path).complete


def leave_half_made(path):
    """Leave a store as a killed process would: the description comes last."""
    (path / "zarr.json").unlink()
    (path / "marks" / "owner.json").write_text(json.dumps(dead_owner()))


def dead_owner():
    """Words of the claim of a process of this machine that is no more."""
    return {
        "host": os.uname().nodename,
        "pid_namespace": Path("/proc/self/ns/pid").stat().st_ino,
        "pid": dead_process(),
        "claim": "x",
    }


def dead_process():
    """Return the number of a process that has ended."""
    done = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def test_owner_shows_that_it_lives(tmp_path, monkeypatch):
    monkeypatch.setattr(owner, "HEARTBEAT_S", 0.01)
    with create(tmp_path / "a.zarr"):
        file = tmp_path / "a.zarr" / "marks" / "owner.json"
        os.utime(file, (0, 0))
        end = time.monotonic() + 10
        while file.stat().st_mtime == 0 and time.monotonic() < end:
            time.sleep(0.01)
        assert file.stat().st_mtime > 0
    assert not file.exists()


def test_copy_in_a_worker_writes_to_the_same_place(tmp_path):
    with create(tmp_path / "a.zarr") as store:
        data = pickle.dumps(store)
        assert len(data) < 300
        fill(pickle.loads(data))
        assert store.pending() == []


def test_damage_is_found_and_done_again(tmp_path):
    path = tmp_path / "a.zarr"
    with create(path) as store:
        fill(store)
        store.finish()
        shard = path / "peak" / "c" / "1" / "1" / "0"
        data = bytearray(shard.read_bytes())
        data[20] ^= 1
        shard.write_bytes(data)
        assert [b for b in store.blocks() if not store.verify(b)] == [(1, 1)]
        assert store.pending() == [(1, 1)]
        assert not store.complete


def test_torn_last_block_is_written_anew(tmp_path):
    with create(tmp_path / "a.zarr") as store:
        fill(store)
        before = content(tmp_path / "a.zarr")
        for index in ("2/3/0", "0/0/0"):
            shard = tmp_path / "a.zarr" / "peak" / "c" / index
            shard.write_bytes(shard.read_bytes()[:20])
        damaged = [b for b in store.blocks() if not store.verify(b)]
        assert damaged == [(0, 0), (2, 3)]
        fill(store)
        fill(store, damaged)
        assert content(tmp_path / "a.zarr") == before


@pytest.mark.parametrize(
    "values",
    [
        {"status": TRUTH["status"][:4, :4]},
        {"peak": TRUTH["peak"][:3, :4], "status": TRUTH["status"][:4, :4]},
        {"peak": TRUTH["peak"][:4, :4].astype(int), "status": TRUTH["status"][:4, :4]},
    ],
    ids=["missing", "shape", "dtype"],
)
def test_wrong_blocks_are_refused_before_writing(tmp_path, values):
    with create(tmp_path / "a.zarr") as store:
        with pytest.raises(StoreError, match=r"peak: a block must be \(4, 4, 3\)"):
            store.write((0, 0), values)
        assert len(store.pending()) == 12


def test_what_is_no_store_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(StoreError, match="no store that this package wrote"):
            BlockStore(path)


def test_arrays_are_over_one_scan(tmp_path):
    other = ArraySpec(dims=("y", "x"), shape=(3, 3), dtype="uint8", chunks=(3, 3))
    with pytest.raises(StoreError, match="over one scan"):
        BlockStore.create(
            tmp_path / "a", {**SPECS, "other": other}, (4, 4), fingerprint={}
        )


def test_files_hold_whole_results(tmp_path):
    split = ArraySpec(
        dims=("scan_y", "scan_x", "peak"), shape=SHAPE, dtype="uint8", chunks=(4, 4, 1)
    )
    with pytest.raises(StoreError, match="split"):
        BlockStore.create(tmp_path / "a", {"peak": split}, (4, 4), fingerprint={})


def test_small_arrays_are_replaced(tmp_path):
    with create(tmp_path / "a.zarr") as store:
        store.put("map", ("y",), np.arange(3))
        store.put("map", ("y",), np.arange(4.0))
        store.put("number", (), np.float64(2.5))
    found = xr.open_zarr(tmp_path / "a.zarr", consolidated=False)
    np.testing.assert_array_equal(found["map"], np.arange(4.0))
    assert found["number"] == 2.5


def test_blocks_must_own_whole_files(tmp_path):
    with pytest.raises(StoreError, match="do not fit blocks of 6"):
        BlockStore.create(tmp_path / "a.zarr", SPECS, (6, 6), fingerprint={})


def test_full_disk_keeps_what_is_done(tmp_path, monkeypatch):
    path = tmp_path / "a.zarr"
    with create(path) as store:
        fill(store, [(0, 0)])
        with monkeypatch.context() as patch:

            def full(*_, **__):
                raise OSError(errno.ENOSPC, "No space left on device")

            patch.setattr("zarr.storage._local._put", full)
            with pytest.raises(StoreError, match=r"a\.zarr: the disk is full: up to"):
                fill(store, [(0, 1)])
        assert len(store.pending()) == 11
        fill(store)
        store.finish()
    found = xr.open_zarr(path, consolidated=False)
    np.testing.assert_array_equal(found["peak"], TRUTH["peak"])


def test_a_block_without_room_is_refused_before_any_work(tmp_path, monkeypatch):
    """A whole block here has 16 positions of 3 float32 and a uint8: 208 bytes."""
    with create(tmp_path / "a.zarr") as store:
        monkeypatch.setattr(FolderPlace, "free_bytes", lambda self: 207)
        with pytest.raises(StoreError, match=r"full: up to 208 bytes.* 207 are free"):
            store.expect_room((0, 0))
        store.expect_room((2, 3))  # one position of the corner
        monkeypatch.setattr(FolderPlace, "free_bytes", lambda self: 208)
        store.expect_room((0, 0))
        monkeypatch.setattr(FolderPlace, "free_bytes", lambda self: None)
        store.expect_room((0, 0))  # object stores do not say


def test_checksum_depends_on_values_alone():
    block = np.arange(24, dtype="uint16").reshape(4, 6)
    assert checksum(block.T) == checksum(np.ascontiguousarray(block.T))
    assert checksum(block) != checksum(block + np.uint16(1))
