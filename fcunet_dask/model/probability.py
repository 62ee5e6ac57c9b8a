"""How likely it is that what a network points at is a disk."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from fcunet_dask.types import Array

TERMS: Final = 6
"""Columns of `evidence`."""


def evidence(
    height: Array, likeness: Array, contrast: Array, radius: float | Array
) -> Array:
    """Return what the odds of a disk are weighed from.

    A network completes lattices; the likeness of the pattern to the probe, of which it
    is one of the inputs, and the contrast to the ring around it, say what is there. They
    are the surer, the larger the disk.

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
        float64 (n, `TERMS`): 1, h, p, h p, log r, arsinh z/2.
    """
    h, p = np.asarray(height, float), np.nan_to_num(np.asarray(likeness, float))
    size, clear = np.log(radius), np.arcsinh(np.asarray(contrast, float) / 2)
    return np.stack([0 * h + 1, h, p, h * p, 0 * h + size, clear], axis=-1)


def disk_probability(evidence: Array, weights: Sequence[float]) -> Array:
    """Return the logistic function of the weighted evidence: float64 (n,), 0 … 1."""
    return np.asarray(1 / (1 + np.exp(-(evidence @ np.asarray(weights, float)))))
