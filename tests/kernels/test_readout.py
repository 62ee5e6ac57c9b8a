"""What a camera adds to its electrons is measured, and nothing where it adds nothing."""

import numpy as np
import pytest
from fcunet_dask.kernels.aperture import disk_image
from fcunet_dask.kernels.detector import point_spread
from fcunet_dask.kernels.noise import shared_electrons, shared_gain
from fcunet_dask.kernels.readout import dark_level, readout_noise
from tests.strategies import lattice_patterns

MASK = np.ones((96, 96), bool)


def electrons(seed, dose=1e5, background=0.1, n=24):
    return lattice_patterns(
        np.random.default_rng(seed), 5.0, MASK.shape, n, dose, background
    )[0]


def noise(seed, shape, sigma):
    return np.random.default_rng(seed).normal(0, sigma, shape)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0, 4.0, 8.0])
@pytest.mark.parametrize("gain", [1.0, 20.0])
@pytest.mark.parametrize("rounded", [False, True])
def test_readout_noise_and_gain(sigma, gain, rounded):
    counts = electrons(1)
    counts = gain * (counts + noise(2, counts.shape, sigma))
    expected = gain * sigma
    if rounded:
        counts, expected = np.rint(counts), np.hypot(expected, np.sqrt(1 / 12))
    readout, found = readout_noise(counts, MASK)
    assert readout == pytest.approx(expected, rel=0.05)
    assert found == pytest.approx(gain, rel=0.2)
    assert dark_level(counts, MASK) == 0
    assert shared_gain(counts, MASK, readout, found) == 0


@pytest.mark.parametrize("background", [0.0, 0.1, 3.0, 30.0])
@pytest.mark.parametrize("dose", [1e3, 1e5, 1e7])
def test_counting_cameras_have_none(dose, background):
    counts = electrons(3, dose, background, n=9)
    assert readout_noise(counts, MASK)[0] == 0
    assert dark_level(counts, MASK) == 0


@pytest.mark.parametrize("seed", range(5))
def test_one_pattern_tells_readout_noise_from_none(seed):
    counts = electrons(seed, n=1)
    assert readout_noise(counts, MASK)[0] == 0
    noisy = counts + noise(seed, counts.shape, 2.0)
    assert readout_noise(noisy, MASK)[0] == pytest.approx(2, rel=0.15)


@pytest.mark.parametrize("gain", [1.0, 10.0])
@pytest.mark.parametrize("dose", [1e4, 1e6])
@pytest.mark.parametrize("sigma", [0.0, 0.3, 2.0])
def test_the_dark_level_of_a_camera(gain, dose, sigma):
    counts = electrons(32, dose, n=9)
    counts = gain * (counts + noise(33, counts.shape, sigma))
    assert dark_level(counts, MASK) == 0
    for level in (100 * gain, -0.7 * gain):
        found = dark_level(counts + level, MASK)
        if level > 0 or sigma:
            assert found == pytest.approx(level, abs=0.2 * gain)


def test_a_dark_level_has_no_influence_on_the_noise():
    counts = electrons(4)
    counts = counts + noise(5, counts.shape, 2.0)
    plain, raised = readout_noise(counts, MASK), readout_noise(counts + 300, MASK)
    assert raised[0] == 0  # the darkest pixels would have more electrons than noise
    assert raised[1] == pytest.approx(plain[1], rel=1e-3)


@pytest.mark.parametrize("sigma", [0.6, 1.0, 1.4])
@pytest.mark.parametrize("level", [0, 60, 1000])
def test_scintillators_hide_electrons_but_not_a_dark_level(sigma, level):
    light = electrons(6, 4e5, background=0.3)
    counts = 20 * np.maximum(point_spread(light, sigma, 0.0, 1.0), 0)
    counts = np.rint(counts + noise(7, counts.shape, 2.0) + level)
    found = dark_level(counts, MASK)
    assert level - 2 < found < level + 20 * 0.3 + 2 if level else found == 0


def test_electrons_by_the_noise_that_neighbours_share():
    """Backgrounds of few electrons that rise from the middle to both sides."""
    rng = np.random.default_rng(8)
    rise = 1 + 12 * np.abs(np.arange(128) - 63.5) / 64
    mean = np.broadcast_to(rise, (16, 128, 128))
    light = point_spread(rng.poisson(mean), 1.0, 0.0, 1.0)
    counts = 20 * light + rng.normal(0, 2, light.shape) + 50
    mask = np.ones((128, 128), bool)
    darkest = 20 * np.sort(mean[0, 0])[:13].mean()
    found = shared_electrons(counts, mask, 4.0)
    assert found == pytest.approx(darkest, rel=0.35)
    white = rng.normal(50, 2, light.shape)
    assert shared_electrons(white, mask, 4.2) == 0
    assert np.isinf(shared_electrons(white[:1, :32], mask[:32], 4.0))


def test_a_bright_background_is_no_dark_level():
    counts = np.random.default_rng(33).poisson(40.0, (4, 64, 64))
    counts[:, 20:40, 20:40] += np.random.default_rng(34).poisson(400.0, (4, 20, 20))
    assert dark_level(counts, np.ones((64, 64), bool)) == 0


@pytest.mark.parametrize("background", [12.0, 100.0])
def test_structure_makes_no_dark_level_of_counted_electrons(background):
    """Fringes across disks are taken for noise: one electron seems to make many counts."""
    rng = np.random.default_rng(16)
    y, x = np.indices(MASK.shape)
    disks = sum(
        disk_image(MASK.shape, (cy, cx), 2.0, 0.5)
        * (1 + 0.4 * np.cos(rng.normal(0, 2) * (y - cy) + rng.normal(0, 2) * (x - cx)))
        for cy in range(8, 96, 8)
        for cx in range(8, 48, 8)
    )
    counts = rng.poisson(3e3 * disks + background, (12, *MASK.shape))
    assert dark_level(counts, MASK) == 0
    assert readout_noise(counts, MASK)[0] == 0
    raised = counts + 1000
    assert dark_level(raised, MASK) == pytest.approx(1000 + background, abs=1)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 20, 20), (2, 64, 64)])
def test_few_pixels_or_none_say_nothing(shape):
    mask = np.ones(shape[1:], bool)
    for level in (0.0, 3.0):
        flat = np.full(shape, level)
        assert dark_level(flat, mask) == 0
        assert readout_noise(flat, mask) == (0, 1)
    assert readout_noise(np.zeros(shape), ~mask) == (0, 1)


def test_pixels_that_do_not_measure_are_not_looked_at():
    counts = electrons(9)
    counts = counts + noise(10, counts.shape, 2.0)
    bad = np.random.default_rng(11).random(MASK.shape) < 2e-3
    counts[:, bad] = 1e5
    assert readout_noise(counts, MASK & ~bad)[0] == pytest.approx(2, rel=0.05)


def test_noise_that_bright_pixels_do_not_have_is_not_of_the_readout():
    """Compressed images, as they are published: dark pixels are the noisiest."""
    roots = electrons(12, background=30.0) ** 0.25
    assert readout_noise(100 * roots - 200, MASK)[0] == 0


def test_below_a_dark_level_there_is_nothing():
    """Means of many patterns on a dark frame: smooth, but not by a camera."""
    rng = np.random.default_rng(14)
    counts = electrons(15, n=4) / 50 + 1 + rng.normal(0, 1e-3, (4, 96, 96))
    assert dark_level(counts, MASK) == pytest.approx(1, abs=0.02)
    counts[:, :4, :30] = 0
    assert dark_level(counts, MASK) == 0
