"""Two variants of one crystal, as twins are, that together lie on a finer lattice."""

import itertools
from typing import Final

import numpy as np

from fcunet_dask.types import Array

_INDICES: Final = range(3, 12)
"""Cells of the finer lattice in one of a variant. Two are left to superstructures."""
_STRAY: Final = 0.02
"""What a point on neither variant counts."""
_ODDS: Final = 3.0
"""Least logarithm of the odds of two variants against one fine lattice."""
_LEAST_SHARE: Final = 0.1
_LEAST_SPOTS: Final = 6
"""Of the weight, and spots, that are on one of the variants only."""


def two_variants(indices: Array, weight: Array) -> tuple[Array, Array] | None:
    """Find the two sublattices of equal index n that hold all spots of a lattice.

    Twins share a row of spots; the finest lattice that holds the spots of both has n
    times as many points as each, of which (n − 1)²/n² are empty, and always the same
    ones. Drawn from two lattices with shares π of the weight, a spot on one of them has n π
    times the density that it has on the finer one, and one on both n times.
    A crystal whose fine points are all occupied, be it weakly, has no such sublattices.

    Parameters
    ----------
    indices : numpy.ndarray
        (m, 2), whole numbers: spots on the finer lattice.
    weight : numpy.ndarray
        (m,).

    Returns
    -------
    tuple or None
        Two (2, 2) matrices of whole numbers, of which the rows are the vectors of a
        sublattice, the stronger one first; None where one lattice is as likely. The
        spots count half in the odds: g and −g come together.
    """
    share = weight / weight.sum()
    halves = 0.5 / (share**2).sum()
    best, most = None, _ODDS
    for index in _INDICES:
        matrices = _sublattices(index)
        on = np.array([_is_on(matrix, indices) for matrix in matrices])
        pairs = list(itertools.combinations(range(len(matrices)), 2))
        for first, second in pairs:
            gain = _gain(on[first], on[second], share, index)
            odds = gain * halves - np.log(len(pairs))
            if odds > most:
                stronger = share @ on[first] >= share @ on[second]
                order = (first, second) if stronger else (second, first)
                best, most = (matrices[order[0]], matrices[order[1]]), odds
    return best


def _sublattices(index: int) -> list[Array]:
    """All sublattices of an index, in Hermite's normal form."""
    return [
        np.array([[a, b], [0, index // a]])
        for a in range(1, index + 1)
        if index % a == 0
        for b in range(index // a)
    ]


def _is_on(matrix: Array, indices: Array) -> Array:
    """Which of the points (m, 2) are on a sublattice."""
    (a, b), (_, d) = matrix
    h, k = indices.T
    return np.asarray((h % a == 0) & ((k - h // a * b) % d == 0))


def _gain(first: Array, second: Array, share: Array, index: int) -> float:
    """Mean logarithm of the density on two sublattices over that on the lattice."""
    alone = first & ~second, second & ~first
    weights = [float(share @ one) for one in alone]
    spots = [int(one.sum()) for one in alone]
    if min(weights) < _LEAST_SHARE or min(spots) < _LEAST_SPOTS:
        return -np.inf
    parts = np.array(weights) / sum(weights)
    density = index * (parts[0] * first + parts[1] * second)
    return float(share @ np.log(np.maximum(density, _STRAY)))
