"""Bad input is an error that names it, or NaN with its reason; nothing is lost."""

import errno
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from fcunet_dask import (
    apply_calibration,
    compute_strain,
    convert,
    find_bragg_vectors,
    find_lattice,
    load_detector,
    open_scan,
    reference_lattice,
    run,
    save_scan,
    simulate_scan,
)
from fcunet_dask._commit import BlockStore
from fcunet_dask.errors import (
    AnalysisError,
    ModelError,
    ParameterError,
    ReaderError,
    SchemaError,
    StoreError,
)
from fcunet_dask.kernels.gain import counts_per_electron
from fcunet_dask.kernels.lattice import LatticeStatus
from fcunet_dask.lattice import given_lattice
from fcunet_dask.model import PatternStatus
from fcunet_dask.pipeline import open_results

SMALL = {
    "scan": (3, 5),
    "detector": (96, 112),
    "radius": 4.2,
    "g1": (5.2, 17.0),
    "g2": (17.0, -5.2),
    "dose": 1e5,
    "blocks": None,
}


@pytest.fixture(scope="module")
def small():
    return simulate_scan(**SMALL)


def changed(scan, change, dtype="f4"):
    """Copy of the patterns of a scan, changed in place by a function."""
    data = scan["pattern"].values.astype(dtype)
    change(data)
    out = scan[["pattern"]].copy()
    out["pattern"] = (scan["pattern"].dims, data)
    out.attrs = scan.attrs
    return out


def test_a_scan_without_a_pattern_is_refused(small, tmp_path):
    empty = small.isel(scan_x=slice(0, 0))
    for use in (
        lambda: run(empty, tmp_path / "out"),
        lambda: save_scan(empty, tmp_path / "scan.zarr"),
    ):
        with pytest.raises(SchemaError, match=r"is empty.*'scan_x': 0"):
            use()


@pytest.mark.parametrize("value", [np.arange(3), object(), {"a": {1, 2}}])
def test_attributes_that_cannot_be_stored_are_named(value, small, tmp_path):
    scan = small[["pattern"]].assign_attrs(note=value)
    with pytest.raises(SchemaError, match=r"attribute 'note' .* cannot be stored"):
        save_scan(scan, tmp_path / "scan.zarr")
    assert not (tmp_path / "scan.zarr").exists()
    save_scan(scan.assign_attrs(note=np.float32(0.5)), tmp_path / "scan.zarr")
    assert open_scan(tmp_path / "scan.zarr").attrs["note"] == 0.5


@pytest.mark.parametrize(
    "kind", [lambda a: a, lambda a: a.values, lambda a: a.chunk().data]
)
def test_an_array_is_no_scan_and_how_it_becomes_one_is_said(kind, small, tmp_path):
    with pytest.raises(
        ParameterError, match=r"pass xarray\.Dataset.*'scan_y', 'scan_x'"
    ):
        run(kind(small["pattern"]), tmp_path / "out")


def test_a_missing_file(tmp_path):
    with pytest.raises(ReaderError, match=r"nothing\.zarr"):
        run(tmp_path / "nothing.zarr", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_truncated_file(small, tmp_path):
    np.save(tmp_path / "a.npy", small["pattern"].values)
    raw = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(ReaderError, match=r"a\.npy"):
        run(tmp_path / "a.npy", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_that_was_cut_after_it_was_opened(small, tmp_path):
    save_scan(small, tmp_path / "a.zarr", shard=(4, 4))
    chunk = next(
        p
        for p in (tmp_path / "a.zarr" / "pattern").rglob("*")
        if p.is_file() and p.name != "zarr.json"
    )
    chunk.write_bytes(chunk.read_bytes()[:100])
    with pytest.raises(ReaderError, match=r"a\.zarr"):
        run(tmp_path / "a.zarr", tmp_path / "out")


def test_wrong_dims(small, tmp_path):
    with pytest.raises(SchemaError, match=r"dims.*expected"):
        run(small[["pattern"]].transpose("scan_x", ...), tmp_path / "out")
    with pytest.raises(SchemaError, match="dims"):
        run(small.isel(scan_y=0), tmp_path / "out")


def test_wrong_dtype(small, tmp_path):
    with pytest.raises(SchemaError, match="dtype"):
        run(small[["pattern"]].astype("c8"), tmp_path / "out")


def test_a_scan_without_patterns(tmp_path):
    with pytest.raises(SchemaError, match="no variable 'pattern'"):
        run(xr.Dataset({"image": ("x", [1])}), tmp_path / "out")


def test_nan_and_negative_counts(small, tmp_path):
    def spoil(data):
        data[0, 0, 10, 10] = np.nan
        data[1, 2, 30:33, 40] = -5

    found = run(changed(small, spoil), tmp_path / "out")
    status = found["pattern_status"].values
    assert status[0, 0] == PatternStatus.NOT_FINITE
    assert status[1, 2] == PatternStatus.NEGATIVE
    assert (np.delete(status.ravel(), [0, 7]) == 0).all()
    assert np.isfinite(found["strain_xx"].values).all()


def test_an_empty_pattern_and_a_pattern_of_noise(small, tmp_path):
    rng = np.random.default_rng(1)

    def spoil(data):
        data[0, 1] = 0
        data[2, 3] = rng.poisson(3.0, data.shape[2:])

    found = run(changed(small, spoil), tmp_path / "out")
    status = found["pattern_status"].values
    assert status[0, 1] == PatternStatus.EMPTY | PatternStatus.NO_DISKS
    assert status[2, 3] & PatternStatus.NO_DISKS
    lattice = found["lattice_status"].values
    assert lattice[0, 1] == LatticeStatus.TOO_FEW_DISKS
    strain = found["strain_xx"].values
    assert np.isnan(strain[[0, 2], [1, 3]]).all()
    assert np.isfinite(strain).sum() == 13


def test_a_scan_of_nothing(small, tmp_path):
    def spoil(data):
        data[:] = 0

    with pytest.raises(AnalysisError, match=r"no disk.*pass a vacuum probe"):
        run(changed(small, spoil), tmp_path / "out")


def test_nothing_but_noise(small, tmp_path):
    rng = np.random.default_rng(2)

    def spoil(data):
        data[:] = rng.poisson(4.0, data.shape)

    with pytest.raises(AnalysisError, match="no disk"):
        run(changed(small, spoil), tmp_path / "out")


def test_nothing_for_the_detector_to_find(small, tmp_path):
    def spoil(data):
        data[:] = 0

    empty = changed(small, spoil).assign(probe=small["probe"])
    with pytest.raises(AnalysisError, match="no disk in any pattern"):
        run(empty, tmp_path / "out", detector=load_detector(radius=4.2))


def test_a_probe_larger_than_the_pattern(small, tmp_path):
    with pytest.raises(ParameterError, match="does not fit into patterns of 96 × 112"):
        run(small, tmp_path / "out", detector_options={"radius": 60.0})


def test_one_disk_only(tmp_path):
    vacuum = simulate_scan(**SMALL, vacuum_columns=5)
    with pytest.raises(AnalysisError, match="no lattice in the Bragg-vector map"):
        run(vacuum, tmp_path / "out")


def test_a_border_of_vacuum(tmp_path):
    scan = simulate_scan(**{**SMALL, "scan": (4, 8)}, vacuum_columns=3)
    found = run(scan, tmp_path / "out")
    status = found["lattice_status"].values
    assert (status[:, :5] == 0).all()
    assert (status[:, 5:] == LatticeStatus.TOO_FEW_DISKS).all()
    assert np.isnan(found["strain_yy"].values[:, 5:]).all()


def test_disks_on_one_line(small, tmp_path):
    def spoil(data):
        data[:, :, :37] = 0
        data[:, :, 59:] = 0

    flat = simulate_scan(
        **{**SMALL, "g1": (0.0, 17.0), "g2": (17.0, 0.0)}, strain=0, rotation=0
    )
    with pytest.raises(AnalysisError, match="one line"):
        run(changed(flat, spoil), tmp_path / "out")


def test_a_lattice_that_fits_nowhere(small, tmp_path):
    with pytest.raises(AnalysisError, match="lattice"):
        run(small, tmp_path / "out", g1=(0.217, 0.031), g2=(0.05, 0.283))


def test_an_output_that_is_not_ours(small, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(StoreError, match="no store of this package"):
            run(small, tmp_path / "out", overwrite=overwrite)
    assert (tmp_path / "out" / "thesis.txt").read_text() == "years of work"


def test_a_full_disk_and_then_room(tmp_path, monkeypatch):
    scan = simulate_scan(**{**SMALL, "blocks": (2, 5)})
    complete = BlockStore.write
    calls = []

    def full(self, block_id, values, summary=None):
        calls.append(block_id)
        if len(calls) == 2:
            with monkeypatch.context() as patch:

                def no_space(*args):
                    raise OSError(errno.ENOSPC, "No space left on device")

                patch.setattr("fcunet_dask._commit.store.write_json", no_space)
                complete(self, block_id, values, summary)
        complete(self, block_id, values, summary)

    monkeypatch.setattr(BlockStore, "write", full)
    with pytest.raises(StoreError, match=r"disk is full.*run again"):
        run(scan, tmp_path / "out")
    monkeypatch.setattr(BlockStore, "write", complete)
    resumed = run(scan, tmp_path / "out")
    plain = run(scan, tmp_path / "plain")
    for name in ("bragg_q", "strain_xx", "rotation_std"):
        np.testing.assert_array_equal(resumed[name], plain[name])


def test_a_scan_is_never_overwritten_by_results(scan, tmp_path):
    save_scan(scan[["pattern"]], tmp_path / "raw.zarr")
    with pytest.raises(StoreError, match="is the source itself"):
        run(tmp_path / "raw.zarr", tmp_path / "raw.zarr", overwrite=True)
    with pytest.raises(StoreError, match=r"holds.* pattern.*never replaced"):
        run(scan, tmp_path / "raw.zarr", overwrite=True)
    kept = open_scan(tmp_path / "raw.zarr").pattern.values
    np.testing.assert_array_equal(kept, scan.pattern.values)


@pytest.mark.parametrize("name", ["strain.zarr", "a/b", "../linked/out", ""])
def test_results_are_not_written_into_a_foreign_scan(name, small, tmp_path):
    """Their arrays would lie among those of the scan: nobody could tell which is it."""
    path = tmp_path / "foreign.zarr"
    group = zarr.open_group(path, mode="w")
    group.create_array("data", data=small["pattern"].values, chunks=(2, 2, 96, 112))
    (tmp_path / "linked").symlink_to(path)
    before = set(path.rglob("*"))
    part = open_scan(path).isel(scan_x=slice(0, 2))
    for scan in (path, part):
        with pytest.raises(
            StoreError, match=r"(lies in .*foreign|is the source).*choose"
        ):
            run(scan, path / name)
    with pytest.raises(StoreError, match=r"(lies in .*foreign|is the source).*choose"):
        convert(path, path / name)
    assert set(path.rglob("*")) == before
    np.testing.assert_array_equal(open_scan(path)["pattern"], small["pattern"])
    run(path, tmp_path / "foreign.zarr-strain")


def test_a_scan_is_not_opened_as_results(scan, tmp_path):
    save_scan(scan[["pattern"]], tmp_path / "raw.zarr")
    with pytest.raises(StoreError, match="is a scan, not the results of a run"):
        open_results(tmp_path / "raw.zarr")


def test_clipped_patterns_keep_a_gain_of_their_order(scan):
    clipped = np.minimum(scan.pattern.values, 40).reshape(-1, *scan.pattern.shape[2:])
    gain = counts_per_electron(clipped, np.ones(clipped.shape[1:], bool))
    assert 0.3 < gain < 3


def test_flat_patterns_have_a_gain():
    flat = np.full((3, 32, 32), 7.0)
    assert counts_per_electron(flat, np.ones((32, 32), bool)) > 0


def test_a_reference_with_other_grains_is_refused(scan, tmp_path):
    results = run(scan, tmp_path / "out.zarr")
    names = ["g1", "g2", "lattice_covariance", "n_indexed", "grain_index"]
    lattice = results[names].assign_attrs(basis=[[0, 1, 1, 0], [1, 1, 1, -1]])
    one = given_lattice((0.1, 0.4), (0.4, -0.1))
    with pytest.raises(ParameterError, match="1 grains, the lattice 2"):
        compute_strain(lattice, one)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda s, p: run(s["pattern"].values, "out"), ParameterError, "got ndarray"),
        (lambda s, p: run(s, None), ParameterError, "path or a URL, got NoneType"),
        (lambda s, p: find_bragg_vectors(s, "template"), ParameterError, "'template'"),
        (lambda s, p: load_detector(p, "template"), ModelError, "no detector"),
        (
            lambda s, p: load_detector("template", p, min_scor=1),
            ParameterError,
            "no option min_scor; it has .*'min_score'",
        ),
        (lambda s, p: find_lattice(s, radius=1), SchemaError, "Bragg-vector map has"),
        (
            lambda s, p: apply_calibration(
                find_bragg_vectors(s, load_detector("template", p)), origin=s["pattern"]
            ),
            SchemaError,
            "Dataset, got DataArray",
        ),
        (
            lambda s, p: reference_lattice(lattice_like(s), region=(0, 2)),
            ParameterError,
            "two slices",
        ),
    ],
)
def test_what_is_of_another_kind_is_named(call, error, words, scan, probe):
    with pytest.raises(error, match=words):
        call(scan, probe)


def lattice_like(scan):
    """Every position with the same lattice."""
    shape = scan["pattern"].shape[:2]
    vector = np.broadcast_to([0.0, 0.4], (*shape, 2))
    dims = ("scan_y", "scan_x")
    return xr.Dataset(
        {
            "g1": ((*dims, "component"), vector),
            "g2": ((*dims, "component"), vector[..., ::-1]),
            "n_indexed": (dims, np.full(shape, 9)),
            "lattice_status": (dims, np.zeros(shape, np.uint8)),
        }
    )


def test_a_url_that_became_a_path_is_no_folder(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParameterError, match="lost a slash of the URL"):
        run(small, Path("s3://bucket/out"))
    with pytest.raises(ParameterError, match="lost a slash of the URL"):
        open_scan(Path("s3://bucket/scan.zarr"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["loop/out", "n" * 300])
def test_an_output_that_cannot_be_is_an_error_that_names_it(small, tmp_path, name):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(StoreError, match=f"{name}.* cannot be (read|written)"):
        run(small, tmp_path / name)


def test_an_object_store_that_is_none_is_an_error_in_one_line(small):
    where = "nowhere://bucket/a"
    for call, error, words in (
        (lambda: run(small, where), StoreError, "cannot be read"),
        (lambda: open_results(where), StoreError, "cannot be read"),
        (lambda: open_scan(where), ReaderError, "is no Zarr group"),
    ):
        with pytest.raises(error, match=f"{where}.*{words}") as caught:
            call()
        assert "\n" not in str(caught.value)
