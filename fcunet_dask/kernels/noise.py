"""How noise is shared by neighbouring pixels: what a scintillator does to it."""

from typing import Final

import numpy as np
import scipy.fft

from fcunet_dask.types import Array

_SIDE: Final = 16
"""Of the patches whose noise is looked at, px."""
_LOWEST, _HIGHEST = 0.1, 0.3
"""Frequencies, 1/px, between those of the structure of a pattern and those that a
scintillator leaves nothing of."""
_WIDTH, _RATIO = 0.4, 2.5
"""Point spread (σ, px), and noise of sums over that of differences, from which on it is
clear."""
_RIM: Final = 0.2
"""Frequency, 1/px, at which places of disks are read off their rims."""
_QUIET: Final = 2.0
"""Power of the patches that hold noise alone over that of the quietest tenth, at most."""
_CLEAR, _SEEN = 5.0, 0.5
"""The same ratio beside readout noise, and that of electrons over it, from which on it is
clear."""
_FEWEST, _MOST = 10, 4096
"""Patches that are looked at."""
_TENTHS: Final = 10


def shared_gain(
    patterns: Array, mask: Array, readout: float = 0.0, gain: float = 1.0
) -> float:
    """Gain of a camera whose electrons light many pixels each, from its noise.

    Neighbours then fluctuate together: their differences hide most of the noise. The
    power spectrum of noise that a Gaussian spreads is P₀ exp(−4π²σ²f²). P₀, the variance
    over the mean of sums of many pixels, is the gain; what counts for the place of a disk
    is the power at its rim, taken here at a fifth of a cycle a pixel. It is fitted to
    the mean spectrum of the patches that fluctuate least for what they count, less their
    smooth parts.

    Parameters
    ----------
    patterns : numpy.ndarray
        (n, rows, columns), counts.
    mask : numpy.ndarray
        bool (rows, columns), True where the camera measures.
    readout : float
        Standard deviation of the noise of pixels without electrons, counts: it is not
        shared.
    gain : float
        Counts of one electron, by differences of neighbours.

    Returns
    -------
    float
        Counts of one electron of a camera of independent pixels with as much noise at
        a rim; 0 where the noise is not clearly shared by neighbours.
    """
    as_bright = readout**2 / gain
    patches = _whole_patches(patterns, mask, -as_bright)
    if len(patches) < _FEWEST:
        return 0.0
    counts = patches.mean(axis=1) + as_bright
    power = _power(patches) / counts[:, None, None]
    broad = power[:, _USED].mean(axis=1)
    quiet = broad <= _QUIET * np.quantile(broad, 0.1)
    # what is left of the noise without that of the readout, for each count of electrons
    added = readout**2 * (1 / counts[quiet]).mean()
    share = (patches[quiet].mean(axis=1) / counts[quiet]).mean()
    power = power[quiet].mean(axis=0) - added
    shown = _shown(patches[quiet], counts[quiet]) - added
    if not (share > 0 and shown > 0 and (power[_USED] > 0).all()):
        return 0.0
    slope, start = np.polyfit(_F2[_USED], np.log(power[_USED]), 1)
    at_rim = float(np.exp(start + slope * _RIM**2))
    wide = -slope > (2 * np.pi * _WIDTH) ** 2
    clear = at_rim > max((_RATIO if not readout else _CLEAR) * shown, _SEEN * added)
    return at_rim / share if wide and clear else 0.0


def shared_electrons(patterns: Array, mask: Array, variance: float) -> float:
    """Return the counts of electrons in the darkest patches, by the noise they share.

    That is the noise between the frequencies of structure and of points, beyond what
    differences of neighbours show; it grows from the darkest tenth of the patches to the
    next darkest in proportion to their electrons.

    Parameters
    ----------
    patterns : numpy.ndarray
        (n, rows, columns), counts.
    mask : numpy.ndarray
        bool (rows, columns), True where the camera measures.
    variance : float
        Of dark pixels, counts², by differences of neighbours.

    Returns
    -------
    float
        Counts; 0 where no noise is shared, infinite where too few patches tell.
    """
    patches = _whole_patches(patterns, mask, -np.inf)
    if len(patches) < _TENTHS * _FEWEST:
        return float("inf")
    patches = patches[np.argsort(patches.mean(axis=1), kind="stable")]
    first, second = np.array_split(patches, _TENTHS)[:2]
    noise = [
        np.sort(_power(tenth)[:, _USED].mean(axis=1))[: len(tenth) // 2].mean()
        for tenth in (first, second)
    ]
    if noise[0] <= variance:
        return 0.0
    rise = (noise[1] - noise[0]) / (second.mean() - first.mean())
    return float((noise[0] - variance) / rise) if rise > 0 else float("inf")


def _power(patches: Array) -> Array:
    """Power spectra of patches less their smooth parts, (m, px, px)."""
    rest = patches - (patches @ _SMOOTH) @ _SMOOTH.T
    transformed = scipy.fft.fft2(rest.reshape(-1, _SIDE, _SIDE)) / _SIDE
    return np.asarray(np.abs(transformed) ** 2)


def _shown(patches: Array, counts: Array) -> float:
    """Variance for each count, from differences of pixels and their four neighbours."""
    image = patches.reshape(-1, _SIDE, _SIDE)
    around = image[:, :-2, 1:-1] + image[:, 2:, 1:-1]
    around = around + image[:, 1:-1, :-2] + image[:, 1:-1, 2:]
    squares = (image[:, 1:-1, 1:-1] - 0.25 * around) ** 2
    return float((squares.mean(axis=(1, 2)) / counts).mean() / 1.25)


def _whole_patches(patterns: Array, mask: Array, least: float) -> Array:
    """Pixels (m, px) of the patches that measure, and count more than the least."""
    whole = _patches(np.asarray(mask, float)[None]).all(axis=1)
    patches = _patches(np.asarray(patterns, float))[np.tile(whole, len(patterns))]
    patches = patches[patches.mean(axis=1) > least]
    return patches[:: 1 + len(patches) // _MOST]


def _patches(images: Array) -> Array:
    n, rows, columns = (len(images), *(s // _SIDE for s in images.shape[1:]))
    cut = images[:, : rows * _SIDE, : columns * _SIDE]
    cut = cut.reshape(n, rows, _SIDE, columns, _SIDE).swapaxes(2, 3)
    return cut.reshape(n * rows * columns, _SIDE**2)


def _smooth_parts() -> Array:
    """Orthonormal polynomials of second order on a patch, (px, 6)."""
    y, x = np.indices((_SIDE, _SIDE)).reshape(2, -1) / _SIDE - 0.5
    terms = np.stack([y**0, y, x, y * y, y * x, x * x], axis=1)
    return np.asarray(np.linalg.qr(terms)[0])


_SMOOTH: Final = _smooth_parts()
_F: Final = np.fft.fftfreq(_SIDE)
_F2: Final = _F[:, None] ** 2 + _F**2
_USED: Final = (_F2 >= _LOWEST**2) & (_F2 < _HIGHEST**2)
