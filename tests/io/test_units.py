import math

import pytest
from fcunet_dask.calibration import Calibration, electron_wavelength
from fcunet_dask.errors import CalibrationError
from fcunet_dask.io.units import Axis, calibrate, kilovolt, metadata


@pytest.mark.parametrize(
    "units",
    ["1/nm", "nm^-1", "1 / nm", "nm⁻¹", "$nm^{-1}$", "[n_m^-1]", "nm-1", b"1/nm"],
)
def test_inverse_nanometres(units):
    assert Axis.of(0.2, units).inverse_angstrom(None) == pytest.approx(0.02)


@pytest.mark.parametrize(
    "units",
    ["1/Å", "Å^-1", "A^-1", "$A^{-1}$", "1/angstrom", "Å⁻¹", "1/\u212b", r"$\AA^{-1}$"],
)
def test_inverse_angstrom(units):
    assert Axis.of(0.02, units).inverse_angstrom(None) == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("scale", "units", "nm"),
    [
        (2.0, "nm", 2.0),
        (20.0, "Å", 2.0),
        (20.0, "A", 2.0),
        (2e-9, "m", 2.0),
        (0.002, "µm", 2.0),
        (0.002, "μm", 2.0),
        (0.002, "um", 2.0),
        (2000.0, "pm", 2.0),
        (-2.0, "nm", 2.0),
        (2.0, "px", None),
        (2.0, "", None),
        (2.0, "s", None),
        (0.0, "nm", None),
    ],
)
def test_lengths(scale, units, nm):
    found = Axis.of(scale, units).nm
    assert found == (nm if nm is None else pytest.approx(nm))


def test_angles_need_a_voltage():
    axis = Axis.of(0.5, "mrad")
    expected = 0.5e-3 / electron_wavelength(200.0)
    assert axis.inverse_angstrom(200.0) == pytest.approx(expected)
    assert axis.inverse_angstrom(None) is None
    known = Calibration(voltage=200.0)
    found = calibrate((), (axis, axis), known, None)
    assert found.q_step == pytest.approx(expected)
    found = calibrate((), (axis, axis), Calibration(), Calibration(voltage=200.0))
    assert found.q_step == pytest.approx(expected)


@pytest.mark.parametrize(
    ("scale", "units"),
    [
        (1.0, None),
        (None, "1/nm"),
        (math.nan, "1/nm"),
        ("many", "1/nm"),
        (0.0, "1/nm"),
        (1.0, "?/m"),
        (1.7e17, "nm"),
    ],
)
def test_what_is_not_known_stays_unknown(scale, units):
    assert Axis.of(scale, units).inverse_angstrom(200.0) is None


@pytest.mark.parametrize("units", ["1/nm", "mrad"])
def test_a_falling_axis_has_a_step(units):
    rising, falling = Axis(0.2, units), Axis(-0.2, units)
    assert falling.inverse_angstrom(200.0) == rising.inverse_angstrom(200.0) > 0
    assert (rising.direction, falling.direction) == (1.0, -1.0)
    assert Axis(-1.0, "px").direction == 1.0


def test_only_known_lengths_are_images():
    assert Axis(0.2, "nm").is_length
    assert not Axis(-1.0, "nm").is_length
    assert not Axis(0.2, "1/nm").is_length
    assert not Axis(1.0, "").is_length


def test_what_the_caller_says_wins():
    scan, q = [Axis(2.0, "nm")] * 2, [Axis(0.2, "1/nm")] * 2
    known = Calibration(voltage=300.0, semiangle=1.5, scan_rotation=10.0)
    found = calibrate(scan, q, known, Calibration(q_step=0.03, voltage=200.0))
    assert found == Calibration(
        q_step=0.03, scan_step=2.0, voltage=200.0, semiangle=1.5, scan_rotation=10.0
    )
    found = calibrate(scan, q, known, Calibration(scan_rotation=-90.0))
    assert found.scan_rotation == -90.0
    assert calibrate(scan, q, known, Calibration(scan_rotation=0.0)).scan_rotation == 0
    assert calibrate(scan, q, known, Calibration()).scan_rotation == 10.0


def test_pixels_that_are_not_square_need_an_answer():
    q = [Axis(0.2, "1/nm"), Axis(0.3, "1/nm")]
    with pytest.raises(CalibrationError, match=r"not square; pass calibration="):
        calibrate((), q, Calibration(), None)
    found = calibrate((), q, Calibration(), Calibration(q_step=0.02))
    assert found.q_step == 0.02


def test_scan_steps_that_differ_are_not_averaged():
    scan = [Axis(2.0, "nm"), Axis(3.0, "nm")]
    assert calibrate(scan, (), Calibration(), None).scan_step is None
    line = [Axis(), Axis(3.0, "nm")]
    assert calibrate(line, (), Calibration(), None).scan_step == 3.0


@pytest.mark.parametrize(
    ("energy", "kv"),
    [(200, 200.0), (200e3, 200.0), (80.0, 80.0), (None, None), (math.nan, None)],
)
def test_voltages(energy, kv):
    assert kilovolt(energy) == kv


def test_metadata_of_hyperspy():
    values = {"beam_energy": 200.0, "convergence_angle": 1.2, "magnification": 80}
    assert metadata(values) == Calibration(voltage=200.0, semiangle=1.2)
    assert metadata({"convergence_angle": math.nan}) == Calibration()
