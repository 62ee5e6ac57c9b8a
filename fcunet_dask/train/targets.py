"""What a network is to answer, rendered from the analytic truth."""

from typing import Final

import numpy as np

from fcunet_dask.simulate.visibility import Visibility
from fcunet_dask.types import Array

SIGMA: Final = 1.25
"""σ of the spot at a disk, px: its logarithm is a parabola over the nearest pixels, and
it ends at 4 σ."""
REACH: Final = 1.8
"""Pixels this near to a disk learn its offset, px."""
CHANNELS: Final = ("heat", "structure_factor", "offset_y", "offset_x", "asked", "near")
"""Channels of a target. ``asked``: weight of a pixel, 0 where nothing is asked (doubtful
disks, masked pixels); ``near``: 1 where the offset counts."""
EMPTY: Final = 30.0
"""Weight of the middle of a place whose disk was taken out over that of the background:
three times that of a disk."""


def render_target(
    positions: Array,
    labels: Array,
    strength: Array,
    shape: tuple[int, int],
    radius: float,
    emptied: Array | None = None,
) -> Array:
    """Render the target of one pattern.

    Parameters
    ----------
    positions : array
        (n, 2) as (y, x), px.
    labels : array
        (n,) `Visibility`.
    strength : array
        (n,) |V_g| relative to the strongest.
    shape : (int, int)
        Rows and columns.
    radius : float
        Of the disks, px: doubtful ones blank out half of it.
    emptied : array, optional
        (k, 2) as (y, x), px: where disks were taken out.

    Returns
    -------
    numpy.ndarray
        float32 (rows, columns, `CHANNELS`).
    """
    target = np.zeros((*shape, len(CHANNELS)), np.float32)
    target[..., 4] = 1.0
    margin = 4 * SIGMA
    inside = ((positions > -margin) & (positions < np.array(shape) + margin)).all(1)
    doubtful = inside & (labels == Visibility.FAINT)
    hidden = max(1.5, 0.5 * radius)
    blank = _nearest(positions[doubtful], shape, hidden)[0] < hidden
    if emptied is not None and len(emptied):
        distance = _nearest(emptied, shape, margin)[0]
        target[..., 4] += EMPTY * np.exp(-(distance**2) / (2 * SIGMA**2))
    target[blank, 4] = 0.0
    seen = inside & (labels == Visibility.VISIBLE)
    if not seen.any():
        return target
    distance, dy, dx, which = _nearest(positions[seen], shape, margin)
    heat = np.exp(-(distance**2) / (2 * SIGMA**2))
    root = np.sqrt(np.clip(strength[seen], 0.0, 1.0))
    target[..., 0] = heat
    target[..., 1] = heat * root[which]
    near = distance < REACH
    target[..., 2] = np.where(near, dy, 0.0)
    target[..., 3] = np.where(near, dx, 0.0)
    target[distance < 2 * SIGMA, 4] = 1.0
    target[..., 5] = near
    return target


def _nearest(
    positions: Array, shape: tuple[int, int], reach: float
) -> tuple[Array, Array, Array, Array]:
    """Distance and offset (y, x), px, from each pixel to the nearest position; which.

    Beyond `reach` the distance is infinite and the rest is 0.
    """
    distance = np.full(shape, np.inf, np.float32)
    dy, dx = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    which = np.zeros(shape, int)
    side = np.arange(int(2 * reach) + 1)
    first = np.ceil(positions - reach).astype(int)
    row = (first[:, 0, None] + side)[:, :, None]
    column = (first[:, 1, None] + side)[:, None, :]
    offset = [positions[:, 0, None, None] - row, positions[:, 1, None, None] - column]
    far = np.hypot(*offset)
    inside = (row >= 0) & (row < shape[0]) & (column >= 0) & (column < shape[1])
    index, *at = np.nonzero(inside & (far <= reach))
    last_is_nearest = np.argsort(-far[index, *at], kind="stable")
    index, (i, j) = index[last_is_nearest], (a[last_is_nearest] for a in at)
    pixel = row[index, i, 0], column[index, 0, j]
    distance[pixel] = far[index, i, j]
    dy[pixel] = offset[0][index, i, 0]
    dx[pixel] = offset[1][index, 0, j]
    which[pixel] = index
    return distance, dy, dx, which
