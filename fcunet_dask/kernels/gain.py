"""What a count is: the gain of a camera, from noise."""

import numpy as np
import scipy.ndimage

from fcunet_dask.kernels.noise import shared_gain
from fcunet_dask.types import Array

_CHI2_MEDIAN = 0.4549
_EMPTY = 1e-3
"""Share of pixels without a count from which on the least count is a single electron."""
_LONE, _FEWEST_LONE = 0.85, 20
"""Share of lone counts that are one electron's, where such are seen; how many tell."""
_DIM = (1.0, 4.0)
_MOST = 3.8
"""Counts of an electron that the noise of dim pixels, of so many least counts, may seem to
say where it is one: the slopes of disks are in it."""
_AROUND = (slice(None, -2), slice(2, None))


def counts_per_electron(patterns: Array, mask: Array) -> float:
    """Gain of the detector from the noise between neighbouring pixels.

    The difference of a pixel from the mean of its four neighbours has the variance
    1.25 g μ for Poisson electrons of g counts each, where the pattern is smooth on the
    scale of a pixel: where the four diagonal neighbours, whose noise is not in the
    difference, are most alike. Where a scintillator hides noise from neighbours, sums
    of many pixels say more (`shared_gain`); where single electrons are seen, their
    counts are the gain, whatever bright disks of few pixels seem to say. Where a
    camera's readout gives negative counts they are not.

    Parameters
    ----------
    patterns : numpy.ndarray
        (n, rows, columns).
    mask : numpy.ndarray
        bool (rows, columns).

    Returns
    -------
    float
        Counts of one electron; the least count where noise does not tell, and 1 where
        too few pixels have counts.
    """
    counts = np.where(np.isfinite(patterns), patterns, 0).astype(float)
    levels = level, difference, measures = _levels(counts, mask)
    positive = level[measures]
    positive = positive[positive > 0]
    if positive.size < 100:
        return 1.0
    least = float(counts[counts > 0].min())
    step = _counted_step(counts)
    if np.median(level[(level >= np.quantile(positive, 0.7)) & measures]) < 4 * step:
        return step
    if step and _is_single(counts, mask, step, levels):
        return step
    around = scipy.ndimage.maximum_filter(counts, (1, 3, 3))[:, 1:-1, 1:-1]
    bright = (level > np.quantile(positive, 0.7)) & measures
    bright &= around < counts.max()  # next to a clipped pixel nothing fluctuates
    if bright.sum() < 100:
        return least
    smooth = _smoothest(counts, bright, level)
    gain = _typical(difference[smooth] ** 2 / level[smooth])
    if gain > 0 and not 0.5 * step < gain < 2 * step:
        return max(gain, shared_gain(counts, mask))
    return least


def single_electron(counts: Array, mask: Array) -> float:
    """Return the counts of one electron, where lone electrons are seen.

    Nearly all counts with hardly a neighbour are of one step, and dim pixels have no more
    noise: bright disks of few pixels have no smooth places that could tell.

    Parameters
    ----------
    counts : numpy.ndarray
        (n, rows, columns), finite.
    mask : numpy.ndarray
        bool (rows, columns).

    Returns
    -------
    float
        The least count; 0 where it is not that of lone electrons.
    """
    step = _counted_step(counts)
    if step and _is_single(counts, mask, step, _levels(counts, mask)):
        return step
    return 0.0


def _counted_step(counts: Array) -> float:
    """Least count of a camera that has pixels without any, or 0."""
    if not (counts.min() >= 0 and (counts == 0).mean() > _EMPTY and counts.any()):
        return 0.0
    return float(counts[counts > 0].min())


def _is_single(
    counts: Array, mask: Array, step: float, levels: tuple[Array, Array, Array]
) -> bool:
    """Whether lone counts are of one step, and dim pixels have the noise of such."""
    among = 9 * scipy.ndimage.uniform_filter((counts > 0).astype(np.float32), (1, 3, 3))
    lone = counts[(counts > 0) & (among < 3.5) & mask]
    if len(lone) < _FEWEST_LONE or (lone == step).mean() < _LONE:
        return False
    level, difference, measures = levels
    dim = (level > _DIM[0] * step) & (level < _DIM[1] * step) & measures
    if dim.sum() < 100:
        return False
    gain = (difference[dim] ** 2).sum() / (1.25 * level[dim].sum())
    return bool(gain < _MOST * step)


def _levels(counts: Array, mask: Array) -> tuple[Array, Array, Array]:
    """Mean of each inner pixel and its neighbours, difference from them, whether used."""
    inner = counts[:, 1:-1, 1:-1]
    neighbours = 0.25 * (
        counts[:, :-2, 1:-1]
        + counts[:, 2:, 1:-1]
        + counts[:, 1:-1, :-2]
        + counts[:, 1:-1, 2:]
    )
    measures = scipy.ndimage.binary_erosion(mask, np.ones((3, 3)))[1:-1, 1:-1]
    used = np.broadcast_to(measures, inner.shape)
    return 0.2 * inner + 0.8 * neighbours, inner - neighbours, used


def _smoothest(counts: Array, chosen: Array, level: Array) -> Array:
    """Those of the chosen pixels whose diagonal neighbours are most alike."""
    diagonal = [counts[:, y, x] for y in _AROUND for x in _AROUND]
    unlike = np.var(diagonal, axis=0)[chosen] / level[chosen]
    smooth = np.zeros_like(chosen)
    smooth[chosen] = unlike <= np.quantile(unlike, 0.05)
    return smooth


def _typical(squares: Array) -> float:
    """Variance of a pixel, from squared differences to the mean of its neighbours."""
    return float(np.median(squares) / (_CHI2_MEDIAN * 1.25))
