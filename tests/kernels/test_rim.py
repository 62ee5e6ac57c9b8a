"""The rim tells where a disk is, whatever fills it."""

import numpy as np
import pytest
from fcunet_dask.kernels.aperture import disk_image
from fcunet_dask.kernels.camera import CameraNoise
from fcunet_dask.kernels.rim import disk_rim, rim_positions
from fcunet_dask.kernels.windows import pad_mask

SHAPE, RADIUS, EDGE = (48, 52), 6.4, 0.5
PLACE = np.array([[22.3, 27.8]])


def located(patterns, start=PLACE, mask=None, rim=None, gain=1.0):
    rim = rim or disk_rim(RADIUS, EDGE)
    mask = pad_mask(np.ones(SHAPE) if mask is None else mask, rim.half)
    n = len(patterns)
    return rim_positions(
        patterns, mask, np.arange(n), np.repeat(start, n, 0), rim, CameraNoise(gain)
    )


def disk(place=PLACE[0], radius=RADIUS):
    return disk_image(SHAPE, tuple(place), radius, EDGE)


@pytest.mark.parametrize("start", [(0.0, 0.0), (1.0, -0.6), (-0.7, 1.2)])
def test_a_flat_disk_is_found_from_around(start):
    found, variance = located(1e4 * disk()[None], PLACE + start)
    np.testing.assert_allclose(found, PLACE, atol=0.05)
    assert (variance < 1e-3).all()


def test_over_all_sub_pixel_places_the_mean_error_is_small():
    places = PLACE[0] + np.random.default_rng(1).uniform(-0.5, 0.5, (60, 2))
    found, _ = located(np.stack([1e4 * disk(p) for p in places]))
    error = found - places
    assert np.abs(error.mean(axis=0)).max() < 0.02
    assert np.sqrt((error**2).mean()) < 0.06


def test_fillings_hardly_matter():
    """The centre of mass of these disks is off by more than a tenth of the radius."""
    y, x = (np.indices(SHAPE).T - PLACE[0]).T
    for filling in (1 + 0.12 * x, 1.5 + np.sin(0.5 * y + 1)):
        image = disk() * np.maximum(filling, 0)
        centre = np.array([(image * y).sum(), (image * x).sum()]) / image.sum()
        assert np.hypot(*centre) > 0.08 * RADIUS
        found, _ = located(1e4 * image[None])
        assert np.hypot(*(found - PLACE)[0]) < 0.6 * np.hypot(*centre)


@pytest.mark.parametrize("gain", [1.0, 7.0])
def test_the_variance_is_the_scatter(gain):
    mean = 40 * disk() + 2
    counts = gain * np.random.default_rng(2).poisson(mean, (2000, *SHAPE))
    found, variance = located(counts, gain=gain)
    ok = np.isfinite(variance).all(axis=1)
    assert ok.mean() > 0.95
    scatter = found[ok].std(axis=0)
    np.testing.assert_allclose(
        np.sqrt(np.median(variance[ok], axis=0)), scatter, rtol=0.3
    )


@pytest.mark.parametrize("sigma", [2.0, 8.0])
def test_the_variance_holds_readout_noise_and_no_dark_level(sigma):
    rng = np.random.default_rng(3)
    counts = rng.poisson(40 * disk() + 2, (1500, *SHAPE))
    counts = 3 * (counts + rng.normal(0, sigma, counts.shape)) + 700
    rim = disk_rim(RADIUS, EDGE)
    mask = pad_mask(np.ones(SHAPE), rim.half)
    camera = CameraNoise(3.0, 3 * sigma, 700.0)
    start = np.repeat(PLACE, 1500, 0)
    found, variance = rim_positions(counts, mask, np.arange(1500), start, rim, camera)
    ok = np.isfinite(variance).all(axis=1)
    said = np.sqrt(np.median(variance[ok], axis=0))
    np.testing.assert_allclose(said, found[ok].std(axis=0), rtol=0.3)


def test_nothing_is_seen_far_off_or_behind_a_mask():
    counts = 1e4 * disk()[None]
    assert np.isinf(located(counts, PLACE + 4.0)[1]).all()
    mask = np.ones(SHAPE)
    mask[22, 33] = 0
    assert np.isinf(located(counts, mask=mask)[1]).all()
    at_border = np.array([[3.0, 27.8]])
    assert np.isinf(located(1e4 * disk(at_border[0])[None], at_border)[1]).all()


def test_the_measured_image_of_a_probe_takes_the_place_of_the_disk():
    bullseye = disk() - 0.7 * disk(radius=0.5 * RADIUS)
    rim = disk_rim(RADIUS, EDGE, bullseye, tuple(PLACE[0]))
    moved = PLACE[0] + (0.4, -0.3)
    image = disk(moved) - 0.7 * disk(moved, 0.5 * RADIUS)
    found, _ = located(1e4 * image[None], rim=rim)
    np.testing.assert_allclose(found[0], moved, atol=0.05)
