"""Noise of the search between disks: where these are crowded, they pass for noise."""

from typing import Final

from fcunet_dask.kernels.arrays import fft_module, namespace
from fcunet_dask.kernels.correlation import TWENTIETH, NormalizedTemplate
from fcunet_dask.types import Array

_ELECTRONS: Final = 0.5
"""Noise of the strength of many Poisson electrons."""
_STANDS_OUT: Final = 0.6
"""Share of the significance of a disk from which on something may be one."""
_ALIKE: Final = 0.6
"""Likeness that most disks have, and most of what a rough background makes has not."""
_FEWEST: Final = 50
"""Pixels between disks that tell their noise."""


def noise_between(
    strength: Array,
    prepared: NormalizedTemplate,
    peaks: Array,
    likeness: Array,
    noise: Array,
    reach: float,
    significance: float,
) -> Array:
    """Noise of the strength between disks, where `noise_level` may be that of disks.

    Where most of what stands out from the ½ of electrons is like disks, it is ½. Else
    all within reach of that is left out, and the rest, if there is any, asked again.

    Parameters
    ----------
    strength : array
        (n, rows, columns), from `normalized_correlation`.
    prepared : NormalizedTemplate
        With which.
    peaks : array
        int (3, m): pattern, row, column of what may be disks.
    likeness : array
        (m,): theirs.
    noise : array
        (n,), from `noise_level`.
    reach : float
        Distance from a disk at which it has no strength any more, px.
    significance : float
        What stands out, in units of the noise.

    Returns
    -------
    array
        (n,): ½ or more, no larger than `noise`; the same where that is no larger than ½.
    """
    xp = namespace(strength)
    which = xp.nonzero(noise > _ELECTRONS)[0]
    if not len(which):
        return noise
    tall = strength[tuple(peaks)] > _STANDS_OUT * significance * _ELECTRONS
    halo = _disk_spectrum(strength, reach)
    near = _around(peaks[:, tall], which, halo, strength.shape)
    rest = _low(xp.abs(strength[which]), ~near & (prepared.template_norm > 0))
    number, alike = (
        xp.bincount(peaks[0, chosen], minlength=len(strength))[which]
        for chosen in (tall, tall & (likeness > _ALIKE))
    )
    rest = xp.where(xp.isnan(rest), noise[which], rest)
    rest = xp.where(alike > 0.5 * number, _ELECTRONS, rest)
    between = noise.copy()
    between[which] = xp.clip(rest, _ELECTRONS, noise[which])
    return between


def _disk_spectrum(images: Array, radius: float) -> Array:
    """Half spectrum of a disk about pixel (0, 0)."""
    xp = namespace(images)
    rows, columns = images.shape[1:]
    y = xp.minimum(xp.arange(rows), rows - xp.arange(rows))[:, None]
    x = xp.minimum(xp.arange(columns), columns - xp.arange(columns))
    disk = (xp.hypot(y, x) < radius).astype(xp.float32)
    return fft_module(images).rfft2(disk)


def _around(peaks: Array, which: Array, halo: Array, shape: tuple[int, ...]) -> Array:
    """Pixels within a disk about the peaks of some of the patterns."""
    xp, fft = namespace(peaks), fft_module(peaks)
    marks = xp.zeros(shape, xp.float32)
    marks[tuple(peaks)] = 1
    spread = fft.irfft2(fft.rfft2(marks[which]) * halo, s=shape[1:])
    return xp.asarray(spread > 0.5)


def _low(magnitude: Array, counted: Array) -> Array:
    """Noise from the 20th percentile of the counted magnitudes; NaN where too few are."""
    xp = namespace(magnitude)
    number = counted.sum(axis=(1, 2))
    magnitude = xp.where(counted, magnitude, xp.inf).reshape(len(magnitude), -1)
    ordered = xp.sort(magnitude, axis=1)
    low = xp.take_along_axis(ordered, (number // 5)[:, None], axis=1)[:, 0]
    return xp.where(number < _FEWEST, xp.nan, low / TWENTIETH)
