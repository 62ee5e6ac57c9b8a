"""The scale at which a network looks at patterns: disks of 2.4 to 4.8 pixels radius.

Adding up whole pixels keeps Poisson noise, masks and positions exact, and large disks
cheap. Adding up half as many along a side, the fine scale, shows more of the rims of large
disks, at up to four times the cost.
"""

from collections.abc import Mapping
from typing import Final, Literal

import numpy as np

from fcunet_dask.types import Array

Scale = Literal["coarse", "fine"]
LARGEST: Final[Mapping[Scale, float]] = {"coarse": 4.8, "fine": 9.6}
"""Radius, px, from which disks are binned."""


def binning(radius: float, scale: Scale = "coarse") -> int:
    """Return how many pixels to add up along a side, for disks of a radius (px).

    Examples
    --------
    >>> [binning(r) for r in (2.0, 4.7, 5.0, 10.0, 20.0)]
    [1, 1, 2, 3, 5]
    >>> [binning(r, "fine") for r in (2.0, 4.7, 5.0, 10.0, 20.0)]
    [1, 1, 1, 2, 3]
    """
    return 1 + int(radius // LARGEST[scale])


def enlarged(images: Array, factor: int, shape: tuple[int, int]) -> Array:
    """Bring binned images back to the pixels of the pattern, linear in between.

    Parameters
    ----------
    images : array
        (n, rows, columns).
    factor : int
        Pixels that were added up, along a side.
    shape : (int, int)
        Of the result.

    Returns
    -------
    numpy.ndarray
        float32 (n, *shape).

    Examples
    --------
    >>> enlarged(np.array([[[0.0, 2.0]]]), 2, (1, 4))[0, 0].tolist()
    [0.0, 0.5, 1.5, 2.0]
    """
    rows, columns = (
        _interpolation(size, factor, binned)
        for size, binned in zip(shape, images.shape[1:], strict=True)
    )
    return np.asarray(rows @ images.astype(np.float32) @ columns.T)


def _interpolation(size: int, factor: int, binned: int) -> Array:
    """Weights (size, binned) of linear interpolation between the middles of bins."""
    place = (np.arange(size) - 0.5 * (factor - 1)) / factor
    place = np.clip(place, 0, binned - 1)
    weights = 1 - np.abs(place[:, None] - np.arange(binned))
    return np.maximum(weights, 0).astype(np.float32)
