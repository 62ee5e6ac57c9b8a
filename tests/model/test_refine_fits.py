"""Real fits finish what a network starts."""

import numpy as np
import pytest
from fcunet_dask.kernels.aperture import disk_image
from fcunet_dask.kernels.disk_model import disk_model
from fcunet_dask.kernels.disks import pad_mask
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


@pytest.fixture(scope="module")
def scene():
    """A disk that can be fitted, one behind a beam stop, and a place without any."""
    places = np.array([[20.3, 15.6], [20.0, 45.0], [45.0, 30.0]])
    mean = sum(disk_image((64, 64), tuple(p), RADIUS, 0.5) for p in places[:2])
    counts = np.random.default_rng(5).poisson(2000 * mean)[None]
    mask = np.ones((64, 64))
    mask[8:32, 34:58] = 0
    model = disk_model(RADIUS, 0.5, structure=0.05)
    return (
        places,
        counts * mask,
        Refinement(model, pad_mask(mask, model.half), RADIUS, 1.0),
    )


def test_real_fits_are_used_where_there_is_a_disk_only(scene):
    places, counts, refine = scene
    start = places + np.array([0.4, -0.3])
    prior = candidates(start, [[0.2, 0, 0.2]] * 3)
    found = refine.fitted_where_possible(counts, prior)
    assert np.abs(found.position[0] - places[0]).max() < 0.06
    assert found.covariance[0, 0] < 0.01
    np.testing.assert_array_equal(found.position[1:], start[1:])
    np.testing.assert_array_equal(found.covariance[1:], [[1.8, 0, 1.8]] * 2)
    assert np.isfinite(found.brightness).all()
    total = 2000 * np.pi * RADIUS**2
    assert found.brightness[0] == pytest.approx(total, rel=0.05)
    assert (found.brightness[1:] < 0.02 * total).all()


def test_fitted_only_drops_what_could_not_be_fitted(scene):
    places, counts, refine = scene
    found = refine.fitted_only(counts, candidates(places + 0.3, [[0.2, 0, 0.2]] * 3))
    assert np.abs(found.position - places[:1]).max() < 0.06
    assert len(found.extra["probability"]) == len(found.score) == 1
