"""Noise that a scintillator spreads is told from structure, and measured."""

import numpy as np
import pytest
from fcunet_dask.kernels.detector import point_spread
from fcunet_dask.kernels.gain import counts_per_electron
from fcunet_dask.kernels.noise import shared_gain
from tests.strategies import lattice_patterns

MASK = np.ones((128, 128), bool)


@pytest.mark.parametrize("sigma", [0.6, 0.9, 1.2])
def test_the_gain_from_noise_alone(sigma):
    rng = np.random.default_rng(1)
    white = rng.poisson(400.0, (4, 128, 128)).astype(np.float32)
    spread = 7 * point_spread(white, sigma, 0.0, 1.0)
    at_a_rim = 7 * np.exp(-4 * (np.pi * sigma * 0.2) ** 2)
    assert at_a_rim / 1.7 < shared_gain(spread, MASK) < at_a_rim * 1.7
    assert shared_gain(white, MASK) == 0


@pytest.mark.parametrize("electrons", [1e5, 1e6])
@pytest.mark.parametrize("structure", [0.1, 0.5])
def test_the_gain_of_a_scintillator(electrons, structure):
    """Neighbours alone would say less than a tenth of it."""
    rng = np.random.default_rng(2)
    patterns, _, _ = lattice_patterns(rng, 5.0, (128, 128), 9, electrons, structure)
    patterns = patterns + rng.poisson(2.0, patterns.shape)
    counts = 30 * np.maximum(point_spread(patterns, 0.9, 0.0, 1.0), 0)
    counts = np.rint(counts + rng.normal(0, 1, counts.shape))
    at_a_rim = 30 * np.exp(-4 * (np.pi * 0.9 * 0.2) ** 2)
    assert at_a_rim / 3 < counts_per_electron(counts, MASK) < at_a_rim * 3
    assert shared_gain(patterns, MASK) == 0
    assert counts_per_electron(patterns, MASK) == pytest.approx(1, rel=0.15)


def test_bad_pixels_are_not_looked_at():
    rng = np.random.default_rng(3)
    counts = point_spread(rng.poisson(100.0, (2, 128, 128)), 1.0, 0.0, 1.0)
    bad = rng.random(MASK.shape) < 1e-3
    counts[:, bad] = 1e5
    assert 0.1 < shared_gain(counts, MASK & ~bad) < 0.4


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 20, 20), (1, 40, 300)])
def test_few_pixels_or_none_say_nothing(shape):
    assert shared_gain(np.zeros(shape), np.ones(shape[1:], bool)) == 0
    flat = np.full(shape, 3.0)
    assert shared_gain(flat, np.ones(shape[1:], bool)) == 0
    assert shared_gain(flat, np.zeros(shape[1:], bool)) == 0
