"""Windows for networks that know one size of image only."""

from collections.abc import Callable
from itertools import pairwise
from typing import Final

import numpy as np

from fcunet_dask.kernels.arrays import namespace
from fcunet_dask.types import Array

_COMMON: Final = 0.75
"""Pixels on either side of the border of two windows that both answer for."""


def in_tiles(
    find: Callable[[Array, Array, Array], Array],
    patterns: Array,
    probe: Array,
    mask: Array,
    tile: int,
) -> Array:
    """Find peaks in overlapping windows, each peak in the window it is deepest in.

    Within a pixel of where two windows meet, both report it.

    Parameters
    ----------
    find : callable
        Patterns, probe and mask of side `tile` → peaks (n, most, fields), height, y, x
        first.
    patterns, probe, mask : array
        (n, rows, columns), (rows, columns), (rows, columns); the probe in the middle.
    tile : int
        Side of a window, px.

    Returns
    -------
    numpy.ndarray
        (n, windows × most, fields), positions in the whole image.
    """
    starts = [_starts(size, tile) for size in mask.shape]
    small = _middle(probe, tile)
    found = []
    for y, rows in zip(starts[0], _cores(starts[0], tile), strict=True):
        for x, columns in zip(starts[1], _cores(starts[1], tile), strict=True):
            window = (slice(y, y + tile), slice(x, x + tile))
            part = _filled(patterns[(..., *window)], tile)
            peaks = find(part, small, _filled(mask[window], tile))
            peaks[..., 1] += y
            peaks[..., 2] += x
            inside = (peaks[..., 1] >= rows[0]) & (peaks[..., 1] < rows[1])
            inside &= (peaks[..., 2] >= columns[0]) & (peaks[..., 2] < columns[1])
            peaks[..., 0] = np.where(inside, peaks[..., 0], 0.0)
            found.append(peaks)
    return np.concatenate(found, axis=1)


def _starts(size: int, tile: int) -> list[int]:
    """First pixels of windows that overlap by a quarter at least."""
    if size <= tile:
        return [0]
    number = 1 + int(np.ceil((size - tile) / (0.75 * tile)))
    return [round(s) for s in np.linspace(0, size - tile, number)]


def _cores(starts: list[int], tile: int) -> list[tuple[float, float]]:
    """Part of the image that each window answers for: they meet in mid-overlap.

    And a little beyond: windows that disagree on a position must not both leave it to
    the other. What both report, the least distance of peaks takes out.
    """
    middles = np.array([0.5 * (a + tile + b) for a, b in pairwise(starts)])
    first, last = middles - _COMMON, middles + _COMMON
    return list(zip([-np.inf, *first], [*last, np.inf], strict=True))


def _middle(probe: Array, tile: int) -> Array:
    """Cut, or surround by zeros, such that the middle stays at ``size // 2``."""
    for axis in (0, 1):
        size = probe.shape[axis]
        first = size // 2 - tile // 2
        if first >= 0:
            probe = np.take(probe, range(first, first + tile), axis)
        else:
            pad = [(0, 0), (0, 0)]
            pad[axis] = (-first, tile - size + first)
            probe = np.pad(probe, pad)
    return probe


def _filled(image: Array, tile: int) -> Array:
    """Fill up to the size of a window with zeros."""
    missing = [tile - s for s in image.shape[-2:]]
    if not any(missing):
        return image
    pad = [(0, 0)] * (image.ndim - 2) + [(0, m) for m in missing]
    return namespace(image).pad(image, pad)
