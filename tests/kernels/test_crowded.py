"""Disks that leave no empty place are not taken for noise, and rough backgrounds are."""

import numpy as np
import pytest
import scipy.ndimage
from fcunet_dask.kernels.aperture import disk_image
from fcunet_dask.kernels.correlation import (
    noise_level,
    normalized_correlation,
    normalized_template,
)
from fcunet_dask.kernels.crowded import noise_between
from fcunet_dask.kernels.maxima import local_maxima

SHAPE, RADIUS = (96, 96), 3.0


def corner(image):
    return np.roll(image, (-(SHAPE[0] // 2), -(SHAPE[1] // 2)), (0, 1))


@pytest.fixture(scope="module")
def template():
    probe = disk_image(SHAPE, (48, 48), RADIUS, 0.3)
    window = disk_image(SHAPE, (48, 48), 1.35 * RADIUS, 0.01) > 0.5
    return normalized_template(
        corner(np.sqrt(probe)), corner(window.astype(float)), np.ones(SHAPE)
    )


def noises(expected, template, n=20):
    """Both estimates, and the noise itself: what repeated patterns differ by."""
    counts = np.random.default_rng(3).poisson(expected, (n, *SHAPE)).astype("f4")
    likeness, strength = normalized_correlation(counts, template)
    peaks = local_maxima(likeness, 0.3, 3)
    level = noise_level(strength, template, counts)
    between = noise_between(
        strength, template, peaks, likeness[tuple(peaks)], level, 2.35 * RADIUS, 5.0
    )
    return level, between, strength.std(axis=0).mean()


def lattice(spacing, electrons):
    sites = np.arange(6.5, 90, spacing)
    return sum(
        electrons * disk_image(SHAPE, (y, x), RADIUS, 0.3) for y in sites for x in sites
    )


@pytest.mark.parametrize("spacing", [8.0, 10.0, 12.0])
@pytest.mark.parametrize(("disk", "background"), [(20.0, 3.0), (8.0, 1.0), (2.0, 0.3)])
def test_between_crowded_disks_is_the_noise_that_there_is(
    template, spacing, disk, background
):
    level, between, real = noises(lattice(spacing, disk) + background, template)
    assert level.mean() > 1.3 * real
    np.testing.assert_allclose(between, real, rtol=0.2)


def test_a_rough_background_is_noise_all_the_same(template):
    """Speckle of the size of disks, five times the noise of electrons."""
    rough = np.random.default_rng(8).normal(size=(10, *SHAPE))
    rough = scipy.ndimage.gaussian_filter(rough, (0, 2, 2), mode="wrap")
    rough *= 100 / rough.std()
    level, between, _ = noises(np.maximum(400 + rough, 1), template, 10)
    np.testing.assert_allclose(level, 1.25)
    assert between.min() > 1.2


def test_what_is_no_noisier_than_electrons_is_left_alone(template):
    level, between, _ = noises(lattice(40.0, 50.0) + 0.02, template)
    assert (level < 0.5).all()
    np.testing.assert_array_equal(between, level)


def test_a_pattern_does_not_depend_on_those_beside_it(template):
    expected = np.stack([lattice(8.0, 8.0) + 1, lattice(40.0, 8.0) + 1])
    counts = np.random.default_rng(5).poisson(expected).astype("f4")
    both, alone = [], []
    for part, out in ((counts, both), (counts[:1], alone), (counts[1:], alone)):
        likeness, strength = normalized_correlation(part, template)
        peaks = local_maxima(likeness, 0.3, 3)
        level = noise_level(strength, template, part)
        like = likeness[tuple(peaks)]
        reach = 2.35 * RADIUS
        out += [*noise_between(strength, template, peaks, like, level, reach, 5.0)]
    np.testing.assert_allclose(both, alone, rtol=1e-5)
