"""Electrons are told from counts by their noise."""

import numpy as np
import pytest
import scipy.ndimage
from fcunet_dask.kernels.aperture import disk_image
from fcunet_dask.kernels.gain import counts_per_electron, single_electron
from tests.strategies import lattice_patterns


@pytest.mark.parametrize("gain", [1.0, 7.3, 150.0])
@pytest.mark.parametrize("electrons", [2e3, 4e4, 1e6])
def test_counts_of_an_electron(gain, electrons):
    rng = np.random.default_rng(7)
    patterns, _, _ = lattice_patterns(rng, 5.0, (128, 128), 9, electrons, 0.1)
    counts = patterns * gain
    mask = np.ones((128, 128), bool)
    assert counts_per_electron(counts, mask) == pytest.approx(gain, rel=0.15)


def test_the_gain_under_readout_noise():
    rng = np.random.default_rng(8)
    patterns, _, _ = lattice_patterns(rng, 5.0, (128, 128), 9, 1e5, 0.5)
    counts = (150 * patterns + rng.normal(0, 12, patterns.shape)).astype(np.float32)
    mask = np.ones((128, 128), bool)
    assert counts_per_electron(counts, mask) == pytest.approx(150, rel=0.2)


@pytest.mark.parametrize("gain", [100.0, 300.0])
def test_whole_numbers_of_an_integrating_camera_are_no_electrons(gain):
    """Rounded, dark-subtracted frames count to one, too."""
    rng = np.random.default_rng(31)
    patterns, _, _ = lattice_patterns(rng, 5.0, (96, 96), 24, 2e5, 0.1)
    patterns = gain * patterns + rng.normal(0, gain / 10, patterns.shape)
    mask = np.ones(patterns.shape[1:], bool)
    for frames in (np.rint(patterns), np.clip(np.rint(patterns), 0, None)):
        assert counts_per_electron(frames, mask) == pytest.approx(gain, rel=0.12)


@pytest.mark.parametrize("readout", [1.0, 2.0, 3.0])
def test_whole_numbers_with_readout_noise_are_those_before_rounding(readout):
    """One electron is one count: but the least count is noise, not an electron."""
    rng = np.random.default_rng(33)
    patterns, _, _ = lattice_patterns(rng, 5.0, (96, 96), 24, 2e4, 0.1)
    patterns = patterns + rng.normal(0, readout, patterns.shape)
    mask = np.ones(patterns.shape[1:], bool)
    real, whole = (counts_per_electron(p, mask) for p in (patterns, np.rint(patterns)))
    assert whole == pytest.approx(real, rel=0.1)
    assert real > 1.1


def test_the_least_count_is_no_electron_where_no_pixel_is_empty():
    rng = np.random.default_rng(35)
    patterns, _, _ = lattice_patterns(rng, 5.0, (96, 96), 9, 4e5, 0.1)
    counts = patterns + 20 + rng.normal(0, 0.5, patterns.shape)
    gain = counts_per_electron(counts, np.ones((96, 96), bool))
    assert 0.4 < gain < 1.2


def test_without_noise_the_least_count_is_the_unit():
    """Means of many patterns, as they are published: smooth, in units of their own."""
    rows, columns = np.indices((64, 64)) // 8
    steps = 1e-3 * (1 + rows + columns)
    assert counts_per_electron(steps[None], np.ones((64, 64), bool)) == 1e-3


def test_nothing_to_measure_the_gain_on_is_one():
    assert counts_per_electron(np.zeros((2, 32, 32)), np.ones((32, 32), bool)) == 1


def small_disks(rng, radius, electrons, background):
    """Bright disks of few pixels, 18 px apart, and hardly anything between them."""
    sites = np.arange(9.4, 120, 18.0)
    disks = sum(
        disk_image((128, 128), (y, x), radius, 0.6) for y in sites for x in sites
    )
    expected = electrons / (np.pi * radius**2) * disks + background
    return rng.poisson(expected, (9, 128, 128)).astype(float)


@pytest.mark.parametrize("radius", [1.5, 2.0])
@pytest.mark.parametrize("electrons", [500.0, 2e4])
@pytest.mark.parametrize("background", [0.0, 0.05])
def test_slopes_of_small_disks_are_no_noise_of_a_high_gain(
    radius, electrons, background
):
    patterns = small_disks(np.random.default_rng(3), radius, electrons, background)
    mask = np.ones((128, 128), bool)
    assert counts_per_electron(patterns, mask) == 1
    assert single_electron(patterns, mask) == 1


@pytest.mark.parametrize("gain", [20, 100])
@pytest.mark.parametrize("background", [0.003, 0.1])
def test_lone_counts_of_an_integrating_camera_are_many(gain, background):
    """An electron gives so many counts, more or less, in its pixel or around it."""
    rng = np.random.default_rng(4)
    patterns = small_disks(rng, 4.0, 2e3, background)
    mask = np.ones((128, 128), bool)
    single = np.rint(patterns * rng.gamma(4, gain / 4, patterns.shape))
    shared = np.rint(scipy.ndimage.gaussian_filter(gain * patterns, (0, 1, 1)))
    for counts in (single, shared):
        assert (counts == 0).mean() > 0.01
        assert single_electron(counts, mask) == 0
