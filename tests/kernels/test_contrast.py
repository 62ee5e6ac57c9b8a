"""The contrast of a disk to its ring is what counting statistics say."""

import numpy as np
import pytest
from fcunet_dask.kernels.aperture import disk_image
from fcunet_dask.kernels.contrast import ring_contrast

SHAPE, RADIUS = (60, 64), 5.0
PLACE = (30.3, 31.8)
EVERYWHERE = np.ones(SHAPE, np.float32)


def contrast(patterns, mask=EVERYWHERE, place=PLACE):
    n = len(patterns)
    places = np.tile(place, (n, 1)).astype(float)
    return ring_contrast(patterns, mask, np.arange(n), places, RADIUS)


@pytest.mark.parametrize("level", [2.0, 50.0])
def test_without_a_disk_it_is_normal(level):
    patterns = np.random.default_rng(3).poisson(level, (3000, *SHAPE))
    z = contrast(patterns)
    assert abs(z.mean()) < 0.08
    assert z.std() == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize("sigma", [1.0, 6.0])
def test_without_a_disk_it_is_normal_under_readout_noise(sigma):
    rng = np.random.default_rng(5)
    patterns = rng.poisson(2.0, (3000, *SHAPE)) + rng.normal(0, sigma, (3000, *SHAPE))
    n = np.arange(3000)
    places = np.tile(PLACE, (3000, 1)).astype(float)
    z = ring_contrast(patterns, EVERYWHERE, n, places, RADIUS, sigma**2)
    assert abs(z.mean()) < 0.08
    assert z.std() == pytest.approx(1, abs=0.06)


def test_a_disk_stands_out_by_its_share_of_the_noise():
    level, height = 20.0, 6.0
    mean = level + height * disk_image(SHAPE, PLACE, RADIUS, 0.3)
    z = contrast(np.random.default_rng(4).poisson(mean, (1000, *SHAPE)))
    inside, ring = np.pi * 4.5**2, np.pi * (9.0**2 - 6.0**2)
    expected = height / np.sqrt((level + height) / inside + level / ring)
    assert z.mean() == pytest.approx(expected, rel=0.06)


def test_what_is_not_measured_does_not_count():
    level = np.full((1, *SHAPE), 20.0)
    level[0, 30:] = 1000.0  # behind a beam stop that is known
    mask = EVERYWHERE.copy()
    mask[30:] = 0
    assert contrast(level, mask)[0] == 0
    mask[:] = 0
    assert contrast(level, mask)[0] == 0


def test_the_border_is_the_end_of_the_pattern():
    level = np.full((1, *SHAPE), 20.0)
    assert contrast(level, place=(2.0, 61.5))[0] == 0
    assert np.isfinite(contrast(level, place=(-20.0, 31.0))).all()
    assert contrast(level, place=(-20.0, 31.0))[0] == 0


def test_no_electrons_are_no_contrast():
    assert contrast(np.zeros((2, *SHAPE))).tolist() == [0, 0]


def test_each_disk_is_looked_for_in_its_own_pattern():
    patterns = np.full((2, *SHAPE), 9.0)
    patterns[1] += 90 * disk_image(SHAPE, PLACE, RADIUS, 0.3)
    image, places = np.array([1, 0, 1]), np.array([PLACE, PLACE, (12.0, 12.0)])
    z = ring_contrast(patterns, EVERYWHERE, image, places, RADIUS)
    assert z[0] > 20
    assert z[1:].tolist() == [0, 0]
