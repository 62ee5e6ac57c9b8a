"""Single pixels that no diffraction explains: X-rays and hot pixels."""

from fcunet_dask.kernels.arrays import namespace
from fcunet_dask.kernels.camera import COUNTING, CameraNoise
from fcunet_dask.types import Array

_RATIO = 4.0
_FLOOR = 10.0
"""Counts that a pixel may have on its own: more than Poisson noise ever adds."""

_NOISE = 5.0
"""Standard deviations of readout noise that it may have besides."""


def cap_spikes(patterns: Array, camera: CameraNoise = COUNTING) -> Array:
    """Cut pixels down to 4 × the brightest of their four neighbours + 10 electrons.

    And to no less than five deviations of the readout noise; a dark level is taken off.

    A disk is wider than a pixel, so that nothing of it is lost.

    Parameters
    ----------
    patterns : array
        (n, rows, columns), counts.
    camera : CameraNoise
        Of the patterns.

    Returns
    -------
    array
        float32 (n, rows, columns).

    Examples
    --------
    >>> import numpy as np
    >>> image = np.ones((1, 4, 4))
    >>> image[0, 1, 1] = 1e9
    >>> float(cap_spikes(image).max())
    14.0
    """
    xp = namespace(patterns)
    patterns = camera.undarkened(patterns.astype(xp.float32))
    around = xp.zeros_like(patterns)
    for here, there in (((1, None), (None, -1)), ((None, -1), (1, None))):
        a, b = slice(*here), slice(*there)
        xp.maximum(around[:, a], patterns[:, b], out=around[:, a])
        xp.maximum(around[:, :, a], patterns[:, :, b], out=around[:, :, a])
    around *= _RATIO
    around += _FLOOR * camera.gain + _NOISE * camera.readout
    return xp.minimum(patterns, around, out=around)
