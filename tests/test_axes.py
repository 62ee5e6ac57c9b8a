"""The steps of a scan are those of its coordinates, whatever has become of it."""

import re

import numpy as np
import pytest
import xarray as xr
from fcunet_dask import Calibration, estimate_probe, open_scan, run, save_scan
from fcunet_dask._axes import calibration_of, detector_axes
from fcunet_dask.calibration import electron_wavelength
from fcunet_dask.errors import SchemaError
from fcunet_dask.pipeline.prepare import prepare_scan
from fcunet_dask.pipeline.settings import Settings
from fcunet_dask.schema import SCAN, Q

SEMIANGLE = 4.0 * 0.02 * electron_wavelength(200.0) * 1e3
"""Of disks of 4 px of 0.02 1/Å, mrad."""


@pytest.fixture(scope="module")
def calibrated(scan):
    """The scan of the tests, of whose microscope everything is known."""
    known = Calibration(q_step=0.02, scan_step=2.0, voltage=200.0, semiangle=SEMIANGLE)
    out = scan[["pattern"]].isel(scan_y=slice(4), scan_x=slice(6)).load()
    return out.assign_attrs(calibration=known.to_dict())


CHANGES = {
    "as it is": lambda s: s,
    "binned": lambda s: s.coarsen(q_y=2, q_x=2).sum(),
    "cropped": lambda s: s.isel(q_y=slice(10, 90)),
    "flipped": lambda s: s.isel(q_y=slice(None, None, -1)),
    "every second": lambda s: s.isel(
        scan_y=slice(None, None, 2), scan_x=slice(1, 6, 2)
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_store_has_the_axes_of_what_was_saved(calibrated, change, tmp_path):
    changed = change(calibrated)
    save_scan(changed, tmp_path / "scan.zarr")
    opened = open_scan(tmp_path / "scan.zarr")
    xr.testing.assert_equal(opened[["pattern"]].load(), changed[["pattern"]])
    for name in (*SCAN, *Q):
        assert opened[name].attrs["units"] == changed[name].attrs["units"]
    binned = changed.sizes["q_x"] < calibrated.sizes["q_x"]
    assert opened.attrs["calibration"]["q_step"] == pytest.approx(
        0.04 if binned else 0.02
    )
    thinned = changed.sizes["scan_x"] < calibrated.sizes["scan_x"]
    assert opened.attrs["calibration"]["scan_step"] == (4.0 if thinned else 2.0)


def test_steps_that_are_given_win_over_those_of_the_store(calibrated, tmp_path):
    save_scan(calibrated.isel(scan_x=slice(2, 6)), tmp_path / "scan.zarr")
    opened = open_scan(tmp_path / "scan.zarr", calibration=Calibration(q_step=0.03))
    np.testing.assert_allclose(np.diff(opened["q_y"]), 0.03)
    assert opened["scan_x"].values[0] == 4.0
    assert opened.attrs["calibration"]["q_step"] == 0.03


@pytest.mark.parametrize("stored", [False, True])
def test_a_flipped_and_cropped_scan_stays_so_when_it_is_given_a_step(
    stored, calibrated, tmp_path
):
    changed = calibrated.isel(q_y=slice(90, 9, -1), scan_x=slice(2, 6))
    source = changed
    if stored:
        source = tmp_path / "scan.zarr"
        save_scan(changed, source)
    given = Calibration(q_step=0.03, scan_step=5.0)
    ready = prepare_scan(source, Settings(calibration=given))
    np.testing.assert_allclose(ready["q_y"], 1.5 * changed["q_y"], rtol=1e-12)
    np.testing.assert_allclose(ready["q_x"], 1.5 * changed["q_x"], rtol=1e-12)
    np.testing.assert_allclose(ready["scan_x"], 2.5 * changed["scan_x"], rtol=1e-12)
    assert ready.attrs["calibration"]["q_step"] == 0.03
    assert ready["q_y"].attrs["units"] == "1/Å"


@pytest.mark.parametrize(
    ("name", "unit", "known"),
    [
        ("scan_x", "Å", "nm or px"),
        ("scan_y", "µm", "nm or px"),
        ("q_y", "1/nm", "1/Å or px"),
        ("q_x", "A^-1", "1/Å or px"),
    ],
)
def test_coordinates_in_other_units_are_refused(
    name, unit, known, calibrated, tmp_path
):
    changed = calibrated.assign_coords(
        {name: calibrated[name].assign_attrs(units=unit)}
    )
    for use in (
        lambda: save_scan(changed, tmp_path / "scan.zarr"),
        lambda: run(changed, tmp_path / "out"),
        lambda: estimate_probe(changed),
    ):
        with pytest.raises(
            SchemaError, match=f"'{name}' are {re.escape(unit)}.*{known}"
        ):
            use()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["scan_x", "q_y"])
@pytest.mark.parametrize("value", ["a", np.nan])
def test_coordinates_that_are_no_numbers_are_refused(name, value, calibrated, tmp_path):
    axis = np.full(calibrated.sizes[name], value)
    changed = calibrated.assign_coords({name: (name, axis, calibrated[name].attrs)})
    for use in (
        lambda: save_scan(changed, tmp_path / "scan.zarr"),
        lambda: run(changed, tmp_path / "out"),
    ):
        with pytest.raises(SchemaError, match=f"'{name}' must be finite numbers"):
            use()


def test_coordinates_of_no_unit_that_count_no_pixels_are_refused(calibrated):
    plain = calibrated.assign_attrs(calibration={})
    plain = plain.assign_coords({n: (n, plain[n].values) for n in Q})
    with pytest.raises(SchemaError, match=r"'q_y' are none, and 0\.02 apart"):
        estimate_probe(plain)
    pixels = plain.assign_coords({n: (n, plain[n].values / 0.02) for n in Q})
    assert estimate_probe(pixels).attrs["radius"] == pytest.approx(4.2, abs=0.15)


def test_the_semiangle_is_that_of_binned_pixels(calibrated):
    binned = CHANGES["binned"](calibrated)
    assert calibration_of(binned).probe_radius == pytest.approx(2.0)
    probe = estimate_probe(binned)
    assert probe.attrs["origin"] == "semiangle"
    assert probe.attrs["radius"] == pytest.approx(2.1, abs=0.15)


def test_a_binned_scan_has_the_lattice_of_the_scan(calibrated, tmp_path):
    save_scan(CHANGES["binned"](calibrated), tmp_path / "binned.zarr")
    lengths = [
        np.hypot(*run(source, tmp_path / out)["reference_g1"].values[0])
        for source, out in ((calibrated, "whole"), (tmp_path / "binned.zarr", "binned"))
    ]
    assert lengths[1] == pytest.approx(lengths[0], rel=2e-3)


def test_calibrations_that_are_right_keep_their_digits(calibrated):
    """Runs know their own output by them."""
    for step in (0.0212345678901234, 1 / 51.2):
        known = Calibration(q_step=step, scan_step=0.3)
        axes = {n: known.q_axis(calibrated.sizes[n]).astype("f8") for n in Q}
        axes |= {n: known.scan_axis(calibrated.sizes[n]) for n in SCAN}
        scan = xr.Dataset({"pattern": calibrated["pattern"].variable}, axes)
        assert calibration_of(scan.assign_attrs(calibration=known.to_dict())) == known


def test_positions_that_are_counted_tell_no_step(calibrated):
    """As of a file without one, to which it was added by hand."""
    counted = {n: (n, np.arange(calibrated.sizes[n]), {"units": "px"}) for n in SCAN}
    assert calibration_of(calibrated.assign_coords(counted)).scan_step == 2.0


def test_without_coordinates_the_calibration_holds(calibrated):
    bare = calibrated.drop_vars([*SCAN, *Q])
    assert calibration_of(bare).q_step == 0.02
    assert detector_axes(bare)[1] == pytest.approx((0.02, 0.02))


def test_pixels_that_are_not_square_are_refused(calibrated, tmp_path):
    with pytest.raises(SchemaError, match=r"0\.04 × 0\.02 1/Å .* not square"):
        run(calibrated.coarsen(q_y=2).sum(), tmp_path / "out")
