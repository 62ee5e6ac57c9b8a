"""The odds of a disk, from height, likeness, contrast and size."""

import numpy as np
import pytest
from fcunet_dask.model.probability import TERMS, disk_probability, evidence


def test_evidence_is_told_row_by_row():
    height, likeness = np.array([0.5, 0.8]), np.array([0.2, -0.1])
    seen = evidence(height, likeness, np.array([2.5, 3.0]), np.e)
    np.testing.assert_allclose(
        seen,
        [[1, 0.5, 0.2, 0.1, 1, 0.5], [1, 0.8, -0.1, -0.08, 1, 1 / (1 + np.exp(-1))]],
    )
    assert seen.shape == (2, len(TERMS))


def test_contrast_speaks_for_a_disk_when_it_is_more_than_noise_makes():
    """And once it does, more of it adds nothing."""
    places = np.zeros(6)
    clear = evidence(places, places, np.array([-9.0, 0, 1.5, 3.5, 10, 1e4]), 3.0)[:, 5]
    assert (clear[:3] < 0.15).all()
    assert (clear[3:] > 0.85).all()
    assert clear[5] - clear[4] < 1e-6


def test_a_likeness_that_is_not_measured_says_nothing():
    seen = evidence(np.array([0.5, 0.9]), np.full(2, np.nan), np.zeros(2), 3.0)
    np.testing.assert_array_equal(seen[:, 2:4], 0)


def test_odds_are_those_of_the_weights():
    weights = (-9.9, 6.0, 4.8, 4.2, 3.4, 0.5)
    seen = np.array(
        [[0.7, 1.0, 3.0], [0.1, 1.0, 3.0], [0.7, 1.0, 2.5], [0.7, 0.0, 3.0]]
    )
    likely, unlike, small, flat = (
        disk_probability(evidence(np.array(0.6), p, z, r), weights) for p, z, r in seen
    )
    z = -9.9 + 3.6 + 4.8 * 0.7 + 4.2 * 0.42 + 3.4 * np.log(3) + 0.5 / (1 + np.exp(3))
    assert likely == pytest.approx(1 / (1 + np.exp(-z)))
    assert unlike < small < likely
    assert flat < likely
