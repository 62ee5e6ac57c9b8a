"""A task reads its own block, from files that may be damaged, replaced or odd."""

import pickle
from pathlib import Path

import dask
import dask.array as da
import h5py
import numpy as np
import pytest
import zarr
from distributed import Client, LocalCluster
from fcunet_dask._source import (
    H5Source,
    NpySource,
    RawSource,
    ScanSource,
    ZarrSource,
    lazy,
    source_of,
    unread_paths,
)
from fcunet_dask.errors import ReaderError

SHAPE = (5, 7, 6, 8)
TRUTH = np.random.default_rng(0).poisson(3, SHAPE).astype("uint16")
BOX = (slice(1, 4), slice(2, 7), slice(0, 6), slice(3, 5))


def write_h5(path, values=TRUTH, **options):
    with h5py.File(path, "w") as file:
        file.create_dataset("scan/data", data=values, **options)
    return H5Source(str(path), "scan/data")


def write_zarr(path, values=TRUTH, **options):
    group = zarr.create_group(path)
    array = group.create_array(
        "pattern", shape=values.shape, dtype=values.dtype, **options
    )
    array[...] = values
    return ZarrSource(str(path), "pattern")


def write_npy(path):
    np.save(path, TRUTH)
    return NpySource(f"{path}.npy")


def write_raw(path):
    stored = np.pad(TRUTH, ((0, 0), (0, 0), (0, 2), (0, 0)), constant_values=99)
    stored.astype(">u2").tofile(path)
    return RawSource(str(path), ">u2", stored.shape, SHAPE)


SOURCES = {
    "h5": lambda p: write_h5(p, chunks=(1, 3, 6, 8), compression="gzip"),
    "zarr": lambda p: write_zarr(p, chunks=(2, 2, 6, 8), shards=(4, 4, 6, 8)),
    "npy": write_npy,
    "raw": write_raw,
}


@pytest.mark.parametrize("write", SOURCES.values(), ids=SOURCES)
def test_source_reads_boxes_and_travels_light(tmp_path, write):
    source = write(tmp_path / "scan")
    np.testing.assert_array_equal(source.read(BOX), TRUTH[BOX])
    whole = (*BOX[:2], slice(None), slice(None))
    np.testing.assert_array_equal(source.read(whole), TRUTH[whole])
    data = pickle.dumps(source)
    assert len(data) - len(source.path) < 200
    np.testing.assert_array_equal(pickle.loads(data).read(BOX), TRUTH[BOX])


@pytest.mark.parametrize("write", SOURCES.values(), ids=SOURCES)
def test_replaced_file_is_opened_anew(tmp_path, write):
    source = write(tmp_path / "scan")
    source.read(BOX)
    other = TRUTH + np.uint16(1)
    if isinstance(source, H5Source):
        write_h5(tmp_path / "other", other)
        (tmp_path / "other").replace(source.path)
    elif isinstance(source, NpySource):
        np.save(tmp_path / "other", other)
        (tmp_path / "other.npy").replace(source.path)
    elif isinstance(source, RawSource):
        stored = np.pad(other, ((0, 0), (0, 0), (0, 2), (0, 0)))
        stored.astype(">u2").tofile(source.path)
    else:
        (tmp_path / "scan").rename(tmp_path / "old")
        write_zarr(tmp_path / "scan", other, chunks=(5, 7, 6, 8))
    np.testing.assert_array_equal(source.read(BOX), other[BOX])


@pytest.mark.parametrize(
    "key",
    [
        np.s_[:],
        np.s_[2],
        np.s_[1:4, 2:7, :, 3],
        np.s_[::2, 1::3],
        np.s_[-1, -2, 2:-1],
        np.s_[4:1],
        np.s_[::-1, 3],
    ],
    ids=str,
)
def test_lazy_array_slices_as_numpy_does(tmp_path, key):
    array = lazy(write_h5(tmp_path / "a.h5"), SHAPE, TRUTH.dtype, (2, 3, 6, 8))
    found = array[key].compute(scheduler="synchronous")
    np.testing.assert_array_equal(found, TRUTH[key])


def test_lazy_array_is_one_task_a_block_without_open_files(tmp_path):
    array = lazy(write_h5(tmp_path / "a.h5"), SHAPE, TRUTH.dtype, (2, 3, 6, 8))
    (graph,) = dask.optimize(array)
    tasks = dict(graph.__dask_graph__())
    assert len(tasks) == array.npartitions == 9
    assert array.chunks[2:] == ((6,), (8,))
    assert len(pickle.dumps(array)) < 4000
    assert array.sum().compute() == TRUTH.sum()


def test_source_is_known_for_the_whole_array_only(tmp_path):
    source = write_h5(tmp_path / "a.h5")
    array = lazy(source, SHAPE, TRUTH.dtype, (2, 3, 6, 8))
    assert source_of(array) == source
    assert source_of(array[1:]) is None
    assert unread_paths(array[1:] + 1) == {source.path}
    assert source_of(array.persist(scheduler="synchronous")) is None
    assert unread_paths(array.persist(scheduler="synchronous")[1:]) == set()
    assert source_of(array + 1) is None
    assert source_of(TRUTH) is None
    assert source_of(da.ones(3)) is None


@pytest.mark.parametrize("dtype", [">u2", ">f8", "<i4", "|u1"])
def test_scan_source_gives_native_numbers(tmp_path, dtype):
    values = TRUTH.astype(dtype)
    native = "<f4" if dtype == ">f8" else np.dtype(dtype).newbyteorder("=").str
    source = ScanSource(write_h5(tmp_path / "a", values), (0, 1, 2, 3), 4, 7, native)
    found = source.read(BOX)
    assert found.dtype == np.dtype(native)
    assert found.dtype.isnative
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, TRUTH[BOX])


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((35, 6, 8), (0, 1, 2)),
        ((1, 35, 6, 8), (1, 2, 3)),
        ((5, 7, 1, 6, 8), (0, 1, 3, 4)),
        ((5, 1, 7, 6, 8), (0, 2, 3, 4)),
    ],
    ids=str,
)
@pytest.mark.parametrize("columns", [slice(0, 7), slice(2, 7)], ids=["whole", "part"])
def test_scan_source_arranges_axes(tmp_path, shape, axes, columns):
    base = write_h5(tmp_path / "a.h5", TRUTH.reshape(shape))
    source = ScanSource(base, axes, len(shape), 7, "<u2")
    box = (slice(1, 4), columns, slice(0, 6), slice(3, 5))
    np.testing.assert_array_equal(source.read(box), TRUTH[box])
    box = (slice(1, 4), columns, slice(None), slice(None))
    np.testing.assert_array_equal(source.read(box), TRUTH[box])
    assert source.path == base.path
    assert len(pickle.dumps(source)) - len(base.path) < 300


def test_scan_source_of_one_pattern(tmp_path):
    base = write_h5(tmp_path / "a.h5", TRUTH[0, 0])
    source = ScanSource(base, (0, 1), 2, 1, "<u2")
    box = (slice(0, 1), slice(0, 1), slice(0, 6), slice(3, 5))
    np.testing.assert_array_equal(source.read(box), TRUTH[:1, :1, :, 3:5])


# --- damage --------------------------------------------------------------------------
def test_missing_file_is_named(tmp_path):
    source = write_h5(tmp_path / "a.h5")
    (tmp_path / "a.h5").unlink()
    with pytest.raises(ReaderError, match=r"a\.h5: No such file.*moved"):
        source.read(BOX)


def test_truncated_hdf5_is_named(tmp_path):
    source = write_h5(tmp_path / "a.h5")
    with (tmp_path / "a.h5").open("r+b") as file:
        file.truncate(4000)
    with pytest.raises(ReaderError, match=r"a\.h5: \[1:4, .* cannot be read.*truncat"):
        source.read(BOX)


def test_short_raw_file_is_named(tmp_path):
    source = write_raw(tmp_path / "a.raw")
    with (tmp_path / "a.raw").open("r+b") as file:
        file.truncate(100)
    with pytest.raises(ReaderError, match="damaged or incomplete"):
        source.read(BOX)


CRC = {
    "compressors": [
        zarr.codecs.BloscCodec(cname="zstd", shuffle="bitshuffle"),
        zarr.codecs.Crc32cCodec(),
    ]
}


@pytest.mark.parametrize("where", [30, 200, -40, -2])
def test_flipped_bit_raises(tmp_path, where):
    options = {"chunks": (4, 4, 6, 8), "shards": (8, 8, 6, 8), **CRC}
    source = write_zarr(tmp_path / "a.zarr", **options)
    shard = tmp_path / "a.zarr" / "pattern" / "c" / "0" / "0" / "0" / "0"
    data = bytearray(shard.read_bytes())
    data[where] ^= 4
    shard.write_bytes(data)
    everything = tuple(slice(0, n) for n in SHAPE)
    with pytest.raises(ReaderError, match=r"a\.zarr: .* damaged"):
        source.read(everything)


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"")])
def test_missing_or_empty_chunk_is_no_zeros(tmp_path, damage):
    source = write_zarr(tmp_path / "a.zarr", chunks=(2, 2, 6, 8), shards=(4, 4, 6, 8))
    damage(tmp_path / "a.zarr" / "pattern" / "c" / "0" / "1" / "0" / "0")
    with pytest.raises(ReaderError, match="chunk c/0/1/0/0 is missing"):
        source.read(BOX)
    left = (slice(0, 4), slice(0, 4), *BOX[2:])
    np.testing.assert_array_equal(source.read(left), TRUTH[left])
    lenient = ZarrSource(source.path, source.name, strict=False)
    assert (lenient.read(BOX)[:, 2:] == 0).all()


# --- workers -------------------------------------------------------------------------
def test_worker_processes_open_the_file_themselves(tmp_path):
    source = write_h5(tmp_path / "a.h5", chunks=(1, 3, 6, 8), compression="gzip")
    array = lazy(source, SHAPE, TRUTH.dtype, (2, 3, 6, 8))
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=2,
            processes=True,
            dashboard_address=":0",
        ) as cluster,
        Client(cluster) as client,
    ):
        np.testing.assert_array_equal(client.compute(array).result(), TRUTH)
        boxes = [(slice(y, y + 1), *BOX[1:]) for y in range(5)]
        blocks = client.gather(client.map(source.read, boxes))
    np.testing.assert_array_equal(np.concatenate(blocks), TRUTH[:, *BOX[1:]])
