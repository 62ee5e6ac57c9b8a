"""How much more is counted inside a disk than around it."""

from typing import Final

from fcunet_dask.kernels.arrays import namespace
from fcunet_dask.kernels.windows import pad_mask
from fcunet_dask.types import Array

_INSIDE: Final = 0.9
"""Radius of what lies inside over that of the disk."""
_RING: Final = ((1.1, 0.5), (1.6, 1.0))
"""Radii of the ring around it: so many radii and so many px."""


def ring_contrast(
    patterns: Array,
    mask: Array,
    image: Array,
    position: Array,
    radius: float,
    floor: float = 0.0,
) -> Array:
    """Contrast of disks to the rings around them, in standard deviations.

    (μ − μ₀) / √((max(μ, μ₀) + v)/n + (μ₀ + v)/n₀ + 1/n²), with the means μ and μ₀ over the
    n pixels inside and the n₀ of the ring, and the variance v of a pixel without electrons:
    Poisson's, and one electron that keeps it finite.

    Parameters
    ----------
    patterns : array
        (n, rows, columns), electrons.
    mask : array
        (rows, columns), 1 = measures.
    image : array
        int (m,): the pattern each disk is in.
    position : array
        float (m, 2) as (y, x), px.
    radius : float
        px.
    floor : float
        v, electrons².

    Returns
    -------
    array
        float64 (m,); 0 where the camera measures nothing inside or around.
    """
    xp = namespace(patterns)
    (first, more), (last, most) = _RING
    half = int(last * radius + most) + 1
    pixel = xp.rint(position).astype(xp.int64)
    axis = xp.arange(-half, half + 1)
    row, column = (pixel[:, i, None] + axis for i in (0, 1))
    offsets = [a - position[:, i, None] for i, a in enumerate((row, column))]
    distance = xp.hypot(offsets[0][:, :, None], offsets[1][:, None, :])
    inside = distance < _INSIDE * radius
    ring = (distance > first * radius + more) & (distance < last * radius + most)
    kept = _read(pad_mask(mask, half)[None], 0 * image, row + half, column + half)
    counts = _read(patterns, image, row, column)
    n, mean = _mean(counts, kept * inside)
    n0, around = _mean(counts, kept * ring)
    brighter = xp.maximum(xp.maximum(mean, around), 0) + floor
    variance = brighter / n + (xp.maximum(around, 0) + floor) / n0 + 1 / n**2
    seen = (n >= 1) & (n0 >= 1)
    return xp.where(seen, (mean - around) / xp.sqrt(variance), 0.0)


def _read(images: Array, which: Array, row: Array, column: Array) -> Array:
    """Read windows (m, w, w) of images; those beyond the border repeat it."""
    xp = namespace(images)
    row = xp.clip(row, 0, images.shape[1] - 1)[:, :, None]
    column = xp.clip(column, 0, images.shape[2] - 1)[:, None, :]
    return images[which[:, None, None], row, column]


def _mean(counts: Array, weight: Array) -> tuple[Array, Array]:
    """Return the number of pixels, half a one where there is none, and their mean."""
    xp = namespace(counts)
    number = xp.maximum(weight.sum(axis=(1, 2), dtype=xp.float64), 0.5)
    return number, (counts * weight).sum(axis=(1, 2), dtype=xp.float64) / number
