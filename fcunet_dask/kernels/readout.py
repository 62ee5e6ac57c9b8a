"""What a camera adds to its electrons, readout noise and a dark level, from noise.

Where an electron makes g counts, a pixel of mean μ has the variance g μ + c: the darkest
places of patterns, and the smoothest of the brightest, give both (photon transfer;
Janesick, *Photon Transfer* (2007), ch. 5). Noise is what a pixel and its eight neighbours
have beyond second differences along both axes (Immerkær, *Comput. Vis. Image Underst.* 64
(1996) 300); where it is looked at is told by the ring of 16 pixels around them, whose
noise is another.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.ndimage

from fcunet_dask.kernels.noise import shared_electrons
from fcunet_dask.types import Array

_CHI2_MEDIAN: Final = 0.4549
_SCATTER: Final = 3.0
"""Relative standard deviation of a variance from the median of n squares of neighbours,
which share pixels, times √n."""
_DIFFERENCES: Final = np.outer((1, -2, 1), (1, -2, 1))[None] / 6
"""Of unit noise."""
_DARKEST, _BRIGHTEST, _SMOOTHEST = 0.3, 0.8, 0.05
"""Shares of the pixels, and of the brightest, that are looked at."""
_GROUP: Final = 128
"""Dark pixels of which the means are taken: of those the median counts."""
_FEWEST: Final = 1000
"""Pixels."""
_EXPLAINED: Final = 0.5
"""Share of the counts of dark pixels that their noise explains, below which they are of a
dark level."""
_COUNTED: Final = 4 / 3
"""Most that the variance of dark pixels is over their mean, or under it, where whole
numbers are counted electrons."""
_SHARED: Final = 0.25
"""The same share by the noise that neighbours share."""
_BEYOND: Final = 0.25
"""Noise of dark pixels beyond that of their electrons, over it, from which on it is of the
readout."""
HIDDEN: Final = 30.0
"""Noise of dark pixels, electrons by differences of neighbours, beyond which those hide
electrons: a scintillator spreads them."""
_NOTICED, _CLEAR = 2.0, 10.0
"""Dark level over the noise of dark pixels from which on it is one; where that hides the
noise of electrons."""
_DEAD: Final = 0.005
"""Share of pixels that may read less than a dark level, and are dead."""
_BELOW: Final = 0.1
"""Mean of dark pixels, over their noise or an electron, that is none."""
_ADDED: Final = 0.7
"""Least noise of bright pixels over that of the readout, which is added to all."""
_LEAST: Final = 0.06
"""Variance of readout noise, electrons², that is worth reckoning with."""


def dark_level(patterns: Array, mask: Array) -> float:
    """Return the counts that a camera adds to every pixel: those that make no noise.

    Parameters
    ----------
    patterns : numpy.ndarray
        (n, rows, columns), counts.
    mask : numpy.ndarray
        bool (rows, columns).

    Returns
    -------
    float
        Counts of the darkest pixels; 0 where noise explains at least half of them,
        where pixels read less than any noise makes of them, or where they are whole
        numbers with the variance of counted electrons, whatever the bright pixels say:
        structure of disks may pass for their noise.
        Negative where too much was subtracted already.
    """
    transfer = _transfer(patterns, mask)
    if transfer is None:
        return 0.0
    mean, variance = np.median(transfer.mean), np.median(transfer.variance)
    noise = np.sqrt(variance)
    gain, _ = transfer.line()
    counted = mean < _COUNTED * variance < _COUNTED**2 * mean
    if counted and (patterns[:, mask] == np.rint(patterns[:, mask])).all():
        return 0.0
    if abs(mean) < _BELOW * max(noise, gain):
        return 0.0
    if mean < 0:
        return float(mean)
    hidden = noise > HIDDEN * gain
    least = _EXPLAINED * (gain - transfer.doubt()) * mean
    clear = mean > (_CLEAR if hidden else _NOTICED) * noise
    below = np.quantile(patterns[:, mask], _DEAD) < mean - _CLEAR * noise
    if not clear or below or not (hidden or variance < least):
        return 0.0
    electrons = shared_electrons(patterns, mask, variance)
    return float(mean - electrons) if electrons < _SHARED * mean else 0.0


def readout_noise(
    patterns: Array, mask: Array, *, integrates: bool = False
) -> tuple[float, float]:
    """Return the noise of pixels without electrons, and the gain beside it.

    Parameters
    ----------
    patterns : numpy.ndarray
        (n, rows, columns), counts without dark level.
    mask : numpy.ndarray
        bool (rows, columns).
    integrates : bool
        Whether the camera surely has readout noise, be it as little as it may.

    Returns
    -------
    readout : float
        Standard deviation, counts; 0 where it is none, or nothing beside the noise of
        the electrons in the darkest places, and where bright ones have less.
    gain : float
        Counts of one electron, by differences of neighbours; 1 where nothing tells.
    """
    transfer = _transfer(patterns, mask)
    if transfer is None:
        return 0.0, 1.0
    gain, constant = transfer.line()
    electrons = max(float(np.median(transfer.mean)), 0.0)
    least = max(_LEAST * gain**2, _BEYOND * gain * electrons)
    least = 0.0 if integrates else least + transfer.doubt() * electrons
    quieter = np.median(transfer.square) < _ADDED * _CHI2_MEDIAN * constant
    if quieter or not constant > least:
        return 0.0, gain
    return float(np.sqrt(constant)), gain


@dataclass(frozen=True, slots=True)
class _Transfer:
    """Means and variances, counts, of groups of dark pixels, and of bright pixels."""

    mean: Array
    variance: Array
    bright: Array
    square: Array

    def line(self) -> tuple[float, float]:
        """Return g and c, the slope and the start of the variance."""
        gain = np.median(self.square) / (_CHI2_MEDIAN * np.median(self.bright))
        constant = 0.0
        for _ in range(20):
            constant = float(np.median(self.variance - gain * self.mean))
            above = self.bright + constant / gain
            ratio = self.square / np.maximum(above, 1e-3 * self.bright)
            gain = float(np.median(ratio)) / _CHI2_MEDIAN
            if not gain > 0:
                return 1.0, 0.0
        return gain, constant

    def doubt(self) -> float:
        """Twice the standard deviation of g: that of the bright pixels' variance."""
        variance = np.median(self.square) / _CHI2_MEDIAN
        rise = np.median(self.bright) - np.median(self.mean)
        spread = _SCATTER * variance / np.sqrt(self.square.size)
        return float(2 * spread / rise) if rise > 0 else float("inf")


def _transfer(patterns: Array, mask: Array) -> _Transfer | None:
    """None where too few pixels tell."""
    used = np.broadcast_to(
        scipy.ndimage.binary_erosion(mask, np.ones((5, 5))), patterns.shape
    )
    if used.sum() < _FEWEST:
        return None
    counts = np.where(np.isfinite(patterns), patterns, 0).astype(float)
    mean, square, ring, unlike = (image[used] for image in _neighbourhoods(counts))
    low, high = np.quantile(ring, (_DARKEST, _BRIGHTEST))
    dark = ring <= low
    groups = dark.sum() // _GROUP
    means, variances = (
        a[dark][: groups * _GROUP].reshape(groups, _GROUP).mean(axis=1)
        for a in (mean, square)
    )
    if not groups:
        return None
    above = ring - np.median(means)
    bright = (ring >= high) & (above > 0) & (mean > 0)
    if bright.sum() < _FEWEST:
        return None
    rough = unlike[bright] / above[bright]
    smooth = rough <= np.quantile(rough, _SMOOTHEST)
    transfer = _Transfer(means, variances, mean[bright][smooth], square[bright][smooth])
    return transfer if np.median(transfer.square) > 0 else None


def _neighbourhoods(counts: Array) -> tuple[Array, Array, Array, Array]:
    """Mean and squared noise of 3 × 3 pixels, mean and variance of the ring around."""

    def mean(image: Array, side: int) -> Array:
        return np.asarray(scipy.ndimage.uniform_filter(image, (1, side, side)))

    inner, squares = mean(counts, 3), counts**2
    noise = scipy.ndimage.convolve(counts, _DIFFERENCES) ** 2
    ring = (25 * mean(counts, 5) - 9 * inner) / 16
    second = (25 * mean(squares, 5) - 9 * mean(squares, 3)) / 16
    return inner, noise, ring, second - ring**2
