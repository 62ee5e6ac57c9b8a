"""The same protocol on a real S3 server: whole blocks, one owner, nothing half-made."""

import json
import pickle
import subprocess
import sys
import uuid

import dask
import numpy as np
import obstore
import pytest
import xarray as xr
from fcunet_dask import open_scan, run, save_scan
from fcunet_dask._commit import ArraySpec, BlockStore, owner
from fcunet_dask._places import matching, place
from fcunet_dask.errors import ReaderError, StoreError
from fcunet_dask.pipeline import detect
from fcunet_dask.pipeline.survey_table import read_table

SHAPE = (5, 7, 3)
SPECS = {
    "peak": ArraySpec(
        dims=("scan_y", "scan_x", "peak"),
        shape=SHAPE,
        dtype="float32",
        chunks=(2, 2, 3),
        shards=(4, 4, 3),
    ),
}
TRUTH = np.arange(np.prod(SHAPE), dtype="float32").reshape(SHAPE)


@pytest.fixture
def url(object_store):
    return f"{object_store}/{uuid.uuid4().hex}/a.zarr"


def create(url, fingerprint=None, **options):
    return BlockStore.create(
        url, SPECS, (4, 4), fingerprint=fingerprint or {"source": "a"}, **options
    )


def fill(store, blocks=None):
    for block in store.pending() if blocks is None else blocks:
        store.write(block, {"peak": TRUTH[store.region(block)]})


def content(url):
    where = place(url)
    return {key: where.read(key) for key in where.keys("")}


def test_blocks_are_committed_and_gone_on_with(url):
    with create(url, small={"axis": (("y",), np.arange(3.0), {})}) as store:
        fill(store, [(0, 0), (1, 1)])
        copy = pickle.loads(pickle.dumps(store))
        assert copy.pending() == [(0, 1), (1, 0)]
        assert copy.has((1, 1))
        assert not copy.complete
    with create(url) as store:
        fill(store)
        store.finish({"n": 4})
    found = xr.open_zarr(place(url).zarr(), consolidated=False)
    np.testing.assert_array_equal(found["peak"], TRUTH)
    np.testing.assert_array_equal(found["axis"], np.arange(3.0))
    assert BlockStore(url).summary == {"n": 4}
    other = f"{url}-undisturbed"
    with create(other, small={"axis": (("y",), np.arange(3.0), {})}) as store:
        fill(store)
        store.finish({"n": 4})
    assert content(url) == content(other)


def test_another_run_is_refused_or_replaces(url):
    create(url).close()
    with pytest.raises(StoreError, match="source: 'a' there, 'b' now"):
        create(url, {"source": "b"})
    with create(url, {"source": "b"}, overwrite=True) as store:
        assert len(store.pending()) == 4


def test_foreign_objects_are_never_touched(url):
    place(url).write("thesis.tex", b"years of work")
    for overwrite in (False, True):
        with pytest.raises(StoreError, match="no store of this package"):
            create(url, overwrite=overwrite)
    assert place(url).read("thesis.tex") == b"years of work"


def test_one_owner_at_a_time(url):
    with create(url), pytest.raises(StoreError, match="is being written by process"):
        create(url)
    create(url).close()


def test_a_silent_owner_elsewhere_is_replaced_by_one_of_many(url, monkeypatch):
    create(url).close()
    place(url).write(owner.OWNER, json.dumps({"host": "elsewhere", "pid": 1}).encode())
    with pytest.raises(StoreError, match="elsewhere"):
        create(url)
    monkeypatch.setattr(owner, "STALE_S", -1.0)
    seen = place(url).stamp(owner.OWNER)
    assert place(url).swap(owner.OWNER, b"first", seen)
    assert not place(url).swap(owner.OWNER, b"second", seen)
    assert place(url).read(owner.OWNER) == b"first"


def test_a_store_without_conditions_is_refused(url, monkeypatch):
    put = obstore.put

    def overwrites(store, key, data, mode="overwrite"):
        return put(store, key, data)

    monkeypatch.setattr(obstore, "put", overwrites)
    with pytest.raises(StoreError, match="overwrites what it was asked to create"):
        create(url)
    assert place(url).empty()


def test_a_claim_leaves_nothing_and_is_made_again_where_it_is_gone(url):
    taken = owner.Owner.take(place(url))
    place(url).delete(owner.OWNER)
    assert taken.holds()
    assert list(place(url).keys("")) == [owner.OWNER]
    taken.release()
    assert place(url).empty()


def test_objects_of_others_in_a_store_are_never_deleted(url):
    create(url).close()
    place(url).write("raw/precious.dm4", b"months of work")
    with pytest.raises(StoreError, match=r"holds raw/precious\.dm4"):
        create(url, overwrite=True)
    assert BlockStore(url).pending()
    assert place(url).read("raw/precious.dm4") == b"months of work"


def test_a_bucket_that_is_not_there_is_named(object_store):
    with pytest.raises(StoreError, match="s3://nowhere/a"):
        create("s3://nowhere/a")


def test_damage_is_found(url):
    with create(url) as store:
        fill(store)
        store.finish()
        data = bytearray(place(url).read("peak/c/0/1/0"))
        data[9] ^= 1
        place(url).write("peak/c/0/1/0", bytes(data))
        assert [b for b in store.blocks() if not store.verify(b)] == [(0, 1)]
        assert not store.complete


# --- scans and results ---------------------------------------------------------------
@pytest.fixture
def quick(monkeypatch, probe):
    """The probe is not measured: it takes most of the time of so small a scan."""
    monkeypatch.setattr(detect, "measure_probe", lambda *a, **k: probe)


def test_a_scan_in_a_bucket_is_mapped_into_a_bucket(scan, url, tmp_path, quick):
    save_scan(scan[["pattern"]], url, shard=(4, 4))
    local = tmp_path / "scan.zarr"
    save_scan(scan[["pattern"]], local, shard=(4, 4))
    stored = open_scan(url, blocks=(4, 4))
    assert stored.attrs["source"]["path"] == url
    np.testing.assert_array_equal(stored.pattern.values, scan.pattern.values)
    out = f"{url}-strain"
    with dask.config.set(scheduler="threads", num_workers=2):
        found = run(stored, out).load()
        whole = run(open_scan(local, blocks=(4, 4)), tmp_path / "out").load()
    for name in ("bragg_q", "strain_xx", "rotation_std"):
        np.testing.assert_array_equal(found[name], whole[name])
    again = run(open_scan(local, blocks=(4, 4)), out)  # the same scan, wherever it lies
    np.testing.assert_array_equal(again["strain_yy"], whole["strain_yy"])


def test_a_damaged_scan_in_a_bucket_is_named(scan, url, quick):
    save_scan(scan[["pattern"]], url, shard=(4, 4))
    stored = open_scan(url, blocks=(4, 4))
    place(url).delete("pattern/c/0/1/0/0")
    with pytest.raises(ReaderError, match="c/0/1/0/0 is missing"):
        stored.pattern[:, 4:].values  # noqa: B018
    data = bytearray(place(url).read("pattern/c/0/0/0/0"))
    data[100] ^= 1
    place(url).write("pattern/c/0/0/0/0", bytes(data))
    with pytest.raises(ReaderError, match="damaged"):
        stored.pattern[:4, :4].values  # noqa: B018


def test_nothing_at_a_url_is_said_so(url):
    with pytest.raises(ReaderError, match="no Zarr group"):
        open_scan(url)


# --- patterns of URLs ----------------------------------------------------------------
@pytest.fixture
def folder(object_store):
    """Return the URL of a prefix with stores on two levels."""
    folder = f"{object_store}/{uuid.uuid4().hex}"
    for name in ("a1.zarr", "a2.zarr", "b.zarr", ".hidden.zarr", "deep/a3.zarr"):
        place(f"{folder}/{name}").write("zarr.json", b"{}")
    place(f"{folder}/other").write("notes.txt", b"")
    return folder


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.zarr", ["a1.zarr", "a2.zarr", "b.zarr"]),
        ("a?.zarr/", ["a1.zarr", "a2.zarr"]),
        ("a[2-9].zarr", ["a2.zarr"]),
        (".*.zarr", [".hidden.zarr"]),
        ("*/a3.zarr", ["deep/a3.zarr"]),
        ("c*.zarr", []),
        ("nowhere/*.zarr", []),
        ("a1.zarr", ["a1.zarr"]),
        ("not-there.zarr", ["not-there.zarr"]),
    ],
)
def test_patterns_of_urls_are_those_of_a_shell(folder, pattern, found):
    assert matching(f"{folder}/{pattern}") == [f"{folder}/{name}" for name in found]


def test_a_bucket_that_cannot_be_listed_is_named(object_store):
    with pytest.raises(ReaderError, match=r"s3://nowhere/\*\.zarr cannot be listed"):
        matching("s3://nowhere/*.zarr")


def surveyed(*words):
    """Type ``fcunet-dask survey``; return its exit code and what it says."""
    code = "from fcunet_dask.cli import main; main()"
    command = [sys.executable, "-c", code, "survey", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_the_scans_of_a_bucket_are_surveyed(scan, url, tmp_path):
    folder = url.rpartition("/")[0]
    for name in ("a", "b"):
        save_scan(scan[["pattern", "probe"]], f"{folder}/{name}.zarr", shard=(4, 4))
    code, said = surveyed(f"{folder}/*.zarr", str(tmp_path / "many"))
    assert code == 0, said
    rows = read_table(str(tmp_path / "many"))
    assert [row.scan for row in rows] == [f"{folder}/{n}.zarr" for n in "ab"]
    assert {row.state for row in rows} == {"done"}
    code, said = surveyed(f"{folder}/b.zarr", str(tmp_path / "one"))
    assert code == 0, said
    code, said = surveyed(f"{folder}/c*.zarr", str(tmp_path / "none"))
    assert code == 1
    assert f"no scans: there is no file, folder or store {folder}/c*.zarr" in said
