"""Pulls of a scan: measured on labelled arrays, for the error bars of its lattices."""

import numpy as np
import pytest
import xarray as xr
from fcunet_dask import fit_lattice, measure_pulls
from fcunet_dask.errors import ParameterError, SchemaError
from fcunet_dask.lattice import given_lattice

BASES = np.array([[0.6, 12.0, 13.2, 5.1], [9.0, 9.0, -8.0, 10.0]])
HK = np.stack(np.meshgrid(*[np.arange(-3, 4)] * 2, indexing="ij"), -1).reshape(-1, 2)
PULL = 0.2


@pytest.fixture(scope="module")
def bragg():
    """Two grains; the patterns of the first, in the left half, are pulled along x."""
    rng = np.random.default_rng(5)
    position = np.zeros((20, 40, len(HK), 2))
    for grain, columns in enumerate((slice(0, 20), slice(20, 40))):
        vector = HK @ BASES[grain].reshape(2, 2)
        position[:, columns] = vector
        if grain == 0:
            length = np.maximum(np.hypot(*vector.T), 1e-9)
            amount = PULL * rng.normal(size=(20, 20, 1))
            position[:, columns, :, 1] += amount * vector[:, 1] / length
    position += 0.05 * rng.normal(size=position.shape)
    covariance = np.zeros((*position.shape[:3], 3))
    covariance[..., [0, 2]] = 0.05**2
    peaks = ("scan_y", "scan_x", "peak")
    return xr.Dataset(
        {
            "bragg_q": ((*peaks, "component"), position, {"units": "px"}),
            "bragg_covariance": ((*peaks, "pair"), covariance, {"units": "px²"}),
            "bragg_intensity": (
                peaks,
                np.ones(position.shape[:3]),
                {"units": "counts"},
            ),
        },
        {"component": ["y", "x"], "pair": ["yy", "yx", "xx"]},
    )


@pytest.fixture(scope="module")
def basis():
    both = [given_lattice(b[:2], b[2:], "px") for b in BASES]
    return xr.concat(both, "grain")


@pytest.fixture(scope="module")
def pulls(bragg, basis):
    return measure_pulls(bragg, fit_lattice(bragg, basis))


def test_each_grain_has_its_own(pulls):
    variance = pulls["pull_variance"].values
    strongest = int(variance[0].argmax())
    assert np.sqrt(variance[0, strongest]) == pytest.approx(PULL, rel=0.2)
    assert abs(pulls["pull_axes"].values[0, strongest, 1]) > 0.99
    assert variance[1].max() < 0.03**2
    assert pulls["pull_variance"].attrs["units"] == "px²"


def test_lattices_of_pulled_patterns_have_longer_error_bars(bragg, basis, pulls):
    plain = fit_lattice(bragg, basis)
    found = fit_lattice(bragg, basis, pulls=pulls)
    xr.testing.assert_equal(found["g1"].compute(), plain["g1"].compute())
    longer = np.sqrt(_variances(found) / _variances(plain))
    g1_x = longer[..., 3]
    assert np.median(g1_x[:, :20]) > 2
    assert np.median(g1_x[:, 20:]) < 1.05


def _variances(lattice):
    return np.diagonal(lattice["lattice_covariance"].values, axis1=2, axis2=3)


def test_blocks_do_not_matter(bragg, basis, pulls):
    cut = bragg.chunk(scan_y=7, scan_x=11)
    again = measure_pulls(cut, fit_lattice(cut, basis))
    xr.testing.assert_allclose(again, pulls)


def test_what_does_not_fit_is_refused(bragg, basis, pulls):
    lattice = fit_lattice(bragg, basis)
    with pytest.raises(SchemaError, match="bragg_q"):
        measure_pulls(bragg.drop_vars("bragg_q"), lattice)
    with pytest.raises(SchemaError, match=r"20, 40.*20, 39"):
        measure_pulls(bragg, lattice.isel(scan_x=slice(39)))
    with pytest.raises(SchemaError, match="basis"):
        measure_pulls(bragg, lattice.drop_attrs())
    other = pulls.copy()
    other["pull_variance"] = other["pull_variance"].assign_attrs(units="1/Å²")
    with pytest.raises(ParameterError, match="1/Å², the disks in px²"):
        fit_lattice(bragg, basis, pulls=other)
    with pytest.raises(ParameterError, match="2 grains"):
        fit_lattice(bragg, basis.isel(grain=[0]), pulls=pulls)
