"""Strain figures of maps whose errors are known; the truth under the probe."""

import numpy as np
import pytest
import xarray as xr
from fcunet_dask.simulate.evaluation import multilayer_scan
from fcunet_dask.simulate.scans import lattice_truth
from fcunet_dask.train.judge.strain import (
    COMPONENTS,
    probe_profile,
    strain_figures,
    true_strain,
)


def strain_map(truth, gain=1.0, bias=0.0, noise=0.0):
    rng = np.random.default_rng(0)
    names = ["strain_xx", "strain_yy", "strain_xy", "rotation"]
    found = gain * truth + bias + noise * rng.standard_normal(truth.shape)
    dims = ("scan_y", "scan_x")
    values = {n: (dims, found[..., i]) for i, n in enumerate(names)}
    bars = {f"{n}_std": (dims, np.full(truth.shape[:2], noise)) for n in names}
    return xr.Dataset({**values, **bars})


@pytest.fixture(scope="module")
def truth():
    return true_strain("ideal", averaged=False)


def test_the_truth_itself(truth):
    figures = strain_figures(strain_map(truth), truth)
    assert set(figures) == set(COMPONENTS)
    assert figures["xx"]["rmse"] == 0
    assert figures["xx"]["gain"] == pytest.approx(1)
    assert np.isnan(figures["yy"]["gain"])


def test_gain_bias_and_noise_are_told_apart(truth):
    figures = strain_figures(strain_map(truth, 0.8, 1e-3, 2e-4), truth)["xx"]
    assert figures["gain"] == pytest.approx(0.8, abs=0.01)
    assert figures["noise"] == pytest.approx(2e-4, rel=0.15)
    assert figures["bias"] == pytest.approx(1e-3 - 0.2 * truth[..., 0].mean(), abs=5e-5)
    exact = strain_figures(strain_map(truth, noise=2e-4), truth)["xx"]
    assert exact["within_1_sigma"] == pytest.approx(0.683, abs=0.05)


def test_positions_that_failed_are_counted(truth):
    found = strain_map(truth)
    found["strain_xx"][:, :100] = np.nan
    assert strain_figures(found, truth)["xx"]["fitted"] == pytest.approx(101 / 201)


def test_the_probe_is_narrow_and_in_the_middle():
    offset, weight = probe_profile(multilayer_scan("ideal"))
    assert weight.sum() == pytest.approx(1)
    assert abs(weight @ offset) < 0.1
    bright = offset[weight > weight.max() / 2]
    # half width of the line profile of 2 mrad at 200 kV: about a quarter of λ/α = 12.5 Å
    assert 2 < bright.max() < 4


def test_the_probe_blurs_interfaces_and_keeps_plateaus(truth):
    averaged = true_strain("ideal", averaged=True)
    difference = np.abs(averaged - truth)[..., 0]
    slope = np.abs(np.gradient(truth[0, :, 0]))
    assert difference[0, slope.argmax()] < 2e-3
    assert difference.max() > 1e-4
    plateau = np.abs(np.abs(truth[0, :, 0]) - 0.01) < 1e-4
    assert plateau.any()
    assert difference[0, plateau].max() < 1e-3


def test_lattice_truth_is_that_of_the_scan(truth):
    recipe = multilayer_scan("ideal")
    vectors, strain = lattice_truth(recipe, recipe.places())
    np.testing.assert_array_equal(strain, truth)
    assert vectors.shape == (4, 201, 4)
