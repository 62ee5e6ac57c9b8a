"""The native store is whole, or is refused; an interrupted conversion goes on."""

import errno
import functools
import math
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import dask.array as da
import h5py
import numpy as np
import pytest
import xarray as xr
import zarr
from fcunet_dask._source import source_of
from fcunet_dask.calibration import Calibration
from fcunet_dask.errors import ParameterError, ReaderError, SchemaError, StoreError
from fcunet_dask.io import convert as convert_any
from fcunet_dask.io import open_scan, save_scan

SHAPE = (21, 37, 6, 8)
TRUTH = np.random.default_rng(0).poisson(0.5, SHAPE).astype("uint16")
TRUTH[:4, :4] = 0  # a chunk of zeros is written like any other
PIXELS = Calibration(q_step=0.02, scan_step=2.0, voltage=200.0)
BLOCKS = math.ceil(21 / 16) * math.ceil(37 / 16)


convert = functools.partial(convert_any, blocks=(16, 16))


@pytest.fixture
def scan_file(tmp_path):
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("counts", data=TRUTH, chunks=(1, 5, 6, 8))
    return path


def content(path):
    return {p.relative_to(path): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def stop_after(blocks):
    """Return a progress that raises as a user's Ctrl-C does."""

    def progress(done, _):
        if done == blocks:
            raise KeyboardInterrupt

    return progress


# --- what is stored ------------------------------------------------------------------
def test_store_gives_the_scan_back(tmp_path, scan_file):
    out = convert(scan_file, tmp_path / "a.zarr", calibration=PIXELS)
    scan = open_scan(out)
    np.testing.assert_array_equal(scan["pattern"], TRUTH)
    assert scan["pattern"].dtype == np.uint16
    assert source_of(scan["pattern"].data).path == str(out)
    assert Calibration.from_dict(scan.attrs["calibration"]) == PIXELS
    np.testing.assert_allclose(scan["q_x"], 0.02 * np.arange(-4, 4))
    assert scan.attrs["source"]["reader"] == "native"
    assert scan.attrs["converted_from"]["path"] == str(scan_file)
    assert scan.attrs["converted_from"]["size"] == scan_file.stat().st_size


def test_layout_streams_and_browses(tmp_path, scan_file):
    out = convert(scan_file, tmp_path / "a.zarr")
    array = zarr.open_array(out / "pattern", mode="r")
    assert array.chunks == (4, 4, 6, 8)
    assert array.shards == (16, 16, 6, 8)
    assert [type(c).__name__ for c in array.compressors] == [
        "BloscCodec",
        "Crc32cCodec",
    ]
    assert len(list((out / "pattern" / "c").glob("*/*/0/0"))) == BLOCKS


def test_wide_blocks_are_whole_files_too(tmp_path, scan_file):
    out = convert_any(scan_file, tmp_path / "a.zarr")
    assert len(list((out / "marks").glob("*/*/*.json"))) == 2
    np.testing.assert_array_equal(open_scan(out)["pattern"], TRUTH)


def test_any_zarr_reader_reads_it(tmp_path, scan_file):
    out = convert(scan_file, tmp_path / "a.zarr", calibration=PIXELS)
    scan = xr.open_zarr(out, consolidated=False, chunks=None)
    np.testing.assert_array_equal(scan["pattern"], TRUTH)
    assert scan["pattern"].dims == ("scan_y", "scan_x", "q_y", "q_x")
    np.testing.assert_allclose(scan["scan_x"], 2.0 * np.arange(37))
    assert scan["q_y"].attrs["units"] == "1/Å"


@pytest.mark.parametrize("shape", [(1, 1, 6, 8), (1, 9, 6, 8), (3, 2, 6, 8)], ids=str)
def test_small_scans_fit(tmp_path, shape):
    np.save(tmp_path / "a.npy", TRUTH.ravel()[: np.prod(shape)].reshape(shape))
    out = convert(tmp_path / "a.npy", tmp_path / "a.zarr")
    found = open_scan(out)["pattern"]
    np.testing.assert_array_equal(found, np.load(tmp_path / "a.npy"))


def test_probe_and_mask_are_kept(tmp_path):
    scan = xr.Dataset(
        {
            "pattern": (("scan_y", "scan_x", "q_y", "q_x"), TRUTH),
            "probe": (("q_y", "q_x"), np.ones((6, 8), "float32")),
            "mask": (("q_y", "q_x"), np.eye(6, 8, dtype=bool)),
        },
        attrs={"calibration": PIXELS.to_dict()},
    )
    save_scan(scan, tmp_path / "a.zarr")
    found = open_scan(tmp_path / "a.zarr")
    np.testing.assert_array_equal(found["probe"], 1)
    np.testing.assert_array_equal(found["mask"], np.eye(6, 8))
    assert found["mask"].dtype == bool
    assert Calibration.from_dict(found.attrs["calibration"]) == PIXELS


@pytest.mark.parametrize(
    "chunks", [(21, 37, 6, 8), (5, 6, 3, 4), (1, 37, 6, 8)], ids=str
)
def test_any_dask_array_is_saved(tmp_path, chunks):
    pattern = da.from_array(TRUTH.astype(">u2"), chunks=chunks)
    scan = xr.Dataset({"pattern": (("scan_y", "scan_x", "q_y", "q_x"), pattern)})
    save_scan(scan, tmp_path / "a.zarr", shard=(8, 12))
    np.testing.assert_array_equal(open_scan(tmp_path / "a.zarr")["pattern"], TRUTH)
    array = zarr.open_array(tmp_path / "a.zarr" / "pattern", mode="r")
    assert array.shards == (8, 12, 6, 8)
    assert array.dtype.isnative


def test_what_cannot_be_saved_is_refused(tmp_path):
    scan = xr.Dataset({"pattern": (("scan_y", "scan_x", "q_y", "q_x"), TRUTH)})
    with pytest.raises(ParameterError, match="multiples of 4, got"):
        save_scan(scan, tmp_path / "a.zarr", shard=(6, 6))
    with pytest.raises(SchemaError, match="has dims"):
        save_scan(scan.transpose("q_y", ...), tmp_path / "a.zarr")
    assert list(tmp_path.iterdir()) == []
    save_scan(scan, tmp_path / "a.zarr")
    with pytest.raises(StoreError, match="overwrite=True"):
        save_scan(scan, tmp_path / "a.zarr")
    save_scan(scan + 1, tmp_path / "a.zarr", overwrite=True)
    np.testing.assert_array_equal(open_scan(tmp_path / "a.zarr")["pattern"], TRUTH + 1)


# --- interruption --------------------------------------------------------------------
def test_progress_counts_to_the_end(tmp_path, scan_file):
    steps = []
    convert(scan_file, tmp_path / "a.zarr", progress=lambda *s: steps.append(s))
    assert steps == [(i + 1, 2 * BLOCKS) for i in range(2 * BLOCKS)]


def test_interrupted_conversion_is_refused_and_goes_on(tmp_path, scan_file):
    out = tmp_path / "a.zarr"
    with pytest.raises(KeyboardInterrupt):
        convert(scan_file, out, progress=stop_after(2))
    with pytest.raises(ReaderError, match=rf"[1-4] of {BLOCKS} blocks .* go on"):
        open_scan(out)
    steps = []
    convert(scan_file, out, progress=lambda *s: steps.append(s))
    assert 2 * BLOCKS - 4 <= len(steps) <= 2 * BLOCKS - 2
    convert(scan_file, tmp_path / "b.zarr")
    assert content(out) == content(tmp_path / "b.zarr")
    before = (out / "zarr.json").stat().st_mtime_ns
    convert(scan_file, out, progress=stop_after(1))
    assert (out / "zarr.json").stat().st_mtime_ns == before


def test_interrupted_verification_is_not_taken_for_whole(tmp_path, scan_file):
    out = tmp_path / "a.zarr"
    with pytest.raises(KeyboardInterrupt):
        convert(scan_file, out, progress=stop_after(BLOCKS + 1))
    with pytest.raises(ReaderError, match="not written to the end"):
        open_scan(out)
    convert(scan_file, out)
    np.testing.assert_array_equal(open_scan(out)["pattern"], TRUTH)


def test_killed_process_loses_nothing_finished(tmp_path, scan_file):
    out = tmp_path / "a.zarr"
    code = f"""
        import time
        from fcunet_dask.io import convert
        def progress(done, total):
            print(done, flush=True)
            time.sleep(60 if done == 3 else 0)
        options = {{"progress": progress, "blocks": (16, 16)}}
        convert({str(scan_file)!r}, {str(out)!r}, **options)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
    ) as process:
        while process.stdout.readline().strip() != "3":
            pass
        with pytest.raises(StoreError, match=f"by process {process.pid}"):
            convert(scan_file, out)
        process.send_signal(signal.SIGKILL)
    with pytest.raises(ReaderError, match="run the same conversion again"):
        open_scan(out)
    convert(scan_file, out)
    convert(scan_file, tmp_path / "b.zarr")
    assert content(out) == content(tmp_path / "b.zarr")


def test_changed_source_is_not_mixed_in(tmp_path, scan_file):
    out = tmp_path / "a.zarr"
    with pytest.raises(KeyboardInterrupt):
        convert(scan_file, out, progress=stop_after(2))
    os.utime(scan_file, (0, time.time() + 100))
    with pytest.raises(StoreError, match=r"source\.mtime_ns: \d+ there, \d+ now"):
        convert(scan_file, out)
    with pytest.raises(StoreError, match=r"calibration\.q_step: None there, 0\.02 now"):
        convert(scan_file, out, calibration=PIXELS)
    convert(scan_file, out, overwrite=True)
    np.testing.assert_array_equal(open_scan(out)["pattern"], TRUTH)


def test_moved_source_is_the_same(tmp_path, scan_file):
    out = tmp_path / "a.zarr"
    with pytest.raises(KeyboardInterrupt):
        convert(scan_file, out, progress=stop_after(2))
    (tmp_path / "elsewhere").mkdir()
    moved = shutil.move(scan_file, tmp_path / "elsewhere")
    convert(moved, out)
    np.testing.assert_array_equal(open_scan(out)["pattern"], TRUTH)


def test_damage_during_conversion_is_mended(tmp_path, scan_file):
    out = tmp_path / "a.zarr"
    shard = out / "pattern" / "c" / "0" / "1" / "0" / "0"
    steps = []

    def progress(done, _):
        steps.append(done)
        if len(steps) == BLOCKS:
            data = bytearray(shard.read_bytes())
            data[len(data) // 3] ^= 1
            shard.write_bytes(data)

    convert(scan_file, out, progress=progress)
    assert len(steps) == 3 * BLOCKS + 1
    np.testing.assert_array_equal(open_scan(out)["pattern"], TRUTH)


def test_chunks_of_zeros_are_written(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((16, 32, 6, 8), "uint8"))
    out = convert(tmp_path / "a.npy", tmp_path / "a.zarr")
    assert shard_of(out).exists()
    np.testing.assert_array_equal(open_scan(out)["pattern"], 0)
    shard_of(out).unlink()
    with pytest.raises(ReaderError, match="missing"):
        open_scan(out)["pattern"].compute()


def test_full_disk_is_named_and_gone_on_with(tmp_path, scan_file, monkeypatch):
    out = tmp_path / "a.zarr"
    convert(scan_file, tmp_path / "whole.zarr")
    put, calls = zarr.storage._local._put, []

    def filling_up(path, value, **options):
        calls.append(path)
        if len([c for c in calls if "pattern/c/" in str(c)]) > 2:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return put(path, value, **options)

    with monkeypatch.context() as patch:
        patch.setattr("zarr.storage._local._put", filling_up)
        with pytest.raises(StoreError, match=r"a\.zarr: the disk is full: .* bytes"):
            convert(scan_file, out)
    with pytest.raises(ReaderError, match="blocks are missing"):
        open_scan(out)
    convert(scan_file, out)
    assert content(out) == content(tmp_path / "whole.zarr")


# --- the output that is there --------------------------------------------------------
def test_existing_outputs_are_safe(tmp_path, scan_file):
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "chapter.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(StoreError, match="no store of this package"):
            convert(scan_file, thesis, overwrite=overwrite)
        with pytest.raises(StoreError, match="is the source itself"):
            convert(scan_file, scan_file, overwrite=overwrite)
    assert (thesis / "chapter.tex").exists()
    out = convert(scan_file, tmp_path / "a.zarr")
    with pytest.raises(StoreError, match="overwrite=True"):
        convert(scan_file, out, resume=False)


def test_a_part_of_a_scan_is_not_written_over_the_scan(tmp_path, scan_file):
    out = convert(scan_file, tmp_path / "a.zarr")
    (tmp_path / "link").symlink_to(out)
    before = content(out)
    part = open_scan(out).isel(scan_y=slice(0, 2))
    for target in (out, tmp_path / "link"):
        with pytest.raises(StoreError, match="is the source itself"):
            save_scan(part, target, overwrite=True)
    assert content(out) == before
    kept = part.load()
    save_scan(kept, out, overwrite=True)
    np.testing.assert_array_equal(open_scan(out)["pattern"], kept["pattern"])


def test_output_that_cannot_be_made_is_named(tmp_path, scan_file):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file"):
        convert(scan_file, tmp_path / "file" / "a.zarr")


# --- damage afterwards ---------------------------------------------------------------
def shard_of(out):
    return out / "pattern" / "c" / "0" / "0" / "0" / "0"


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped"])
def test_damaged_store_never_gives_numbers(tmp_path, scan_file, damage):
    out = convert(scan_file, tmp_path / "a.zarr")
    shard = shard_of(out)
    data = bytearray(shard.read_bytes())
    if damage == "missing":
        shard.unlink()
    elif damage == "cut":
        shard.write_bytes(data[: len(data) // 2])
    else:
        data[len(data) // 2] ^= 1
        shard.write_bytes(data)
    scan = open_scan(out, blocks=(16, 16))
    with pytest.raises(ReaderError, match=r"a\.zarr.* damaged"):
        scan["pattern"][:16, :16].compute()
    right = scan["pattern"][:, 16:].values
    np.testing.assert_array_equal(right, TRUTH[:, 16:])


def flipped(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("pattern/c/0/0/0/0", None),
        ("pattern/c/0/0/0/0", flipped),
        ("pattern/c/0/1/0/0", lambda _: b""),
        ("pattern/zarr.json", lambda _: b""),
        ("q_x/c/0", lambda _: b""),
        ("scan_y/zarr.json", lambda _: b""),
        ("marks/complete.json", lambda _: b""),
    ],
)
def test_the_same_conversion_mends_a_damaged_store(tmp_path, scan_file, name, harm):
    out = convert(scan_file, tmp_path / "a.zarr", calibration=PIXELS)
    before = content(out)
    data = (out / name).read_bytes()
    (out / name).unlink() if harm is None else (out / name).write_bytes(harm(data))
    with pytest.raises(ReaderError, match=r"damaged|not written to the end"):
        open_scan(out, blocks=(16, 16))["pattern"].compute()
    convert(scan_file, out, calibration=PIXELS)
    assert content(out) == before


# --- memory --------------------------------------------------------------------------
@pytest.mark.slow
def test_memory_does_not_grow_with_the_scan(tmp_path):
    peaks = []
    for rows in (64, 256):
        path = tmp_path / f"{rows}.npy"
        shape = (rows, 64, 256, 256)
        header = {"descr": "<u2", "fortran_order": False, "shape": shape}
        with path.open("wb") as file:  # a sparse file: zeros that take no room
            np.lib.format.write_array_header_1_0(file, header)
            file.truncate(file.tell() + 2 * math.prod(shape))
        code = f"""
            import re
            from pathlib import Path
            from fcunet_dask.io import convert
            convert({str(path)!r}, {str(tmp_path / f"{rows}.zarr")!r})
            status = Path("/proc/self/status").read_text()
            print(int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) // 1024)
        """
        run = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            capture_output=True,
            text=True,
            check=True,
        )
        peaks.append(int(run.stdout))
    assert max(peaks) < 700  # MiB; the scans are 512 and 2048
    assert peaks[1] < peaks[0] + 64
