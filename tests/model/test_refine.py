"""The fit of a disk has the last word on its position, where it can be believed."""

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


def fitted(monkeypatch, position, covariance, good):
    """Let the fit say this."""
    bad = np.where(good, 0.0, np.array(position, float)[:, 0])
    fits = SimpleNamespace(
        position=np.array(position, float),
        covariance=np.array(covariance, float),
        intensity=100.0 + bad,
    )
    answer = (fits, np.array(good))
    monkeypatch.setattr(Refinement, "fit", lambda *_: answer)
    return Refinement(None, np.ones((9, 9)), RADIUS, 1.0)


def test_a_good_fit_takes_the_place_of_the_position(monkeypatch):
    refine = fitted(monkeypatch, [[10.2, 20.1]], [[0.01, 0.002, 0.09]], [True])
    prior = candidates([[10, 20]], [[0.04, 0, 0.03]])
    found = refine.fitted_where_possible(None, prior)
    np.testing.assert_allclose(found.position, [[10.2, 20.1]], rtol=1e-12)
    np.testing.assert_allclose(found.covariance, [[0.01, 0.002, 0.09]])
    assert found.brightness == [100]
    assert found.extra["probability"] == [0.9]


@pytest.mark.parametrize(("sigmas", "kept"), [(3.9, False), (4.1, True)])
def test_a_fit_that_is_far_off_is_not_believed(monkeypatch, sigmas, kept):
    away = sigmas * np.sqrt(0.04 + 0.05)
    refine = fitted(monkeypatch, [[10 + away, 20]], [[0.05, 0, 0.05]], [True])
    prior = candidates([[10, 20]], [[0.04, 0, 0.04]])
    found = refine.fitted_where_possible(None, prior)
    assert (found.position[0, 0] == 10) == kept
    expected = [[0.36, 0, 0.36]] if kept else [[0.05, 0, 0.05]]
    np.testing.assert_allclose(found.covariance, expected)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_a_failed_fit_leaves_the_position_of_the_network(monkeypatch, value):
    refine = fitted(
        monkeypatch,
        [[value, value], [10.2, 20.2]],
        [[value, value, value], [0.04, 0, 0.04]],
        [False, True],
    )
    prior = [[0.04, 0.01, 0.09], [0.04, 0, 0.04]]
    start = candidates([[10, 20], [10, 20]], prior)
    found = refine.fitted_where_possible(None, start)
    np.testing.assert_array_equal(found.position[0], [10, 20])
    np.testing.assert_allclose(found.covariance[0], 9 * np.array(prior[0]))
    np.testing.assert_allclose(found.position[1], [10.2, 20.2])
    assert np.isfinite(found.brightness).all()
