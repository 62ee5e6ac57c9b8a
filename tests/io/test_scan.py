"""Any file to the same words; what is no scan is refused before any work."""

import dask
import h5py
import numpy as np
import pytest
import xarray as xr
import zarr
from fcunet_dask import schema
from fcunet_dask._axes import calibration_of
from fcunet_dask._source import source_of
from fcunet_dask.calibration import Calibration
from fcunet_dask.errors import MissingDependencyError, ParameterError, ReaderError
from fcunet_dask.io import convert, open_scan
from fcunet_dask.schema import SCAN

SHAPE = (5, 7, 6, 8)
TRUTH = np.random.default_rng(0).poisson(3, SHAPE).astype("uint16")


def h5(path, datasets, **options):
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file.create_dataset(name, data=values, **options)
    return path


def never(*_, **__):
    msg = "a block was read while the scan was opened"
    raise AssertionError(msg)


def check(scan, truth=TRUTH):
    schema.validate(scan, schema.PATTERN)
    np.testing.assert_array_equal(scan["pattern"], truth)
    assert scan["pattern"].dtype.isnative
    for dims, units in ((schema.SCAN, "nm"), (schema.Q, "1/Å")):
        for dim in dims:
            assert scan[dim].attrs["units"] in (units, "px")
            assert scan[dim].size == scan.sizes[dim]


# --- formats -------------------------------------------------------------------------
def write_npy(path):
    np.save(path / "a.npy", TRUTH)
    return path / "a.npy"


def write_fortran(path):
    np.save(path / "a.npy", np.asfortranarray(TRUTH))
    return path / "a.npy"


def write_npz(path):
    np.savez_compressed(path / "a.npz", counts=TRUTH, grain=np.zeros((5, 7)))
    return path / "a.npz"


def write_zarr(path):
    group = zarr.create_group(path / "a.zarr")
    group.create_array("deep/counts", data=TRUTH, chunks=(2, 2, 6, 8))
    group.create_array("grain", data=np.zeros((5, 7)))
    return path / "a.zarr"


def write_zarr2(path):
    group = zarr.create_group(path / "a.zarr", zarr_format=2)
    group.create_array("counts", data=TRUTH, chunks=(2, 2, 6, 8))
    return path / "a.zarr"


FORMATS = {
    "npy": write_npy,
    "npy in Fortran order": write_fortran,
    "npz": write_npz,
    "zarr": write_zarr,
    "zarr 2": write_zarr2,
    "hdf5": lambda p: h5(p / "a.h5", {"x/counts": TRUTH, "truth": np.ones((5, 7))}),
    "hdf5 in chunks": lambda p: h5(
        p / "a.nxs", {"counts": TRUTH}, chunks=(2, 3, 4, 4), compression="gzip"
    ),
    "emd": lambda p: h5(p / "a.emd", {"root/datacube/data": TRUTH, "other": TRUTH[:2]}),
}


@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
def test_formats_give_the_same_scan_lazily(tmp_path, write):
    path = write(tmp_path)
    with dask.config.set(scheduler=never):
        scan = open_scan(path)
        assert source_of(scan["pattern"].data) is not None
    check(scan)
    source = scan.attrs["source"]
    assert source["path"] == str(path)
    assert source["size"] > 0
    assert Calibration.from_dict(scan.attrs["calibration"]) == Calibration()


@pytest.mark.parametrize("write", FORMATS.values(), ids=FORMATS)
def test_blocks_are_whole_in_q_and_as_asked(tmp_path, write):
    scan = open_scan(write(tmp_path), blocks=(2, 3))
    assert scan["pattern"].data.chunks == ((2, 2, 1), (3, 3, 1), (6,), (8,))
    check(scan)


def test_suffix_does_not_matter_for_hdf5(tmp_path):
    check(open_scan(h5(tmp_path / "scan.data", {"counts": TRUTH})))


def test_calibration_becomes_coordinates(tmp_path):
    pixels = Calibration(q_step=0.02, scan_step=2.0, voltage=200.0)
    scan = open_scan(write_npy(tmp_path), calibration=pixels)
    np.testing.assert_allclose(scan["q_y"], 0.02 * np.arange(-3, 3))
    np.testing.assert_allclose(scan["scan_x"], 2.0 * np.arange(7))
    assert scan["q_x"].attrs["units"] == "1/Å"
    assert scan["scan_y"].attrs["units"] == "nm"
    assert Calibration.from_dict(scan.attrs["calibration"]) == pixels


def test_py4dstem_calibration_turns_its_angle(tmp_path):
    path = h5(tmp_path / "a.h5", {"cube_root/cube/data": TRUTH})
    with h5py.File(path, "a") as file:
        group = file.create_group("cube_root/metadatabundle/calibration")
        group["Q_pixel_size"], group["Q_pixel_units"] = 0.02, "A^-1"
        group["R_pixel_size"], group["R_pixel_units"] = 25.0, "A"
        group["QR_rotation"], group["QR_flip"] = np.radians(30.0), False
    found = open_scan(path).attrs["calibration"]
    assert found == pytest.approx(
        {
            "q_step": 0.02,
            "scan_step": 2.5,
            "scan_rotation": -30.0,
            "voltage": None,
            "semiangle": None,
        }
    )
    with h5py.File(path, "a") as file:
        file["cube_root/metadatabundle/calibration/QR_flip"][...] = True
    with pytest.raises(ReaderError, match="transposed"):
        open_scan(path)


def test_hyperspy_axes_and_microscope(tmp_path):
    path = h5(tmp_path / "a.hspy", {"Experiments/scan/data": TRUTH})
    with h5py.File(path, "a") as file:
        group = file["Experiments/scan"]
        for i, units in enumerate(("µm", "µm", "1/nm", "1/nm")):
            axis = group.create_group(f"axis-{i}")
            axis.attrs.update(scale=0.3, units=units, navigate=i < 2)
        tem = group.create_group("metadata/Acquisition_instrument/TEM")
        tem.attrs.update(beam_energy=300.0, convergence_angle=1.4)
    found = open_scan(path).attrs["calibration"]
    expected = {"q_step": 0.03, "scan_step": 300.0, "voltage": 300.0, "semiangle": 1.4}
    assert found == pytest.approx(expected | {"scan_rotation": None})


def hspy(path, *axes, data=TRUTH):
    """HyperSpy's file of `data` with the scales and units of its axes."""
    h5(path, {"Experiments/scan/data": data})
    with h5py.File(path, "a") as file:
        for i, (scale, units) in enumerate(axes):
            axis = file.create_group(f"Experiments/scan/axis-{i}")
            axis.attrs.update(scale=scale, units=units, navigate=i < data.ndim - 2)
    return path


def test_scan_steps_that_differ_are_both_kept(tmp_path):
    q = [(0.3, "1/nm")] * 2
    path = hspy(tmp_path / "a.hspy", (4.0, "nm"), (0.002, "µm"), *q)
    convert(path, tmp_path / "a.zarr")
    for source in (path, tmp_path / "a.zarr"):
        scan = open_scan(source)
        np.testing.assert_allclose(scan["scan_y"], 4.0 * np.arange(5))
        np.testing.assert_allclose(scan["scan_x"], 2.0 * np.arange(7))
        assert [scan[n].attrs["units"] for n in SCAN] == ["nm", "nm"]
        assert scan.attrs["calibration"]["scan_step"] is None
    thinned = calibration_of(scan.isel(scan_x=slice(None, None, 2)))
    assert thinned.scan_step == 4.0
    told = open_scan(path, calibration=Calibration(scan_step=3.0))
    np.testing.assert_allclose(np.diff(told["scan_y"]), 3.0)
    np.testing.assert_allclose(np.diff(told["scan_x"]), 3.0)


def test_angles_without_a_voltage_are_told(tmp_path):
    path = hspy(tmp_path / "a.hspy", *[(2.0, "nm")] * 2, *[(0.5, "mrad")] * 2)
    with pytest.warns(UserWarning, match=r"pixels of 0\.5 mrad, .* --voltage"):
        scan = open_scan(path)
    assert scan["q_x"].attrs["units"] == "px"
    told = open_scan(path, calibration=Calibration(voltage=200.0))
    assert told["q_x"].attrs["units"] == "1/Å"
    assert open_scan(path, calibration=Calibration(q_step=0.1))["q_x"][-1] > 0


def test_the_step_between_rows_of_a_line_does_not_count(tmp_path):
    axes = [(1.0, "µm"), (2.0, "nm"), (0.3, "1/nm"), (0.3, "1/nm")]
    line = open_scan(hspy(tmp_path / "a.hspy", *axes, data=TRUTH[:1]))
    assert line.attrs["calibration"]["scan_step"] == 2.0
    np.testing.assert_allclose(line["scan_x"], 2.0 * np.arange(7))


@pytest.mark.parametrize("given", [None, 0.05])
def test_falling_axes_fall(given, tmp_path):
    axes = [(-2.0, "nm"), (2.0, "nm"), (-0.3, "1/nm"), (0.3, "1/nm")]
    path = hspy(tmp_path / "a.hspy", *axes)
    scan = open_scan(path, calibration=given and Calibration(q_step=given))
    step = given or 0.03
    np.testing.assert_allclose(scan["q_y"], -step * np.arange(-3, 3))
    np.testing.assert_allclose(scan["q_x"], step * np.arange(-4, 4))
    np.testing.assert_allclose(scan["scan_y"], -2.0 * np.arange(5))
    assert scan.attrs["calibration"]["q_step"] == pytest.approx(step)
    assert scan.attrs["calibration"]["scan_step"] == 2.0
    check(scan)


@pytest.mark.parametrize("version", [2, 3])
def test_what_xarray_wrote_keeps_its_axes_and_calibration(version, tmp_path):
    known = Calibration(q_step=0.02, scan_step=2.0, voltage=200.0)
    np.save(tmp_path / "a.npy", TRUTH)
    scan = open_scan(tmp_path / "a.npy", calibration=known)
    changed = scan.isel(q_y=slice(None, None, -1), scan_x=slice(1, None, 2))
    path = tmp_path / "a.zarr"
    changed.to_zarr(path, zarr_format=version, consolidated=False)
    opened = open_scan(path)
    xr.testing.assert_equal(opened, changed)
    assert opened["q_y"].attrs["units"] == "1/Å"
    assert opened.attrs["calibration"]["voltage"] == 200.0
    nm = {"q_y": ("q_y", 10 * changed["q_y"].values, {"units": "1/nm"})}
    nm["q_x"] = "q_x", 10 * changed["q_x"].values, {"units": "1/nm"}
    other = changed.assign_coords(nm).assign_attrs(calibration={})
    other.to_zarr(tmp_path / "c.zarr", zarr_format=version, consolidated=False)
    opened = open_scan(tmp_path / "c.zarr")
    np.testing.assert_allclose(np.diff(opened["q_y"]), -0.02)
    np.testing.assert_allclose(opened["q_x"], changed["q_x"], atol=1e-12)
    xr.testing.assert_equal(opened["scan_x"], changed["scan_x"])
    assert opened.attrs["calibration"]["q_step"] == pytest.approx(0.02)
    turned = tmp_path / "b.zarr"
    mixed = changed.transpose("scan_x", "scan_y", ...)
    mixed.to_zarr(turned, zarr_format=version, consolidated=False)
    with pytest.raises(ReaderError, match=r"axes of pattern are .*transpose it"):
        open_scan(turned)


def test_zspy_is_hyperspy_in_zarr(tmp_path):
    group = zarr.create_group(tmp_path / "a.zspy", zarr_format=2)
    signal = group.create_group("Experiments/scan")
    signal.create_array("data", data=TRUTH, chunks=(2, 2, 6, 8))
    for i, units in enumerate(("nm", "nm", "$A^{-1}$", "$A^{-1}$")):
        signal.create_group(f"axis-{i}").attrs.update(scale=0.3, units=units)
    tem = signal.create_group("metadata/Acquisition_instrument/TEM")
    tem.attrs.update(beam_energy=300.0)
    scan = open_scan(tmp_path / "a.zspy")
    check(scan)
    found = {k: v for k, v in scan.attrs["calibration"].items() if v}
    assert found == {"q_step": 0.3, "scan_step": 0.3, "voltage": 300.0}


# --- odd axes and numbers ------------------------------------------------------------
@pytest.mark.parametrize(
    ("shape", "options", "expected"),
    [
        ((6, 8), {}, (1, 1, 6, 8)),
        ((35, 6, 8), {}, (1, 35, 6, 8)),
        ((35, 6, 8), {"scan_shape": (5, 7)}, SHAPE),
        ((1, 35, 6, 8), {"scan_shape": (5, 7)}, SHAPE),
        ((35, 1, 6, 8), {}, (35, 1, 6, 8)),
        ((5, 7, 1, 6, 8), {}, SHAPE),
        ((1, 5, 7, 6, 8), {}, (1, 5, 7, 6, 8)[1:]),
        ((5, 7, 6, 8), {"scan_shape": (5, 7)}, SHAPE),
        ((1, 1, 5, 7, 6, 8), {}, SHAPE),
    ],
    ids=str,
)
def test_axes_are_found(tmp_path, shape, options, expected):
    values = TRUTH.ravel()[: np.prod(shape)].reshape(shape)
    np.save(tmp_path / "a.npy", values)
    check(open_scan(tmp_path / "a.npy", **options), values.reshape(expected))


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((48,), {}),
        ((2, 5, 7, 6, 8), {}),
        ((0, 7, 6, 8), {}),
        ((35, 6, 8), {"scan_shape": (6, 6)}),
        ((5, 7, 6, 8), {"scan_shape": (7, 5)}),
    ],
    ids=str,
)
def test_axes_that_are_no_scan_are_refused(tmp_path, shape, options):
    np.save(tmp_path / "a.npy", np.zeros(shape, "uint8"))
    with pytest.raises(ReaderError, match=r"a\.npy: .*scan"):
        open_scan(tmp_path / "a.npy", **options)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("uint8", "uint8"),
        (">u2", "uint16"),
        (">u4", "uint32"),
        ("int16", "int16"),
        ("int64", "int64"),
        ("float32", "float32"),
        (">f8", "float32"),
        ("float16", "float32"),
        ("bool", "uint8"),
    ],
)
def test_numbers_are_native(tmp_path, dtype, expected):
    path = h5(tmp_path / "a.h5", {"counts": TRUTH.astype(dtype)})
    scan = open_scan(path)
    assert scan["pattern"].dtype == expected
    assert scan["pattern"].values.dtype == expected
    check(scan, TRUTH.astype(dtype))


@pytest.mark.parametrize("dtype", ["complex64", "S3"])
def test_what_is_no_number_is_refused(tmp_path, dtype):
    path = h5(tmp_path / "a.h5", {"counts": TRUTH.astype(dtype)})
    with pytest.raises(ReaderError, match=r"a\.h5: values of type .* no counts"):
        open_scan(path)


def test_nan_and_negative_counts_pass(tmp_path):
    values = TRUTH.astype("float32")
    values[0, 0, 0, 0], values[1, 1, 1, 1] = np.nan, -3.0
    np.save(tmp_path / "a.npy", values)
    check(open_scan(tmp_path / "a.npy"), values)


# --- refusals ------------------------------------------------------------------------
def text(path, content="no data"):
    path.write_text(content)
    return path


def folder(path):
    path.mkdir()
    return path


def empty_group(path):
    zarr.create_group(path / "a")
    return path / "a"


def truncated(path):
    h5(path, {"counts": TRUTH})
    with path.open("r+b") as file:
        file.truncate(3000)
    return path


def cut_npy(path):
    np.save(path, TRUTH)
    with path.open("r+b") as file:
        file.truncate(3000)
    return path


def cut_npz(path):
    np.savez(path, counts=TRUTH)
    with path.open("r+b") as file:
        file.truncate(3000)
    return path


REFUSALS = {
    "missing": (lambda p: p / "a.h5", "no such file"),
    "unknown": (lambda p: text(p / "a.docx"), "no reader .* known are HDF5"),
    "no hdf5": (lambda p: text(p / "a.h5"), "no HDF5 file"),
    "folder": (lambda p: folder(p / "a"), "no Zarr group"),
    "empty group": (empty_group, "0 arrays"),
    "truncated hdf5": (lambda p: truncated(p / "a.h5"), "no whole HDF5 file .*trunc"),
    "truncated npy": (lambda p: cut_npy(p / "a.npy"), "no whole array"),
    "truncated npz": (lambda p: cut_npz(p / "a.npz"), "no whole .npz"),
    "objects": (
        lambda p: np.save(p / "a.npy", np.array([{}])) or p / "a.npy",
        "no whole array",
    ),
    "no scan": (
        lambda p: h5(p / "a.h5", {"x": TRUTH[0, 0]}),
        r"no dataset has four axes; .* x \(6, 8\)",
    ),
    "two scans": (
        lambda p: h5(p / "a.h5", {"x": TRUTH, "y": TRUTH}),
        r"2 datasets .* dataset= one of x \(5, 7, 6, 8\); y \(5",
    ),
}


@pytest.mark.parametrize(("write", "message"), REFUSALS.values(), ids=REFUSALS)
def test_bad_files_are_named_with_reason(tmp_path, write, message):
    path = write(tmp_path)
    with pytest.raises(ReaderError, match=message) as error:
        open_scan(path)
    assert str(path) in str(error.value)


def test_dataset_chooses(tmp_path):
    path = h5(tmp_path / "a.h5", {"x": TRUTH, "deep/y": TRUTH + np.uint16(1)})
    check(open_scan(path, dataset="x"))
    check(open_scan(path, dataset="/deep/y"), TRUTH + 1)
    with pytest.raises(ReaderError, match="no dataset 'z'; it has deep/y"):
        open_scan(path, dataset="z")
    np.savez(tmp_path / "a.npz", x=TRUTH, y=TRUTH + np.uint16(1))
    check(open_scan(tmp_path / "a.npz", dataset="y"), TRUTH + 1)
    with pytest.raises(ReaderError, match="2 arrays"):
        open_scan(tmp_path / "a.npz")


@pytest.mark.parametrize("options", [{"blocks": (0, 4)}, {"scan_shape": (-1, 35)}])
def test_impossible_numbers_are_refused(tmp_path, options):
    with pytest.raises(ParameterError, match="two positive integers"):
        open_scan(write_npy(tmp_path), **options)


def test_unknown_filter_names_the_extra(tmp_path, monkeypatch):
    path = h5(tmp_path / "a.h5", {"x": TRUTH}, compression="gzip")
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda _: False)
    with pytest.raises(MissingDependencyError, match=r"filter 1 .*fcunet-dask\[io\]"):
        open_scan(path)


def test_missing_extra_is_named(tmp_path, monkeypatch):
    path = text(tmp_path / "a.dm4")
    monkeypatch.setitem(__import__("sys").modules, "rsciio.digitalmicrograph", None)
    with pytest.raises(MissingDependencyError, match=r"fcunet-dask\[io\]"):
        open_scan(path)


def test_dataset_survives_xarray_and_keeps_its_source(tmp_path):
    scan = open_scan(write_npy(tmp_path))
    assert source_of(scan.assign_coords(phase=1)["pattern"].data) is not None
    assert source_of(scan.isel(scan_y=slice(1, 3))["pattern"].data) is None
    part = scan.isel(scan_y=2, scan_x=slice(1, 5, 2), q_x=-1)["pattern"]
    np.testing.assert_array_equal(part, TRUTH[2, 1:5:2, :, -1])
    assert isinstance(scan, xr.Dataset)
