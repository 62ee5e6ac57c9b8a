"""Sizes and angles of the pixels."""

import json

import numpy as np
import pytest
from fcunet_dask import Calibration
from fcunet_dask.calibration import electron_wavelength
from fcunet_dask.errors import CalibrationError


@pytest.mark.parametrize(
    ("voltage", "picometre"), [(60, 4.866), (80, 4.176), (200, 2.508), (300, 1.969)]
)
def test_the_wavelength_is_that_of_the_tables(voltage, picometre):
    assert 100 * electron_wavelength(voltage) == pytest.approx(picometre, abs=1e-3)


def test_the_radius_of_the_probe_is_alpha_over_lambda():
    c = Calibration(q_step=0.01, voltage=200, semiangle=2.0)
    assert c.probe_radius == pytest.approx(2e-3 / 0.025079 / 0.01, rel=1e-4)
    assert Calibration(q_step=0.01, voltage=200).probe_radius is None


@pytest.mark.parametrize("size", [7, 8])
def test_the_zero_of_q_is_the_middle_pixel(size):
    axis = Calibration(q_step=0.5).q_axis(size)
    assert axis[size // 2] == 0
    np.testing.assert_allclose(np.diff(axis), 0.5)


def test_what_is_not_known_is_counted():
    c = Calibration()
    assert (c.q_units, c.scan_units) == ("px", "px")
    np.testing.assert_array_equal(c.scan_axis(3), [0, 1, 2])
    known = Calibration(q_step=0.1, scan_step=2.0)
    assert (known.q_units, known.scan_units) == ("1/Å", "nm")
    np.testing.assert_array_equal(known.scan_axis(3), [0, 2, 4])


def test_it_survives_its_dictionary():
    c = Calibration(q_step=0.02, scan_rotation=-12.5, voltage=300)
    assert Calibration.from_dict(c.to_dict() | {"another": 3}) == c


def test_numbers_of_numpy_become_those_of_python():
    c = Calibration(
        q_step=np.float32(0.02), scan_rotation=np.int64(-12), voltage=np.int64(200)
    )
    wanted = {"q_step": float(np.float32(0.02)), "scan_rotation": -12, "voltage": 200}
    assert json.loads(json.dumps(c.to_dict())) == wanted | {
        "scan_step": None,
        "semiangle": None,
    }


@pytest.mark.parametrize("name", ["q_step", "scan_step", "voltage", "semiangle"])
@pytest.mark.parametrize("value", [0, -1.0, np.nan, np.inf, "2 nm", [2.0]])
def test_impossible_values_are_refused_by_name(name, value):
    with pytest.raises(CalibrationError, match=name):
        Calibration(**{name: value})


@pytest.mark.parametrize("value", [np.nan, "90"])
def test_a_rotation_that_is_no_number_is_refused(value):
    with pytest.raises(CalibrationError, match="scan_rotation"):
        Calibration(scan_rotation=value)


@pytest.mark.parametrize("voltage", [0, -200, np.nan])
def test_a_voltage_that_is_none_is_refused(voltage):
    with pytest.raises(CalibrationError, match="voltage"):
        electron_wavelength(voltage)
