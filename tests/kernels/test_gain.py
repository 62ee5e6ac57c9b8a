"""Electrons are told from counts by their noise."""

import numpy as np
import pytest
from fcunet_dask.kernels.gain import counts_per_electron
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
