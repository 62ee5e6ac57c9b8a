"""What a count is: the gain of a camera, from noise."""

import numpy as np
import scipy.ndimage

from fcunet_dask.kernels.noise import shared_gain
from fcunet_dask.types import Array

_CHI2_MEDIAN = 0.4549
_EMPTY = 1e-3
"""Share of pixels without a count from which on the least count is a single electron."""
_AROUND = (slice(None, -2), slice(2, None))


def counts_per_electron(patterns: Array, mask: Array) -> float:
    """Gain of the detector from the noise between neighbouring pixels.

    The difference of a pixel from the mean of its four neighbours has the variance
    1.25 g μ for Poisson electrons of g counts each, where the pattern is smooth on the
    scale of a pixel: where the four diagonal neighbours, whose noise is not in the
    difference, are most alike. Where a scintillator hides noise from neighbours, sums
    of many pixels say more (`shared_gain`); where single electrons are seen, their
    counts are the gain. Where a camera's readout gives negative counts they are not.

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
    level, difference, measures = _levels(counts, mask)
    positive = level[measures]
    positive = positive[positive > 0]
    if positive.size < 100:
        return 1.0
    least = float(counts[counts > 0].min())
    counted = counts.min() >= 0 and (counts == 0).mean() > _EMPTY
    step = least if counted else 0.0
    if np.median(level[(level >= np.quantile(positive, 0.7)) & measures]) < 4 * step:
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
