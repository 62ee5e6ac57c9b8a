"""Pixels that do not measure."""

import numpy as np
import scipy.ndimage

from fcunet_dask.types import Array

_FARTHER, _LARGEST_FRAME = 4, 16
"""Lines from one to the one it is compared with; side of an image over the widest frame."""
_NEIGHBOURS = np.ones((3, 3), bool)
_NEIGHBOURS[1, 1] = False


def find_bad_pixels(patterns: Array, gain: float = 1.0) -> Array:
    """Hot and dead pixels, from a sample of patterns.

    Hot: more than five times each of its eight neighbours, and 20 electrons above them,
    in nine of ten patterns. Dead: never a count where each two opposite neighbours
    together had 50 electrons; at the foot of a disk, which is dark with reason, some two
    are dark as well. NaN or infinite in nine of ten patterns is bad too.

    Parameters
    ----------
    patterns : numpy.ndarray
        (n, rows, columns), counts, different places of the scan.
    gain : float
        Counts of one electron.

    Returns
    -------
    numpy.ndarray
        bool (rows, columns), True = bad.
    """
    hot_votes = np.zeros(patterns.shape[1:], int)
    total = np.zeros(patterns.shape[1:])
    alive = np.zeros(patterns.shape[1:], bool)
    numbers = np.zeros(patterns.shape[1:], int)
    for pattern in patterns:
        counts = np.nan_to_num(np.asarray(pattern, float), posinf=0.0, neginf=0.0)
        highest = scipy.ndimage.maximum_filter(
            counts, footprint=_NEIGHBOURS, mode="constant"
        )
        hot_votes += (counts > 5 * highest) & (counts > highest + 20 * gain)
        total += np.maximum(counts, 0)
        alive |= counts != 0
        numbers += np.isfinite(pattern)
    hot = hot_votes >= max(0.9 * len(patterns), 1)
    missing = numbers <= 0.1 * len(patterns)
    dead = ~alive & (_darkest_pair(total) > 50 * gain)
    return np.asarray(hot | missing | dead | _dark_frame(total, gain))


def _dark_frame(image: Array, gain: float) -> Array:
    frame = np.zeros(image.shape, bool)
    for lines, outer in ((image, frame), (image.T, frame.T)):
        outer[: _dark_lines(lines, gain)] = True
        outer[::-1][: _dark_lines(lines[::-1], gain)] = True
    return frame


def _dark_lines(image: Array, gain: float) -> int:
    """Return how many of the first lines are of a dark frame.

    Behind a frame it stays light; between rows of disks it is dark again.
    """
    half = np.median(image[: len(image) // 2], axis=1)
    level = half[: len(image) // _LARGEST_FRAME + _FARTHER]
    most = level.max(initial=0.0)
    if not level[0] < 0.02 * most or most < 50 * gain:
        return 0
    outer, inner = level[:-_FARTHER], level[_FARTHER:]
    dark = (outer < 0.02 * most) | (outer < 0.5 * inner)
    lines = int(np.argmin(np.append(dark, False))) + 1
    return 0 if (half[lines:] < 0.02 * most).any() else lines


def _darkest_pair(image: Array) -> Array:
    """Least sum of two opposite neighbours of each pixel."""
    padded = np.pad(image, 1, mode="edge")
    rows, columns = image.shape

    def moved(y: int, x: int) -> Array:
        return padded[1 + y : 1 + y + rows, 1 + x : 1 + x + columns]

    steps = ((0, 1), (1, 0), (1, 1), (1, -1))
    return np.min([moved(y, x) + moved(-y, -x) for y, x in steps], axis=0)


def odd_counts(patterns: Array) -> list[str]:
    """Say what counts of no camera are among those of a sample of patterns.

    Parameters
    ----------
    patterns : numpy.ndarray
        (n, rows, columns).

    Returns
    -------
    list of str
        One clause for each oddity, empty where there is none.
    """
    finite = np.isfinite(patterns)
    words = []
    if not finite.all():
        words.append(f"{_percent(~finite)} pixels are NaN or infinite")
    seen = patterns[finite]
    if seen.size and seen.min() == seen.max():
        which = "all" if finite.all() else "all other"
        words.append(f"{which} pixels are {seen[0]:g}")
    elif (seen < 0).any():
        words.append(
            f"{_percent(patterns < 0)} pixels are negative, down to {seen.min():.4g}"
        )
    return words


def _percent(which: Array) -> str:
    """Share of pixels in words; 'all' only where all are."""
    share = float(which.mean())
    return "all" if share == 1 else f"{100 * share:.2g} % of the"
