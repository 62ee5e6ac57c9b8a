"""The odds of a disk, from height, likeness and size."""

import numpy as np
import pytest
from fcunet_dask.model.probability import (
    HEIGHT_ALONE,
    TERMS,
    disk_probability,
    evidence,
)


def test_evidence_is_told_row_by_row():
    seen = evidence(np.array([0.5, 0.8]), np.array([0.2, -0.1]), np.e)
    np.testing.assert_allclose(
        seen, [[1, 0.5, 0.2, 0.1, 1], [1, 0.8, -0.1, -0.08, 1]], atol=1e-12
    )
    assert seen.shape == (2, TERMS)


def test_a_likeness_that_is_not_measured_says_nothing():
    seen = evidence(np.array([[0.5, 0.9]]), np.full((1, 2), np.nan), 3.0)
    assert seen.shape == (1, 2, TERMS)
    np.testing.assert_array_equal(seen[..., 2:4], 0)


def test_odds_are_those_of_the_weights():
    height = np.array([-2.0, 0.0, 3.0])
    odds = disk_probability(evidence(height, height, 2.0), HEIGHT_ALONE)
    np.testing.assert_allclose(np.log(odds / (1 - odds)), height)
    weights = (-9.9, 6.0, 4.8, 4.2, 3.4)
    likely, unlike, small = (
        disk_probability(evidence(np.array([0.6]), np.array([p]), r), weights)[0]
        for p, r in ((0.7, 3.0), (0.1, 3.0), (0.7, 2.5))
    )
    z = -9.9 + 3.6 + 4.8 * 0.7 + 4.2 * 0.42 + 3.4 * np.log(3)
    assert likely == pytest.approx(1 / (1 + np.exp(-z)))
    assert unlike < small < likely
