"""What py4DSTEM opens: raw pixels, its x along our y, its angles with their signs."""

import h5py
import numpy as np
import pytest
import xarray as xr
from fcunet_dask import apply_calibration
from fcunet_dask.errors import SchemaError, StoreError
from fcunet_dask.io.py4dstem import write_bragg_vectors, write_strain

SCAN = ("scan_y", "scan_x")
CALIBRATION = {"q_step": 0.02, "scan_step": 2.0, "scan_rotation": 30.0}


def bragg():
    """Two peaks at one position, one at the next, none elsewhere."""
    q = np.full((2, 3, 4, 2), np.nan)
    intensity = np.full((2, 3, 4), np.nan)
    q[0, 0, :2] = [[0.0, 0.0], [0.2, -0.4]]
    intensity[0, 0, :2] = [900.0, 80.0]
    q[0, 1, 0] = [0.02, 0.04]
    intensity[0, 1, 0] = 700.0
    variables = {
        "bragg_q": ((*SCAN, "peak", "component"), q, {"units": "1/Å"}),
        "bragg_intensity": ((*SCAN, "peak"), intensity),
    }
    return xr.Dataset(variables, attrs={"calibration": CALIBRATION})


def scan(shape=(128, 96), units="1/Å"):
    """A scan whose middle pixel is q = 0, without a pattern worth reading."""
    axes = {
        name: (name, 0.02 * (np.arange(n) - n // 2), {"units": units})
        for name, n in zip(("q_y", "q_x"), shape, strict=True)
    }
    pattern = np.zeros((2, 3, *shape), np.uint8)
    attrs = {"calibration": CALIBRATION}
    return xr.Dataset({"pattern": ((*SCAN, "q_y", "q_x"), pattern)}, axes, attrs)


def strain():
    """Every map of one value, to be told apart."""
    names = ("strain_xx", "strain_yy", "strain_xy", "rotation", "strain_xx_std")
    maps = {n: (SCAN, np.full((2, 3), 0.01 * (i + 1))) for i, n in enumerate(names)}
    maps["strain_xx"][1][1, 2] = np.nan
    return xr.Dataset(maps, attrs={"calibration": CALIBRATION})


def rows(data):
    """Every row of a ragged array; h5py before 3.15 cannot read an empty one."""
    found = np.empty(data.shape, object)
    for place in np.ndindex(data.shape):
        try:
            found[place] = data[place]
        except ValueError:
            assert h5py.version.version_tuple < (3, 15)
            found[place] = np.empty(0, data.dtype)
    return found


def test_bragg_vectors_are_raw_pixels_with_x_along_the_rows(tmp_path):
    path = tmp_path / "peaks.h5"
    write_bragg_vectors(path, bragg(), scan())
    with h5py.File(path) as file:
        points = rows(file["root/braggvectors/_v_uncal/data"])
        shape = file["root/braggvectors/metadatabundle/_braggvectors_shape"]
        assert tuple(shape["Rshape"]) == (2, 3)
        assert tuple(shape["Qshape"]) == (128, 96)
    assert [len(p) for p in points.ravel()] == [2, 1, 0, 0, 0, 0]
    np.testing.assert_allclose(points[0, 0]["qx"], [64, 74])
    np.testing.assert_allclose(points[0, 0]["qy"], [48, 28])
    np.testing.assert_array_equal(points[0, 0]["intensity"], [900, 80])
    np.testing.assert_allclose(points[0, 1].tolist(), [(65, 50, 700)])


def test_pixels_are_those_of_a_scan_that_was_cropped_and_flipped(tmp_path):
    cut = scan().isel(q_y=slice(20, 90), q_x=slice(None, 10, -1))
    found = bragg()
    found["bragg_q"][0, 1, 0] = [cut.q_y[33], cut.q_x[5]]
    write_bragg_vectors(tmp_path / "peaks.h5", found, cut)
    with h5py.File(tmp_path / "peaks.h5") as file:
        points = rows(file["root/braggvectors/_v_uncal/data"])
        shape = file["root/braggvectors/metadatabundle/_braggvectors_shape/Qshape"]
        assert tuple(shape) == (70, 85)
    np.testing.assert_allclose(points[0, 1].tolist(), [(33, 5, 700)])


def test_what_is_in_no_pixels_of_the_scan_is_refused(tmp_path):
    with pytest.raises(SchemaError, match=r"are in 1/Å, the axes of the scan in px"):
        write_bragg_vectors(tmp_path / "b.h5", bragg(), scan(units="px"))
    covariance = ((*SCAN, "peak", "pair"), np.zeros((2, 3, 4, 3)))
    calibrated = apply_calibration(bragg().assign(bragg_covariance=covariance))
    with pytest.raises(SchemaError, match="went through apply_calibration"):
        write_bragg_vectors(tmp_path / "b.h5", calibrated, scan())
    with pytest.raises(SchemaError, match="pattern"):
        write_bragg_vectors(tmp_path / "b.h5", bragg(), strain())
    with pytest.raises(SchemaError, match=r"Dataset, got str: '/b\.h5'"):
        write_strain(strain(), "/b.h5")
    assert not (tmp_path / "b.h5").exists()


def test_every_group_has_the_types_that_emd_wants(tmp_path):
    path = tmp_path / "peaks.h5"
    write_bragg_vectors(path, bragg(), scan())
    with h5py.File(path) as file:
        assert file.attrs["emd_group_type"] == "file"
        assert (file.attrs["version_major"], file.attrs["version_minor"]) == (1, 0)
        vectors = file["root/braggvectors"]
        assert vectors.attrs["python_class"] == "BraggVectors"
        kind = vectors["_v_uncal"].attrs["emd_group_type"]
        assert kind == "custom_pointlistarray"
        calibration = file["root/metadatabundle/calibration"]
        types = {n: str(d.attrs["type"]) for n, d in calibration.items()}
        assert calibration["Q_pixel_units"][()] == b"A^-1"
        assert calibration["Q_pixel_size"][()] == 0.02
        assert calibration["QR_rotation_degrees"][()] == -30
    assert types.pop("QR_flip") == "bool"
    assert types.pop("_target_paths") == "list_of_strings"
    assert set(types.values()) == {"number", "string"}


def test_origin_of_each_position_is_in_pixels(tmp_path):
    origin = xr.DataArray(np.zeros((2, 3, 2)), dims=(*SCAN, "component"))
    origin[1, 2] = [0.02, -0.04]
    path = tmp_path / "peaks.h5"
    write_bragg_vectors(path, bragg(), scan(), origin=origin.to_dataset(name="origin"))
    with h5py.File(path) as file:
        calibration = file["root/metadatabundle/calibration"]
        assert calibration["qx0"][1, 2] == pytest.approx(65)
        assert calibration["qy0"][1, 2] == pytest.approx(46)
        assert calibration["qx0_mean"][()] == pytest.approx(64 + 1 / 6)
        np.testing.assert_allclose(calibration["qx0_shift"][...].sum(), 0, atol=1e-12)


def test_strain_is_in_the_axes_of_py4dstem(tmp_path):
    path = tmp_path / "strain.h5"
    write_strain(path, strain())
    with h5py.File(path) as file:
        group = file["root/strainmap"]
        labels = [label.decode() for label in group["dim2"]]
        maps = dict(zip(labels, group["data"][...], strict=True))
        assert group.attrs["python_class"] == "RealSlice"
    assert {name: values[0, 0] for name, values in maps.items()} == {
        "e_yy": 0.01,
        "e_xx": 0.02,
        "e_xy": 0.03,
        "theta": 0.04,
        "e_yy_std": 0.05,
        "mask": 1.0,
    }
    assert maps["mask"][1, 2] == 0


def test_files_are_not_replaced_unasked(tmp_path):
    path = tmp_path / "a.h5"
    write_strain(path, strain())
    with pytest.raises(StoreError, match="overwrite=True"):
        write_strain(path, strain())
    write_bragg_vectors(path, bragg(), scan(), overwrite=True)
    with pytest.raises(SchemaError, match="bragg_q"):
        write_bragg_vectors(tmp_path / "b.h5", strain(), scan())
