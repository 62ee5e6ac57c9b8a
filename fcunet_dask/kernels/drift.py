"""How the unscattered beam moves over a scan, from one pattern to the others.

Between neighbouring positions all disks of a pattern move alike, whichever is the beam,
and by less than to the next disk. A smooth surface through these steps, first between
neighbours, then between positions twice as far apart, and so on, is the beam's but for a
constant: which lattice point it is, the brightest disks decide, all together.
"""

from typing import Final

import numpy as np

from fcunet_dask.kernels.surfaces import TERMS, surface_terms
from fcunet_dask.types import Array

DISKS: Final = 16
"""Brightest disks of a pattern that are followed."""

_PAIRS: Final = 2048
"""Of positions, about, in one fit."""
_ROUNDS: Final = 6
"""Of re-weighting."""
_VOTERS: Final = 256
"""Of positions, about, of which one stands for most."""


def drift_coefficients(
    disks: Array,
    index: tuple[Array, Array],
    last: tuple[int, int],
    kind: str,
    *,
    reach: float,
    start: Array | None = None,
) -> Array:
    """Surface along which the disks of a scan move.

    Parameters
    ----------
    disks : numpy.ndarray
        (rows, columns, n, 2): y, x; NaN = none.
    index : (numpy.ndarray, numpy.ndarray)
        Of these rows and columns in the scan.
    last : (int, int)
        Last row and column of the scan.
    kind : {"plane", "parabola"}
        Of the surface.
    reach : float
        A disk is found again within it: half of the distance of disks.
    start : numpy.ndarray, optional
        (3, 2), a plane that is near.

    Returns
    -------
    numpy.ndarray
        (terms, 2), for `surface_at`; the constant is 0.
    """
    rows, columns = disks.shape[:2]
    terms = surface_terms(index[0][:, None], index[1], last, TERMS[kind])
    coefficients = np.zeros((TERMS[kind], 2))
    if start is not None:
        coefficients[1:3] = start[1:3]
    apart = 1
    while apart == 1 or 2 * apart <= max(rows, columns):
        first, second = _pairs((rows, columns), apart)
        change = terms[second] - terms[first]
        there = disks[first] + (change @ coefficients)[:, None]
        moved = common_step(there, disks[second], reach)
        correction, scatter = _fit(change, moved)
        if not scatter < reach / 2:
            break
        coefficients += correction
        apart *= 2
    return coefficients


def common_step(first: Array, second: Array, reach: float) -> Array:
    """Step by which the disks of one pattern move to those of another.

    Parameters
    ----------
    first, second : numpy.ndarray
        (pairs, n, 2): y, x; NaN = none.
    reach : float
        Farther disks are others.

    Returns
    -------
    numpy.ndarray
        (pairs, 2): the median over the disks; NaN where none is found again.
    """
    away = second[:, None] - first[:, :, None]
    distance = np.hypot(away[..., 0], away[..., 1])
    distance = np.where(distance < reach, distance, np.inf)
    nearest = distance.argmin(axis=2)[..., None]
    step = np.take_along_axis(away, nearest[..., None], axis=2)[:, :, 0]
    found = np.isfinite(np.take_along_axis(distance, nearest, axis=2))
    step = np.sort(np.where(found, step, np.nan), axis=1)
    count = found.sum(axis=1)[..., None]
    low, high = (
        np.take_along_axis(step, np.maximum(at, 0), axis=1)[:, 0]
        for at in ((count - 1) // 2, count // 2)
    )
    return np.asarray(0.5 * (low + high))


def median_plane(
    position: Array, index: tuple[Array, Array], last: tuple[int, int]
) -> Array:
    """Plane of the usual step of one disk from row to row and column to column.

    Parameters
    ----------
    position : numpy.ndarray
        (rows, columns, 2): y, x; NaN = none.
    index, last
        As `drift_coefficients` takes them.

    Returns
    -------
    numpy.ndarray
        (3, 2), for `surface_at`; the constant is 0.
    """
    plane = np.zeros((3, 2))
    for axis in (0, 1):
        step = np.diff(position, axis=axis).reshape(-1, 2)
        step = step[np.isfinite(step).all(axis=1)]
        if len(step):
            width = index[axis][1] - index[axis][0]
            plane[1 + axis] = 0.5 * np.median(step, axis=0) * last[axis] / width
    return plane


def most_common(position: Array, reach: float) -> tuple[Array, int]:
    """Place that most positions are near, and how many.

    Parameters
    ----------
    position : numpy.ndarray
        (n, 2), finite.
    reach : float
        What is near.

    Returns
    -------
    place : numpy.ndarray
        (2,): their median.
    number : int
        Within `reach` of it.
    """
    voters = position[:: max(1, len(position) // _VOTERS)]
    away = voters[:, None] - voters
    votes = (np.hypot(away[..., 0], away[..., 1]) < reach).sum(axis=1)
    place = voters[votes.argmax()]
    place = np.median(position[np.hypot(*(position - place).T) < reach], axis=0)
    return place, int((np.hypot(*(position - place).T) < reach).sum())


def _pairs(
    shape: tuple[int, int], apart: int
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Rows and columns of positions that are `apart`, evenly from the scan."""
    firsts, seconds = [], []
    for axis in (0, 1):
        size = list(shape)
        size[axis] -= apart
        if size[axis] < 1:
            continue
        number = size[0] * size[1]
        flat = np.arange(0, number, max(1, 2 * number // _PAIRS))
        first = np.stack(np.unravel_index(flat, size))
        firsts.append(first)
        seconds.append(first + apart * np.eye(2, dtype=int)[:, [axis]])
    if not firsts:
        none = np.zeros((2, 0), int)
        firsts, seconds = [none], [none]
    first, second = np.concatenate(firsts, axis=1), np.concatenate(seconds, axis=1)
    return (first[0], first[1]), (second[0], second[1])


def _fit(design: Array, target: Array) -> tuple[Array, float]:
    """Least squares with Tukey weights; the median distance of what it leaves."""
    good = np.isfinite(target).all(axis=1)
    design, target = design[good], target[good]
    if not len(target):
        return np.zeros((design.shape[1], 2)), float("inf")
    root = np.ones((len(target), 1))
    for _ in range(_ROUNDS):
        coefficients = np.linalg.lstsq(design * root, target * root, rcond=1e-9)[0]
        distance = np.hypot(*(target - design @ coefficients).T)
        width = 4.7 * np.median(distance) / 1.1774 + 1e-12
        root = np.maximum(1 - (distance / width) ** 2, 0)[:, None]
    return coefficients, float(np.median(distance))
