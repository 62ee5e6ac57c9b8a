"""How likely it is that what a network points at is a disk."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import scipy.special

from fcunet_dask.types import Array

TERMS: Final = ("1", "h", "p", "h p", "log r", "z > 2.5")
"""Columns of `evidence`."""
_CLEAR: Final = 2.5
"""Contrast from which it speaks for a disk, standard deviations: what is to be found has
three of them, what noise makes of nothing seldom two."""
_SOFT: Final = 0.5
"""Width of that step, standard deviations."""


def evidence(
    height: Array, likeness: Array, contrast: Array, radius: float | Array
) -> Array:
    """Return what the odds of a disk are weighed from.

    A network completes lattices; the likeness of the pattern to the probe, of which it
    is one of the inputs, and the contrast to the ring around it, say what is there: the
    likeness the surer, the larger the disk; the contrast by whether it is more than that
    of noise, for how much more says little.

    Parameters
    ----------
    height : array
        (n,) h, of the heat map.
    likeness : array
        (n,) p, Pearson's r of pattern and probe; NaN where the network does not measure it.
    contrast : array
        (n,) z, standard deviations, from `ring_contrast`.
    radius : float or array
        r, of the disks on the coarse scale, px: between 2.4 and 4.8 where they are not
        smaller.

    Returns
    -------
    numpy.ndarray
        float64 (n, `TERMS`); the last is 1/(1 + exp((2.5 − z)/0.5)).
    """
    h, p = np.asarray(height, float), np.nan_to_num(np.asarray(likeness, float))
    clear = scipy.special.expit((np.asarray(contrast, float) - _CLEAR) / _SOFT)
    return np.stack([0 * h + 1, h, p, h * p, 0 * h + np.log(radius), clear], axis=-1)


def disk_probability(evidence: Array, weights: Sequence[float]) -> Array:
    """Return the logistic function of the weighted evidence: float64 (n,), 0 … 1."""
    return np.asarray(scipy.special.expit(evidence @ np.asarray(weights, float)))
