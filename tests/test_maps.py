"""The second pass: block by block, one analysis at a time, whole or not at all."""

import pickle
import shutil
import sys

import dask
import numpy as np
import pytest
import xarray as xr
from fcunet_dask import (
    apply_calibration,
    bragg_vector_map,
    compute_strain,
    find_bragg_vectors,
    find_lattice,
    fit_lattice,
    load_detector,
    measure_origin,
    open_scan,
    reference_lattice,
    run,
    save_scan,
)
from fcunet_dask._commit import BlockStore
from fcunet_dask.errors import StoreError
from fcunet_dask.pipeline import detect, maps, open_results
from fcunet_dask.pipeline.analyze import analyze
from fcunet_dask.pipeline.maps import analysis_block

OTHER = (slice(None), slice(0, 2))
MAPS = ("g1", "origin", "beam", "lattice_covariance", "strain_xx", "rotation_std")


@pytest.fixture(scope="module")
def path(scan, tmp_path_factory):
    path = tmp_path_factory.mktemp("scan") / "scan.zarr"
    save_scan(scan[["pattern"]], path, shard=(4, 4))
    return path


@pytest.fixture
def stored(path):
    """The scan from the store, in four blocks."""
    return open_scan(path, blocks=(4, 4))


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch, probe):
    """Blocks of the second pass are two of the first, of which there are four."""
    monkeypatch.setattr(maps, "POSITIONS", 32)
    # it takes most of the time of so small a run
    monkeypatch.setattr(detect, "measure_probe", lambda *a, **k: probe)


def content(path):
    return {p.relative_to(path): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def same(a, b, names=MAPS):
    for name in names:
        np.testing.assert_array_equal(a[name].values, b[name].values, err_msg=name)


@pytest.mark.parametrize(
    ("block", "shape", "expected"),
    [
        ((16, 16), (512, 512), (64, 64)),
        ((16, 16), (16, 100), (16, 128)),
        ((100, 100), (1000, 1000), (100, 100)),
        ((1, 64), (4096, 64), (64, 64)),
        ((8, 8), (8, 8), (8, 8)),
    ],
)
def test_blocks_of_the_second_pass_are_whole_blocks_of_the_first(
    block, shape, expected, monkeypatch
):
    monkeypatch.setattr(maps, "POSITIONS", 4096)
    assert analysis_block(block, shape) == expected


def test_maps_are_those_of_the_stages_one_by_one(stored, tmp_path):
    out = run(stored, tmp_path / "out", reference=(slice(None), slice(0, 3)))
    scan = stored
    values = out.attrs["provenance"]["probe"]
    probe = out[["probe", "mask"]].assign_attrs(values).load()
    bragg = find_bragg_vectors(scan, load_detector("template", probe)).compute()
    bragg = apply_calibration(bragg, origin=measure_origin(bragg))
    spots = bragg_vector_map(bragg, step=0.01, extent=2 * 0.02 * 112 * 0.355)
    lattice = fit_lattice(bragg, find_lattice(spots, radius=4.2 * 0.02))
    reference = reference_lattice(lattice, region=(slice(None), slice(0, 3)))
    strain = compute_strain(lattice, reference)
    for name in ("strain_xx", "strain_xy", "rotation", "strain_yy_std"):
        np.testing.assert_allclose(out[name], strain[name], atol=2e-7)
    np.testing.assert_allclose(out["g1"], lattice["g1"], atol=1e-7)
    assert out["lattice_status"].dtype == np.uint8


def test_a_large_scan_is_sampled_and_gives_the_same(stored, tmp_path, monkeypatch):
    whole = run(stored, tmp_path / "a", reference=(slice(0, 6), slice(0, 4))).load()
    monkeypatch.setattr(sys.modules[analyze.__module__], "SAMPLE", 16)
    part = run(stored, tmp_path / "b", reference=(slice(0, 6), slice(0, 4))).load()
    assert part.attrs["provenance"]["reference"]["positions"][0] < 24
    beam = abs(part["beam"] - whole["beam"]).max()
    assert float(beam) < 0.2 * 0.02  # a fifth of a pixel: it is a fit to a third of all
    np.testing.assert_allclose(part["strain_xx"], whole["strain_xx"], atol=1e-3)
    np.testing.assert_array_equal(part["bragg_q"], whole["bragg_q"])


def test_lazy_and_stored_analyses_agree(stored, tmp_path):
    out = run(stored, tmp_path / "out")
    names = ["bragg_q", "bragg_covariance", "bragg_intensity"]
    bragg = out[names].assign_coords(scan_y=out.scan_y, scan_x=out.scan_x)
    probe = out[["probe", "mask"]].assign_attrs(out.attrs["provenance"]["probe"])
    found, choices = analyze(bragg, probe, maps.Settings())
    assert choices["basis"] == out.attrs["provenance"]["basis"]
    np.testing.assert_allclose(found["strain_xx"], out["strain_xx"], atol=1e-9)


def test_workers_write_and_nothing_large_comes_back(stored, tmp_path):
    come_back = []

    def watched(graph, keys, **options):
        found = dask.get(graph, keys, **options)
        come_back.append(len(pickle.dumps(found)))
        return found

    run(stored, tmp_path / "out")
    with dask.config.set(scheduler=watched):
        run(stored, tmp_path / "out", reference=OTHER)
    store = BlockStore(tmp_path / "out")
    analysis = BlockStore(tmp_path / "out" / store.summary["analysis"])
    assert analysis.grid == (2, 1)
    assert come_back[-1] < 100  # the pass that fits and writes returns a number


# --- one analysis at a time ----------------------------------------------------------
class PowerError(RuntimeError):
    """The power went out."""


def interrupt(monkeypatch, after):
    """Let the second pass fail at its block number `after`."""
    real, calls = maps.analyze_block, []

    def stops(*args, **options):
        calls.append(args)
        if len(calls) > after:
            raise PowerError
        return real(*args, **options)

    monkeypatch.setattr(maps, "analyze_block", stops)
    return calls


def test_an_interrupted_reanalysis_leaves_the_old_results_whole(
    stored, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    first = run(stored, out).load()
    reader = open_results(out)
    undisturbed = run(stored, tmp_path / "b", reference=OTHER).load()
    with dask.config.set(scheduler="synchronous"):
        with monkeypatch.context() as patch:
            interrupt(patch, after=1)
            with pytest.raises(PowerError):
                run(stored, out, reference=OTHER)
        same(open_results(out), first)
        calls = interrupt(monkeypatch, after=99)
        second = run(stored, out, reference=OTHER)
    assert len(calls) == 1  # of two blocks: the other was there
    same(second, undisturbed)
    same(reader, first)  # who had it open still reads what it opened


def test_the_end_is_bit_identical_whatever_happened(stored, tmp_path, monkeypatch):
    run(stored, tmp_path / "a")
    with dask.config.set(scheduler="synchronous"):
        with monkeypatch.context() as patch:
            interrupt(patch, after=1)
            with pytest.raises(PowerError):
                run(stored, tmp_path / "b")
        with pytest.raises(StoreError, match="is not finished"):
            open_results(tmp_path / "b")
        run(stored, tmp_path / "b")
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_other_chunks_are_another_analysis(stored, tmp_path, monkeypatch):
    first = run(stored, tmp_path / "out").load()
    monkeypatch.setattr(maps, "POSITIONS", 16)
    second = run(stored, tmp_path / "out")
    assert second["strain_xx"].chunks[1] == (4, 4)
    same(first, second)


def test_old_analyses_are_deleted_but_the_last(stored, tmp_path):
    out = tmp_path / "out"
    for columns in (2, 3, 4):
        run(stored, out, reference=(slice(None), slice(0, columns)))
    kept = [p.name for p in out.iterdir() if p.name.startswith("analysis-")]
    assert len(kept) == 2
    assert BlockStore(out).summary["analysis"] in kept


def test_the_same_again_computes_nothing(stored, tmp_path, monkeypatch):
    first = run(stored, tmp_path / "out").load()
    before = content(tmp_path / "out")
    calls = interrupt(monkeypatch, after=0)
    same(run(stored, tmp_path / "out"), first)
    assert not calls
    assert content(tmp_path / "out") == before


# --- going on ------------------------------------------------------------------------
def test_going_on_measures_nothing_again(stored, tmp_path, monkeypatch):
    first = run(stored, tmp_path / "out").load()

    def measured(*args, **options):
        msg = "the probe was measured again"
        raise AssertionError(msg)

    monkeypatch.setattr("fcunet_dask.pipeline.detect.measure_probe", measured)
    second = run(stored, tmp_path / "out", reference=OTHER)
    assert second.attrs["provenance"]["probe"] == first.attrs["provenance"]["probe"]
    xr.testing.assert_identical(second["probe"].load(), first["probe"])


def test_a_scan_that_moved_is_the_same(path, tmp_path, monkeypatch):
    shutil.copytree(path, tmp_path / "a.zarr")
    run(tmp_path / "a.zarr", tmp_path / "out")
    (tmp_path / "elsewhere").mkdir()
    shutil.copytree(path, tmp_path / "elsewhere" / "b.zarr")  # not even the same time
    shutil.rmtree(tmp_path / "a.zarr")
    monkeypatch.chdir(tmp_path / "elsewhere")
    run("b.zarr", tmp_path / "out", reference=OTHER)


def test_another_scan_of_the_same_shape_is_not(path, scan, tmp_path):
    run(path, tmp_path / "out")
    other = scan[["pattern"]].copy()
    other["pattern"] = scan["pattern"] + 1
    save_scan(other, tmp_path / "other.zarr", shard=(4, 4))
    with pytest.raises(StoreError, match=r"other parameters.*digest"):
        run(tmp_path / "other.zarr", tmp_path / "out")


def test_going_on_can_be_refused(stored, tmp_path):
    run(stored, tmp_path / "out")
    with pytest.raises(StoreError, match="overwrite=True"):
        run(stored, tmp_path / "out", resume=False)
    run(stored, tmp_path / "out", resume=False, overwrite=True)


def test_bragg_vectors_so_far_can_be_looked_at(stored, tmp_path, monkeypatch):
    real, calls = BlockStore.write, []

    def write(self, *args):
        calls.append(args)
        if len(calls) == 3:
            raise PowerError
        real(self, *args)

    monkeypatch.setattr(BlockStore, "write", write)
    with dask.config.set(scheduler="synchronous"), pytest.raises(PowerError):
        run(stored, tmp_path / "out")
    found = open_results(tmp_path / "out", partial=True)
    finished = found["finished"].values
    assert 0 < finished.sum() < finished.size
    q = found["bragg_q"].values
    assert np.isfinite(q[finished][:, 0]).all()
    assert np.isnan(q[~finished]).all()
    assert found["probe"].dims == ("q_y", "q_x")
