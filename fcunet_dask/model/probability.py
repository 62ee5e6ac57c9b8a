"""How likely it is that what a network points at is a disk."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from fcunet_dask.types import Array

TERMS: Final = 5
"""Columns of `evidence`."""
HEIGHT_ALONE: Final = (0.0, 1.0, 0.0, 0.0, 0.0)
"""Weights for which the logarithm of the odds is the height itself."""


def evidence(height: Array, likeness: Array, radius: float | Array) -> Array:
    """Return what the odds of a disk are weighed from.

    A network completes lattices; the likeness of the pattern to the probe, of which it
    is one of the inputs, says what is there. It is the surer, the larger the disk.

    Parameters
    ----------
    height : array
        (n,) h, of the heat map.
    likeness : array
        (n,) p, Pearson's r of pattern and probe; NaN where the network does not measure it.
    radius : float or array
        r, of the disks as the network sees them, px.

    Returns
    -------
    numpy.ndarray
        float64 (n, `TERMS`): 1, h, p, h p, log r.
    """
    h, p = np.asarray(height, float), np.nan_to_num(np.asarray(likeness, float))
    return np.stack([0 * h + 1, h, p, h * p, 0 * h + np.log(radius)], axis=-1)


def disk_probability(evidence: Array, weights: Sequence[float]) -> Array:
    """Return the logistic function of the weighted evidence: float64 (n,), 0 … 1."""
    return np.asarray(1 / (1 + np.exp(-(evidence @ np.asarray(weights, float)))))
