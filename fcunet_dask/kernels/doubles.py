"""Disks that are marked twice: the fit of one mark walks over to the disk of another."""

from typing import Final

import numpy as np
from scipy.spatial import cKDTree

from fcunet_dask.kernels.arrays import namespace, to_host
from fcunet_dask.types import Array

_BESIDE: Final = 1.55
"""Distance of two marks, radii, within which they may be of one disk."""
_ENDS: Final = 0.75
"""Distance from a disk, radii, within which a fit has walked over to it."""


def seen_twice(
    image: Array, mark: Array, outline: Array, disk: Array, odds: Array, radius: float
) -> Array:
    """Tell the marks beside a likelier one whose outline is that one's, on the host.

    Parameters
    ----------
    image : array
        int (m,): the pattern each mark is in.
    mark, outline, disk : array
        float (m, 2), y, x, px: where the marks are; where fits of outlines that began
        there have ended, NaN where nowhere; where the disks are taken to be.
    odds : array
        float (m,): the larger, the likelier.
    radius : float
        Of the disks, px.

    Returns
    -------
    array
        bool (m,).
    """
    xp = namespace(image)
    image, mark, outline, disk, odds = (
        to_host(a) for a in (image, mark, outline, disk, odds)
    )
    twice = np.zeros(len(image), bool)
    apart = 4 * _BESIDE * radius + np.ptp(mark, axis=0).max() if len(mark) else 0.0
    tree = cKDTree(np.column_stack([mark, image * apart]))
    pairs = tree.query_pairs(_BESIDE * radius, output_type="ndarray")
    for less, more in (pairs.T, pairs.T[::-1]):
        away = np.hypot(*(outline[less] - disk[more]).T)
        echo = (odds[less] < odds[more]) & (away < _ENDS * radius)
        twice[less[echo]] = True
    return xp.asarray(twice)
