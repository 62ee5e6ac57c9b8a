"""Position errors of detectors whose errors are known, and the bound of a disk."""

from dataclasses import replace

import numpy as np
import pytest
from fcunet_dask.train.judge.positions import centre_bound, position_errors, whiten
from scipy.special import erfc
from tests.train.judge.scenes import echo


def test_a_perfect_detector_has_no_error(judged):
    errors = position_errors([echo(j) for j in judged], judged)
    assert errors.summary()["rmse_px"] == 0
    assert len(errors.error) == sum((j.label == 2).sum() for j in judged)


def test_known_noise_gives_its_size_and_its_coverage(judged):
    many = judged * 20
    found = [echo(j, noise=0.2, seed=i) for i, j in enumerate(many)]
    figures = position_errors(found, many).summary()
    assert figures["rmse_px"] == pytest.approx(0.2 * np.sqrt(2), rel=0.05)
    assert figures["rmse_inverse_angstrom"] == pytest.approx(0.02 * figures["rmse_px"])
    assert figures["within_1_sigma"] == pytest.approx(0.683, abs=0.02)
    assert figures["within_2_sigma"] == pytest.approx(0.954, abs=0.01)
    assert abs(figures["bias_y_px"]) < 0.02


def test_a_detector_that_reaches_the_bound_has_its_error(judged):
    many = judged * 20
    perfect = position_errors([echo(j) for j in many], many)
    noise = np.random.default_rng(0).normal(size=(len(perfect.bound), 2))
    at_bound = replace(perfect, error=noise * perfect.bound[:, None])
    assert at_bound.rmse == pytest.approx(perfect.least_rmse, rel=0.1)


def test_half_of_the_errors_at_the_bound_are_below_its_median(judged):
    perfect = position_errors([echo(j) for j in judged], judged)
    many = perfect.take(np.tile(np.arange(len(perfect.bound)), 20))
    noise = np.random.default_rng(1).normal(size=many.error.shape)
    at_bound = replace(many, error=noise * many.bound[:, None])
    assert at_bound.summary()["median_over_bound"] == pytest.approx(1, abs=0.04)


def test_error_bars_that_are_too_small_are_seen(judged):
    found = [echo(j, noise=0.2, deviation=0.1) for j in judged]
    assert position_errors(found, judged).summary()["within_1_sigma"] < 0.5


def test_disks_that_both_have_found(judged):
    all_ = [echo(j) for j in judged]
    some = [f.take(np.arange(len(f.score)) % 2 == 0) for f in all_]
    errors, fewer = position_errors(all_, judged), position_errors(some, judged)
    shared = errors.shared_with(fewer)
    assert shared.key.tolist() == fewer.key.tolist()


def test_whitened_errors_of_correlated_covariances():
    rng = np.random.default_rng(0)
    matrix = np.array([[0.5, 0.3], [0.3, 0.4]])
    error = rng.multivariate_normal([0, 0], matrix, 20000)
    white = whiten(error, np.tile([0.5, 0.3, 0.4], (20000, 1)))
    np.testing.assert_allclose(np.cov(white.T), np.eye(2), atol=0.03)
    assert np.isnan(whiten(error[:1], np.full((1, 3), np.nan))).all()


@pytest.mark.parametrize(("flux", "background"), [(1e4, 0.01), (1e3, 5.0)])
def test_bound_against_the_fisher_information_on_pixels(flux, background):
    radius, edge = 6.0, 0.7
    axis = np.arange(-14, 14.1, 0.1)  # fine pixels: the integral
    y, x = np.meshgrid(axis, axis, indexing="ij")

    def mean(cy, slope, level, floor):
        r = np.hypot(y - cy, x)
        outline = 0.5 * erfc((r - radius) / (np.sqrt(2) * edge))
        shape = level * outline * (1 + slope * (y - cy) / radius)
        return shape + floor

    start = np.array([0.0, 0.0, flux / (np.pi * radius**2), background])
    step = np.array([1e-3, 1e-3, 1e-2, 1e-3])
    gradient = np.array(
        [(mean(*(start + s)) - mean(*(start - s))) / 2 / s.max() for s in np.diag(step)]
    ).reshape(4, -1)
    fisher = 0.01 * (gradient / mean(*start).ravel()) @ gradient.T
    expected = np.sqrt(np.linalg.inv(fisher)[0, 0])
    assert centre_bound(flux, background, radius, edge) == pytest.approx(
        expected, rel=0.03
    )
