"""A loss of power leaves names of files, and nothing in them; the same command goes on."""

import shutil
import zlib

import numpy as np
import pytest
from fcunet_dask import open_scan, run, save_scan
from fcunet_dask.errors import StoreError
from fcunet_dask.pipeline import open_results


@pytest.fixture(scope="module")
def stored(scan, tmp_path_factory):
    """A scan in four blocks."""
    path = tmp_path_factory.mktemp("scan") / "scan.zarr"
    save_scan(scan, path, shard=(4, 4))
    return open_scan(path, blocks=(4, 4))


@pytest.fixture(scope="module")
def finished(stored, tmp_path_factory):
    """What an undisturbed run leaves."""
    out = tmp_path_factory.mktemp("run") / "out"
    run(stored, out)
    return out


@pytest.fixture
def out(finished, tmp_path):
    """A copy of it, to be damaged."""
    return shutil.copytree(finished, tmp_path / "out")


def content(out):
    files = {p.relative_to(out): p for p in out.rglob("*") if p.is_file()}
    return {name: zlib.crc32(p.read_bytes()) for name, p in files.items()}


def empty(out, pattern):
    (file,) = out.glob(pattern)
    file.write_bytes(b"")
    return file


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("marks/complete.json", "is not finished"),
        ("marks/zarr.json", "marks/zarr.json cannot be read"),
        ("bragg_q/zarr.json", "bragg_q/zarr.json cannot be read"),
        ("scan_y/zarr.json", "scan_y/zarr.json cannot be read"),
        ("scan_x/c/0", "scan_x/c/0 cannot be read"),
        ("analysis-*/zarr.json", "/zarr.json cannot be read"),
        ("analysis-*/marks/zarr.json", "marks/zarr.json cannot be read"),
        ("analysis-*/strain_xx/zarr.json", "strain_xx/zarr.json cannot be read"),
        ("analysis-*/basis_g1/c/0/0", "basis_g1/c/0/0 cannot be read"),
    ],
)
def test_an_empty_file_is_named_and_the_same_run_makes_it_again(
    pattern, words, stored, finished, out
):
    empty(out, pattern)
    with pytest.raises(StoreError, match=words):
        open_results(out)
    run(stored, out)
    assert content(out) == content(finished)


@pytest.mark.parametrize("name", ["probe/zarr.json", "probe/c/0/0", "mask/zarr.json"])
def test_a_probe_that_was_lost_is_named_and_a_new_run_is_asked_for(
    name, stored, finished, out
):
    """It cannot be told whether another measurement would be the one of the blocks."""
    empty(out, name)
    with pytest.raises(StoreError, match=f"{name} cannot be read"):
        open_results(out)
    with pytest.raises(StoreError, match=f"{name} cannot be read.*overwrite=True"):
        run(stored, out)
    run(stored, out, overwrite=True)
    assert content(out) == content(finished)


def test_a_description_that_was_lost_is_named(stored, finished, out):
    """Nothing says then whose the folder is: it is not deleted for anybody."""
    file = empty(out, "zarr.json")
    for act in (lambda: open_results(out), lambda: run(stored, out)):
        with pytest.raises(
            StoreError, match=r"out/zarr.json cannot be read.*another name"
        ):
            act()
    assert content(out) == content(finished) | {file.relative_to(out): 0}


def test_an_analysis_that_is_gone_is_made_again(stored, finished, out):
    (analysis,) = out.glob("analysis-*")
    shutil.rmtree(analysis)
    with pytest.raises(StoreError, match=f"{analysis.name} is missing: run again"):
        open_results(out)
    run(stored, out)
    assert content(out) == content(finished)


def test_a_kept_probe_is_the_measured_one(stored, finished, out):
    """With its axes: the map of the Bragg vectors is laid out from them."""
    with open_results(finished) as before:
        expected = before[["probe", "mask", "map_q_y"]].load()
    shutil.rmtree(next(iter(out.glob("analysis-*"))))
    after = run(stored, out)
    for name in expected:
        np.testing.assert_array_equal(after[name], expected[name])
