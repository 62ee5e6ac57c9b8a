"""Twins are told from the finer lattice that holds both; one crystal is left alone."""

import numpy as np
import pytest
from fcunet_dask.kernels.variants import two_variants

INDICES = np.stack(np.meshgrid(np.arange(-9, 10), np.arange(-9, 10)), -1).reshape(-1, 2)
VARIANTS = {
    3: (np.array([[1, 1], [0, 3]]), np.array([[1, 2], [0, 3]])),
    5: (np.array([[1, 2], [0, 5]]), np.array([[1, 3], [0, 5]])),
    7: (np.array([[1, 2], [0, 7]]), np.array([[1, 4], [0, 7]])),
}
"""Sublattices of the index: Σ3 of fcc seen along <110>, two square ones, two hexagonal."""


def is_on(matrix):
    inverse = INDICES @ np.linalg.inv(matrix)
    return np.abs(inverse - np.rint(inverse)).max(axis=1) < 1e-6


def weights(seed=0):
    return np.random.default_rng(seed).uniform(0.3, 1.3, len(INDICES))


@pytest.mark.parametrize("index", VARIANTS)
@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.75, 0.25), (0.2, 0.8)])
def test_two_variants_are_found_the_stronger_first(index, shares):
    first, second = map(is_on, VARIANTS[index])
    weight = weights() * (shares[0] * first + shares[1] * second)
    there = weight > 0
    found = two_variants(INDICES[there], weight[there])
    assert found is not None
    expected = VARIANTS[index] if shares[0] >= shares[1] else VARIANTS[index][::-1]
    if shares[0] == shares[1]:
        found, expected = (sorted(m, key=lambda n: n[0, 1]) for m in (found, expected))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("index", VARIANTS)
def test_a_few_stray_spots_do_not_matter(index):
    first, second = map(is_on, VARIANTS[index])
    stray = np.random.default_rng(1).random(len(INDICES)) < 0.02
    there = first | second | stray
    weight = np.where(first | second, weights(), 0.2)
    assert two_variants(INDICES[there], weight[there]) is not None


def test_weak_spots_in_between_make_a_superlattice():
    first, second = map(is_on, VARIANTS[3])
    weight = np.where(first | second, 1.0, 0.3)
    assert two_variants(INDICES, weight) is None


@pytest.mark.parametrize("period", [2, 3, 4, 5])
def test_satellites_along_one_axis_are_one_crystal(period):
    there = np.isin(INDICES[:, 0] % period, [0, 1, period - 1])
    assert two_variants(INDICES[there], weights()[there]) is None


@pytest.mark.parametrize("missing", [0.0, 0.3, 0.5, 0.7])
@pytest.mark.parametrize("reach", [2.5, 4.5, 9])
def test_a_crystal_with_missing_spots_is_one(missing, reach):
    inside = np.hypot(*INDICES.T) < reach
    for seed in range(60):
        rng = np.random.default_rng(seed)
        half = rng.random((19, 19)) > missing
        there = inside & (half & half[::-1, ::-1]).ravel()  # g and −g together
        if there.any():
            assert two_variants(INDICES[there], weights(seed)[there]) is None
