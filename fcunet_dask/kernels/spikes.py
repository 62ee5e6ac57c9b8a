"""Single pixels that no diffraction explains: X-rays and hot pixels."""

from fcunet_dask.kernels.arrays import namespace
from fcunet_dask.types import Array

_RATIO = 4.0
_FLOOR = 10.0
"""Counts that a pixel may have on its own: more than Poisson noise ever adds."""


def cap_spikes(patterns: Array, gain: float = 1.0) -> Array:
    """Cut pixels down to 4 × the brightest of their four neighbours + 10 electrons.

    A disk is wider than a pixel, so that nothing of it is lost.

    Parameters
    ----------
    patterns : array
        (n, rows, columns), counts.
    gain : float
        Counts of one electron.

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
    patterns = patterns.astype(xp.float32)
    around = xp.zeros_like(patterns)
    for here, there in (((1, None), (None, -1)), ((None, -1), (1, None))):
        a, b = slice(*here), slice(*there)
        xp.maximum(around[:, a], patterns[:, b], out=around[:, a])
        xp.maximum(around[:, :, a], patterns[:, :, b], out=around[:, :, a])
    around *= _RATIO
    around += _FLOOR * gain
    return xp.minimum(patterns, around, out=around)
