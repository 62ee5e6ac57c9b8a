"""Surfaces go through what is right, whatever the rest is."""

import numpy as np
import pytest
from fcunet_dask.kernels.surfaces import TERMS, direct_beam, fit_surface


def surface_of(kind, shape, rng):
    y, x = np.indices(shape) / max(*shape)
    terms = np.stack([np.ones(shape), y, x, y * y, x * y, x * x])[: TERMS[kind]]
    return np.moveaxis(
        np.tensordot(rng.uniform(-3, 3, (2, TERMS[kind])), terms, 1), 0, -1
    )


@pytest.mark.parametrize("kind", TERMS)
@pytest.mark.parametrize("shape", [(12, 20), (20, 12), (1, 30), (30, 1), (1, 1)])
def test_exact_values_give_the_exact_surface(kind, shape):
    truth = surface_of(kind, shape, np.random.default_rng(1)) + 60
    found, _, residual = fit_surface(truth, kind)
    np.testing.assert_allclose(found, truth, atol=1e-9)
    assert residual < 1e-9


@pytest.mark.parametrize("kind", ["plane", "parabola"])
@pytest.mark.parametrize("seed", range(3))
def test_a_third_of_the_values_may_be_wrong(kind, seed):
    rng = np.random.default_rng(seed)
    truth = surface_of(kind, (14, 18), rng)
    values = truth + 0.02 * rng.normal(size=truth.shape)
    wrong = rng.random(truth.shape[:2]) < 0.3
    values[wrong] += rng.uniform(-8, 8, (wrong.sum(), 2))
    found, variance, residual = fit_surface(values, kind)
    assert np.abs(found - truth).max() < 0.03
    assert residual == pytest.approx(0.02, rel=0.25)
    assert np.sqrt(variance).mean() < 0.01


def test_missing_values_are_filled_and_variance_grows_where_they_are():
    rng = np.random.default_rng(2)
    truth = surface_of("plane", (10, 12), rng)
    values = truth + 0.01 * rng.normal(size=truth.shape)
    values[:, 6:] = np.nan
    found, variance, _ = fit_surface(values, "plane")
    assert np.abs(found - truth).max() < 0.03
    assert (variance[:, -1] > variance[:, 2]).all()


def test_the_variance_is_that_of_the_surface():
    rng = np.random.default_rng(3)
    errors, said = [], []
    for _ in range(150):
        found, variance, _ = fit_surface(0.1 * rng.normal(size=(6, 8, 2)), "plane")
        errors.append(found)
        said.append(variance)
    ratio = np.mean(np.square(errors)) / np.mean(said)
    assert 0.8 < ratio < 1.3


def test_one_outlier_excludes_only_itself():
    values = np.zeros((4, 5, 2))
    values[2, 3] = 40.0
    found, _, _ = fit_surface(values, "plane")
    np.testing.assert_allclose(found, 0, atol=1e-9)


def test_nothing_measured_is_nan():
    found, variance, residual = fit_surface(np.full((3, 4, 2), np.nan), "plane")
    assert np.isnan(found).all()
    assert np.isnan(variance).all()
    assert np.isnan(residual)


def test_the_direct_beam_is_the_nearest_disk_within_reach():
    nan = [np.nan, np.nan]
    disks = np.array([[[9.0, 9.0], [1.0, 1.2]], [[8.0, 0.0], nan], [nan, nan]])
    found = direct_beam(disks, np.array([1.0, 1.0]), 3.0)
    np.testing.assert_array_equal(found, [[1.0, 1.2], nan, nan])
