"""Maxima of correlation images: where they are, which count, and sub-pixel offsets."""

from dataclasses import dataclass

import numpy as np

from fcunet_dask.kernels.arrays import namespace
from fcunet_dask.types import Array


def local_maxima(images: Array, minimum: float, edge: int) -> Array:
    """Pixels that exceed `minimum` and their eight neighbours.

    Of equal neighbours the first in memory counts, so a plateau gives one maximum in
    each of its rows and columns at most.

    Parameters
    ----------
    images : array
        (n, rows, columns), float.
    minimum : float
        Pixels at or below do not count.
    edge : int
        Width of the border without maxima, px, at least 1.

    Returns
    -------
    array
        int64 (3, m): image, row, column, sorted by image.
    """
    xp = namespace(images)
    edge = max(edge, 1)
    _, rows, columns = images.shape
    if rows <= 2 * edge or columns <= 2 * edge:
        return xp.empty((3, 0), dtype=xp.int64)
    top = xp.maximum(images[:, :, :-2], images[:, :, 2:])
    middle = images[:, :, 1:-1]
    row_top = xp.maximum(top, middle)
    inner = middle[:, 1:-1]
    peak = inner > minimum
    peak &= inner > row_top[:, :-2]
    peak &= inner >= row_top[:, 2:]
    peak &= inner > images[:, 1:-1, :-2]
    peak &= inner >= images[:, 1:-1, 2:]
    cut = edge - 1
    peak = peak[:, cut : peak.shape[1] - cut, cut : peak.shape[2] - cut]
    image, row, column = xp.nonzero(peak)
    return xp.stack([image, row + edge, column + edge])


def parabola_offsets(images: Array, index: Array) -> Array:
    """Sub-pixel offsets of maxima from three-point parabolas in y and x.

    Parameters
    ----------
    images : array
        (n, rows, columns).
    index : array
        int (3, m), maxima away from the border.

    Returns
    -------
    array
        float32 (m, 2): y, x, each −½ to ½ px.
    """
    xp = namespace(images)
    image, row, column = index
    here = images[image, row, column]
    offsets = []
    for dy, dx in ((1, 0), (0, 1)):
        low = images[image, row - dy, column - dx]
        high = images[image, row + dy, column + dx]
        curvature = xp.maximum(2 * here - low - high, 1e-12)
        offsets.append(xp.clip(0.5 * (high - low) / curvature, -0.5, 0.5))
    return xp.stack(offsets, axis=-1).astype(xp.float32)


@dataclass(frozen=True, slots=True)
class PeakLimits:
    """Which maxima are peaks; every limit has the field's usual meaning.

    Parameters
    ----------
    min_spacing : float
        Of two peaks closer than this the brighter stays, px.
    edge : float
        Width of the border without peaks, px.
    min_absolute : float
        Least brightness.
    min_relative : float
        Least brightness as a share of the `relative_to`-th brightest (0 = brightest).
    relative_to : int
        Rank of the peak that `min_relative` refers to.
    max_peaks : int
        At most this many, the brightest.
    """

    min_spacing: float
    edge: float
    min_absolute: float = 0.0
    min_relative: float = 0.0
    relative_to: int = 0
    max_peaks: int = 128


def pad_by_image(index: Array, brightness: Array, n: int, width: int) -> Array:
    """Arrange a flat list of peaks as one row an image, brightest first.

    Parameters
    ----------
    index : array
        int (m,), image of each peak.
    brightness : array
        (m,).
    n : int
        Number of images.
    width : int
        Length of a row; what does not fit is dropped, faintest first.

    Returns
    -------
    array
        int64 (n, width): positions in the list, −1 = none.
    """
    xp = namespace(index)
    order = xp.lexsort(xp.stack([-brightness, index.astype(brightness.dtype)]))
    sorted_index = index[order]
    first = xp.searchsorted(sorted_index, xp.arange(n))
    rank = xp.arange(len(order)) - first[sorted_index]
    keep = rank < width
    table = xp.full((n, width), -1, dtype=xp.int64)
    table[sorted_index[keep], rank[keep]] = order[keep]
    return table


def select_peaks(
    table: Array, position: Array, brightness: Array, limits: PeakLimits
) -> Array:
    """Apply brightness and spacing limits to rows of candidates.

    Absolute, then relative, then spacing (greedy, brightest first), then number.

    Parameters
    ----------
    table : array
        int (n, width) from `pad_by_image`.
    position : array
        (m, 2): y, x of each candidate, px.
    brightness : array
        (m,).
    limits : PeakLimits

    Returns
    -------
    array
        bool (n, width): the candidates that stay.
    """
    xp = namespace(table)
    if not len(position):
        return xp.zeros(table.shape, dtype=bool)
    bright = xp.where(table >= 0, brightness[table], -xp.inf)
    keep = (table >= 0) & (bright >= limits.min_absolute)
    if limits.min_relative > 0:
        rank = min(limits.relative_to, table.shape[1] - 1)
        keep &= bright >= limits.min_relative * bright[:, rank : rank + 1]
    if limits.min_spacing > 0:
        keep = _thin_out(position[table], keep, limits.min_spacing)
    return keep & (xp.cumsum(keep, axis=1) <= limits.max_peaks)


def _thin_out(position: Array, keep: Array, spacing: float) -> Array:
    """Greedy suppression along rows sorted by brightness, all rows at once."""
    xp = namespace(position)
    dy = position[:, :, None, 0] - position[:, None, :, 0]
    dx = position[:, :, None, 1] - position[:, None, :, 1]
    close = dy**2 + dx**2 < spacing**2
    close &= xp.tri(position.shape[1], k=-1, dtype=bool).T
    crowded = xp.nonzero(
        (close & keep[:, :, None] & keep[:, None, :]).any(axis=(0, 2))
    )[0]
    for i in crowded.tolist():
        keep = keep & ~(close[:, i] & keep[:, i : i + 1])
    return keep


def upsampled_offsets(
    spectra: Array, position: Array, factor: int, shape: tuple[int, int]
) -> Array:
    """Refine maxima on a grid `factor` times finer, by matrix Fourier transform.

    Guizar-Sicairos et al., *Opt. Lett.* 33 (2008) 156: the correlation is evaluated
    from its half spectrum on a patch of ±1 px, then a parabola is put through its
    maximum.

    Parameters
    ----------
    spectra : array
        complex64 (m, rows, columns // 2 + 1), of the correlation around each maximum.
    position : array
        (m, 2): y, x, px.
    factor : int
        Points per pixel.
    shape : (int, int)
        Rows and columns of the correlation.

    Returns
    -------
    array
        float32 (m, 2): offsets from `position`, px.
    """
    xp = namespace(spectra)
    rows, columns = shape
    steps = (xp.arange(2 * factor + 1) - factor) / factor
    frequency_y = xp.fft.fftfreq(rows)
    frequency_x = xp.arange(columns // 2 + 1) / columns
    twice = xp.full(columns // 2 + 1, 2.0)
    twice[0] = 1.0
    if columns % 2 == 0:
        twice[-1] = 1.0
    y = position[:, :1] + steps
    x = position[:, 1:] + steps
    wave_y = xp.exp(2j * np.pi * y[:, :, None] * frequency_y).astype(xp.complex64)
    wave_x = xp.exp(2j * np.pi * x[:, :, None] * frequency_x).astype(xp.complex64)
    wave_x = wave_x * twice.astype(xp.float32)
    patch = (wave_y @ spectra @ wave_x.transpose(0, 2, 1)).real
    flat = patch.reshape(len(patch), -1).argmax(axis=1)
    row, column = xp.unravel_index(flat, patch.shape[1:])
    row = xp.clip(row, 1, 2 * factor - 1)
    column = xp.clip(column, 1, 2 * factor - 1)
    index = xp.stack([xp.arange(len(patch)), row, column])
    fine = xp.stack([steps[row], steps[column]], axis=-1)
    return (fine + parabola_offsets(patch, index) / factor).astype(xp.float32)
