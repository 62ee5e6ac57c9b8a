"""Points of a lattice without a disk between points with one: what a beam stop leaves."""

from typing import Final

import numpy as np

from fcunet_dask.types import Array

_REACH: Final = 3
"""Largest index of disks that are looked at."""
_FEWEST: Final = 12
"""Positions that tell what is missing from what is faint."""
_NEAR: Final = 0.2
"""Distance from a lattice point, lattice vectors, within which a disk is on it."""
_PRESENT, _ABSENT, _SELDOM = 0.8, 0.2, 0.5
"""Shares of positions: of a point that has a disk; of one that has none; of the point
that the beam was taken to be, where it has one too seldom."""
_DIRECTIONS: Final = ((1, 0), (0, 1), (1, 1), (1, -1))


def covered_points(position: Array, lattice: Array) -> Array:
    """Lattice points whose disk is missing for no reason of the crystal's.

    Along two lines through it both neighbours have a disk. So have forbidden reflections,
    but these lack the opposite one, too. The brightest disk, taken for the beam, is it or
    one of the eight around it.

    Parameters
    ----------
    position : numpy.ndarray
        (n, peaks, 2): y, x relative to the beam; NaN = none.
    lattice : numpy.ndarray
        (n, 6): origin, g₁ and g₂ of each; NaN = none.

    Returns
    -------
    numpy.ndarray
        int (m, 2): h, k, −1 to 1; nearest to the middle of the disks first.
    """
    fitted = np.isfinite(lattice).all(axis=1)
    if fitted.sum() < _FEWEST:
        return np.zeros((0, 2), int)
    lattice = lattice[fitted]
    vectors = lattice[:, 2:].reshape(-1, 2, 2)
    index = (position[fitted] - lattice[:, None, :2]) @ np.linalg.inv(vectors)
    share = _shares(index)
    middle = np.nanmedian(index, axis=(0, 1))
    present = share > _PRESENT
    between = np.zeros(share.shape, int)
    for y, x in _DIRECTIONS:
        between += _moved(present, y, x) & _moved(present, -y, -x)
    missing = (share < _ABSENT) & present[::-1, ::-1]
    missing[_REACH, _REACH] = share[_REACH, _REACH] < _SELDOM
    beside = slice(_REACH - 1, _REACH + 2)
    found = np.argwhere((missing & (between >= 2))[beside, beside]) - 1
    order = np.argsort(np.hypot(*(found - middle).T), kind="stable")
    return np.asarray(found[order])


def _shares(index: Array) -> Array:
    """Share of positions that have a disk on each point, (2 reach + 1)²."""
    side = 2 * _REACH + 1
    nearest = np.rint(index)
    on = np.abs(index - nearest).max(axis=2) < _NEAR
    on &= np.abs(nearest).max(axis=2) <= _REACH
    row, peak = np.nonzero(on)
    h, k = (nearest[row, peak] + _REACH).astype(int).T
    seen = np.zeros((len(index), side, side), bool)
    seen[row, h, k] = True
    return np.asarray(seen.mean(axis=0))


def _moved(image: Array, y: int, x: int) -> Array:
    """Each pixel's neighbour; False beyond the border."""
    padded = np.pad(image, 1)
    rows, columns = image.shape
    return padded[1 + y : 1 + y + rows, 1 + x : 1 + x + columns]
