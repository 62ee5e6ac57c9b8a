"""Disks taken out of a pattern: what a network must not add of its own accord."""

from dataclasses import replace

import numpy as np
from scipy.spatial import cKDTree

from fcunet_dask.kernels.aperture import edge_profile
from fcunet_dask.simulate.artefacts import Clean
from fcunet_dask.simulate.visibility import Visibility, frame_distance
from fcunet_dask.types import Array


def lonely_disks(
    positions: Array, labels: Array, radius: float, shape: tuple[int, ...]
) -> Array:
    """Return the visible disks that can be taken out without touching another.

    Parameters
    ----------
    positions : array
        (n, 2) as (y, x), px.
    labels : array
        (n,) `Visibility`.
    radius : float
        Of the disks, px.
    shape : tuple of int
        Rows and columns of the pattern.

    Returns
    -------
    numpy.ndarray
        int (k,), rows of `positions`.
    """
    lit = positions[labels != Visibility.ABSENT]
    if len(lit) < 2:
        return np.empty(0, int)
    place = np.where(np.isfinite(positions), positions, -1e6)
    apart = cKDTree(lit).query(place, 2)[0][:, 1] > 2.6 * radius
    room = frame_distance(positions, shape) > 2 * radius
    return np.flatnonzero((labels == Visibility.VISIBLE) & apart & room)


def without_disks(clean: Clean, rows: Array, radius: float) -> Clean:
    """Take reflections out of a clean pattern.

    What the experiment adds to it afterwards, the inelastic halo of a disk and the tails
    of the point spread, then lacks them, too: nothing tells where they were.

    Parameters
    ----------
    clean : Clean
        The pattern.
    rows : array
        int (k,), rows of ``clean.q``.
    radius : float
        Of the disks, px.

    Returns
    -------
    Clean
        Truth and probe as they were.
    """
    middle = np.array(clean.pattern.shape) // 2
    places = clean.q[rows] / clean.q_step + middle
    return replace(clean, pattern=erase_disks(clean.pattern, places, radius))


def erase_disks(image: Array, places: Array, radius: float) -> Array:
    """Replace disks by the planes through the rings around them.

    Parameters
    ----------
    image : array
        (rows, columns), expected counts.
    places : array
        (k, 2) as (y, x), px.
    radius : float
        Of the disks, px.

    Returns
    -------
    numpy.ndarray
        As `image`.
    """
    out = image.copy()
    reach = int(np.ceil(1.6 * radius + 4))
    for place in places:
        first = np.maximum(np.rint(place).astype(int) - reach, 0)
        window = tuple(slice(f, f + 2 * reach + 1) for f in first)
        _erase(out[window], place - first, radius)
    return out


def _erase(image: Array, place: Array, radius: float) -> None:
    y, x = np.indices(image.shape) - np.reshape(place, (2, 1, 1))
    r = np.hypot(y, x)
    ring = (r > 1.25 * radius + 0.5) & (r < 1.6 * radius + 1)
    design = np.stack([np.ones_like(r), y, x], -1)
    fit = np.linalg.lstsq(design[ring], image[ring], rcond=None)[0]
    plane = np.maximum(design @ fit, 0)
    share = edge_profile(r, 1.2 * radius + 0.5, 0.5)
    image[...] = (1 - share) * image + share * plane
