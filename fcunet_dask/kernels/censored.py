"""What saturated pixels say: that they would have read as much, or more."""

from typing import Final

from fcunet_dask.kernels.arrays import namespace, special_module
from fcunet_dask.types import Array

_ROOT: Final = 0.5**0.5
_MILLS: Final = 0.7978845608
"""√(2/π)."""


def weigh_saturated(weight: Array, rest: Array, full: Array) -> None:
    """Replace weights and residuals of saturated pixels, in place.

    A pixel of mean μ and variance s² that is saturated at c has the probability Q(z) of a
    normal variable beyond z = (c − μ)/s; with λ = φ(z)/Q(z) the slope of its logarithm is
    λ/s, and the curvature λ (λ − z)/s² (Tobin, *Econometrica* 26 (1958) 24): nothing far
    below μ, that of a pixel that reads c far above it.

    Parameters
    ----------
    weight, rest : array
        (m, n): 1/s², 0 where a pixel does not measure, and c − μ, electrons.
    full : array
        bool (m, n): which are saturated.
    """
    xp = namespace(weight)
    at = xp.nonzero(full & (weight > 0))
    root = xp.sqrt(weight[at])
    z = rest[at] * root
    slope = _MILLS / special_module(z).erfcx(_ROOT * z)
    beyond = xp.maximum(slope - z, 1e-3 / (1 + xp.abs(z)))
    weight[at] *= slope * beyond
    rest[at] = 1 / (root * beyond)


def saturated_deviances(variance: Array, rest: Array) -> Array:
    """Return −2 log Q of pixels, were they saturated.

    Parameters
    ----------
    variance, rest : array
        s², electrons², and c − μ, electrons.

    Returns
    -------
    array
        As `rest`.
    """
    xp = namespace(rest)
    return -2 * special_module(rest).log_ndtr(-rest / xp.sqrt(variance))
