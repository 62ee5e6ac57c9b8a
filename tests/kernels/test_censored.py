"""What saturated pixels say, against the normal distribution itself."""

import numpy as np
import pytest
from fcunet_dask.kernels.censored import saturated_deviances, weigh_saturated
from scipy.stats import norm

LEVEL = 100.0
MEANS = np.array([40.0, 90, 99, 100, 101, 110, 150, 300, 3000])
SIGMA = 10.0


def log_likelihood(mean):
    return norm.logsf(LEVEL, mean, SIGMA)


def test_slope_and_curvature_are_those_of_the_likelihood():
    weight = np.full((1, len(MEANS)), SIGMA**-2)
    rest = (LEVEL - MEANS)[None]
    weigh_saturated(weight, rest, np.ones(rest.shape, bool))
    h = 1e-2
    slope = (log_likelihood(MEANS + h) - log_likelihood(MEANS - h)) / (2 * h)
    bend = (
        2 * log_likelihood(MEANS)
        - log_likelihood(MEANS + h)
        - log_likelihood(MEANS - h)
    ) / h**2
    np.testing.assert_allclose((weight * rest)[0], slope, rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(weight[0], bend, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_other_pixels_and_those_that_do_not_measure_stay(dtype):
    weight = np.array([[0.01, 0.0, 0.01]], dtype)
    rest = np.array([[-20.0, -20.0, -20.0]], dtype)
    weigh_saturated(weight, rest, np.array([[True, True, False]]))
    assert weight[0, 0] < 0.01
    np.testing.assert_array_equal(weight[0, 1:], np.array([0.0, 0.01], dtype))
    np.testing.assert_array_equal(rest[0, 1:], [-20, -20])


def test_deviances_are_twice_the_likelihood():
    found = saturated_deviances(np.full(len(MEANS), SIGMA**2), LEVEL - MEANS)
    np.testing.assert_allclose(found, -2 * log_likelihood(MEANS), atol=1e-12)
