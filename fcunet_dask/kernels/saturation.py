"""Pixels that read the most that a camera can, and would have read more."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.ndimage

from fcunet_dask.types import Array

_PLATEAU: Final = np.ones((1, 2, 2), bool)
"""Pixels side by side that no noise makes equal, and the highest, again and again."""
_FEWEST: Final = 16
"""Pixels of plateaus."""
_SHARE: Final = 0.01
"""Of plateaus in the pixels nearer to the highest count than to the median."""
_SLOPE: Final = 0.01
"""Of these, those below the highest count over those of plateaus: disks have rims, what
reads a constant has none."""
_LEVELS: Final = 8
"""Different counts, at least: of few electrons many pixels count the same."""


@dataclass(frozen=True, slots=True)
class Saturation:
    """Where patterns are cut off.

    Attributes
    ----------
    level : float
        What their saturated pixels read, counts; 0 where none is.
    patterns, pixels : float
        Shares that are saturated.
    """

    level: float = 0.0
    patterns: float = 0.0
    pixels: float = 0.0


def find_saturation(patterns: Array, mask: Array) -> Saturation:
    """Tell whether the highest count of patterns is the most that the camera reads.

    The highest count of a camera that measures is one of few pixels, here and there, as
    noise has it; of one that is saturated, it fills plateaus in the middle of disks.

    Parameters
    ----------
    patterns : numpy.ndarray
        (n, rows, columns), counts, as read.
    mask : numpy.ndarray
        bool (rows, columns), True where the camera measures.

    Returns
    -------
    Saturation
    """
    measures = np.isfinite(patterns) & mask
    top = np.max(patterns, where=measures, initial=0)
    full = measures & (patterns == top)
    plateau = scipy.ndimage.binary_opening(full, _PLATEAU)
    cut = int(plateau.sum())
    if not (top > 0 and cut >= _FEWEST):
        return Saturation()
    seen = patterns[measures]
    bright = int((seen > 0.5 * (float(top) + float(np.median(seen)))).sum())
    alike = cut < _SHARE * bright or bright - full.sum() < _SLOPE * cut
    if alike or np.unique(seen).size < _LEVELS:
        return Saturation()
    touched = float(plateau.any(axis=(1, 2)).mean())
    return Saturation(float(top), touched, float(full.sum() / measures.sum()))


def beside_saturation(patterns: Array, saturation: Saturation) -> Array:
    """Pixels that are saturated in any pattern, or near one that is: bool (rows, columns).

    Their noise is not that of electrons.
    """
    full = (patterns >= saturation.level).any(axis=0)
    return np.asarray(scipy.ndimage.binary_dilation(full, np.ones((7, 7))))
