"""Two measurements of a position become one, by the laws of Gaussians."""

from types import SimpleNamespace

import numpy as np
import pytest
from fcunet_dask.model.refine import Refinement
from fcunet_dask.model.search import Candidates

RADIUS = 5.0


def candidates(position, covariance):
    m = len(position)
    return Candidates(
        np.zeros(m, int),
        np.array(position, float),
        np.full(m, 0.9),
        np.full(m, 0.8),
        np.array(covariance, float),
        {"probability": np.full(m, 0.9)},
    )


def fitted(monkeypatch, position, covariance, good, filling=0.0):
    """Let the fit say this."""
    bad = np.where(good, 0.0, np.array(position, float)[:, 0])
    fits = SimpleNamespace(
        position=np.array(position, float),
        covariance=np.array(covariance, float),
        intensity=100.0 + bad,
        filling=np.full(len(position), filling),
    )
    answer = (fits, np.array(good))
    monkeypatch.setattr(Refinement, "fit", lambda *_: answer)
    return Refinement(None, np.ones((9, 9)), RADIUS, 1.0)


def test_the_mean_is_weighted_by_inverse_variances(monkeypatch):
    refine = fitted(monkeypatch, [[10.2, 20.1]], [[0.01, 0, 0.09]], [True])
    found = refine.combined(None, candidates([[10, 20]], [[0.04, 0, 0.03]]), 0.1)
    y = (10 / 0.04 + 10.2 / 0.01) / (1 / 0.04 + 1 / 0.01)
    x = (20 / 0.03 + 20.1 / 0.09) / (1 / 0.03 + 1 / 0.09)
    np.testing.assert_allclose(found.position, [[y, x]], rtol=1e-12)
    variance = [1 / (1 / 0.04 + 1 / 0.01), 0, 1 / (1 / 0.03 + 1 / 0.09)]
    np.testing.assert_allclose(found.covariance, [variance], atol=1e-15)
    assert found.brightness == [100]
    assert found.extra["probability"] == [0.9]


def test_correlated_errors_follow_the_information_matrix(monkeypatch):
    rng = np.random.default_rng(4)
    root = rng.normal(0, 0.3, (2, 7, 2, 2))
    prior, fit = root @ root.transpose(0, 1, 3, 2) + 0.01 * np.eye(2)
    flat = [c.reshape(-1, 4)[:, [0, 1, 3]] for c in (prior, fit)]
    start, end = 30 + rng.normal(0, 0.05, (2, 7, 2))
    refine = fitted(monkeypatch, end, flat[1], np.ones(7, bool))
    found = refine.combined(None, candidates(start, flat[0]), 0.1)
    for i in range(7):
        w1, w2 = np.linalg.inv(prior[i]), np.linalg.inv(fit[i])
        both = np.linalg.inv(w1 + w2)
        mean = both @ (w1 @ start[i] + w2 @ end[i])
        np.testing.assert_allclose(found.position[i], mean, rtol=1e-9)
        np.testing.assert_allclose(
            found.covariance[i], both.ravel()[[0, 1, 3]], rtol=1e-9
        )


def test_structured_disks_have_a_systematic_error_too(monkeypatch):
    """Half of it at a filling of 4 %, as a variance."""
    refine = fitted(monkeypatch, [[10.2, 20]], [[0.01, 0, 0.01]], [True], 0.04)
    found = refine.combined(None, candidates([[10, 20]], [[0.04, 0, 0.04]]), 0.1)
    variance = 0.01 + 0.5 * (0.1 * RADIUS) ** 2
    y = (10 / 0.04 + 10.2 / variance) / (1 / 0.04 + 1 / variance)
    np.testing.assert_allclose(found.position, [[y, 20]])
    np.testing.assert_allclose(found.covariance[0, 0], 1 / (1 / 0.04 + 1 / variance))


@pytest.mark.parametrize(("sigmas", "kept"), [(3.9, False), (4.1, True)])
def test_a_fit_that_is_far_off_is_not_believed(monkeypatch, sigmas, kept):
    away = sigmas * np.sqrt(0.04 + 0.05)
    refine = fitted(monkeypatch, [[10 + away, 20]], [[0.05, 0, 0.05]], [True])
    found = refine.combined(None, candidates([[10, 20]], [[0.04, 0, 0.04]]), 0.1)
    assert (found.position[0, 0] == 10) == kept
    assert (found.covariance == [[0.04, 0, 0.04]]).all() == kept


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_a_failed_fit_leaves_the_position_of_the_network(monkeypatch, value):
    refine = fitted(
        monkeypatch,
        [[value, value], [10.2, 20.2]],
        [[value, value, value], [0.04, 0, 0.04]],
        [False, True],
    )
    prior = [[0.04, 0.01, 0.09], [0.04, 0, 0.04]]
    found = refine.combined(None, candidates([[10, 20], [10, 20]], prior), 0.1)
    np.testing.assert_array_equal(found.position[0], [10, 20])
    np.testing.assert_array_equal(found.covariance[0], prior[0])
    np.testing.assert_allclose(found.position[1], [10.1, 20.1])
    assert np.isfinite(found.brightness).all()
