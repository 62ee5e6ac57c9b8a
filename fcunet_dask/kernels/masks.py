"""Pixels that do not measure."""

import numpy as np
import scipy.ndimage

from fcunet_dask.types import Array

_NEIGHBOURS = np.ones((3, 3), bool)
_NEIGHBOURS[1, 1] = False


def find_bad_pixels(patterns: Array) -> Array:
    """Hot and dead pixels, from a sample of patterns.

    Hot: more than five times each of its eight neighbours, and 20 counts above them, in
    nine of ten patterns. Dead: never a count where the eight neighbours together had
    200.

    Parameters
    ----------
    patterns : numpy.ndarray
        (n, rows, columns), counts, different places of the scan.

    Returns
    -------
    numpy.ndarray
        bool (rows, columns), True = bad.
    """
    hot_votes = np.zeros(patterns.shape[1:], int)
    total = np.zeros(patterns.shape[1:])
    alive = np.zeros(patterns.shape[1:], bool)
    for pattern in patterns:
        counts = np.nan_to_num(np.asarray(pattern, float), posinf=0.0, neginf=0.0)
        highest = scipy.ndimage.maximum_filter(
            counts, footprint=_NEIGHBOURS, mode="nearest"
        )
        hot_votes += (counts > 5 * highest) & (counts > highest + 20)
        total += np.maximum(counts, 0)
        alive |= counts != 0
    around = scipy.ndimage.convolve(total, _NEIGHBOURS.astype(float), mode="nearest")
    hot = hot_votes >= max(0.9 * len(patterns), 1)
    return np.asarray(hot | (~alive & (around > 200)))
