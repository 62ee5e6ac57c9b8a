"""Images of the truth, rendered at any size: nothing is ever resampled."""

import numpy as np

from fcunet_dask.types import Array


def render_peaks(
    q: Array, values: Array, shape: tuple[int, int], q_step: float, sigma: float = 0.7
) -> Array:
    """Image of Gaussian spots of given integral at sub-pixel positions.

    I = Σ_g v_g exp(−|q − q_g|²/2σ²) / 2πσ², zero frequency at pixel ``size // 2``.

    Parameters
    ----------
    q : array
        (n, 2) as (y, x), 1/Å; NaN marks an empty slot.
    values : array
        (n,) integrals.
    shape : (int, int)
        Rows and columns.
    q_step : float
        Detector pixel, 1/Å.
    sigma : float
        σ, px; below 0.7 the pixels alias.

    Returns
    -------
    numpy.ndarray
        float32 `shape`.

    Examples
    --------
    >>> image = render_peaks(np.array([[0.0, 0.1]]), np.ones(1), (8, 8), 0.1)
    >>> tuple(int(i) for i in np.unravel_index(image.argmax(), image.shape))
    (4, 5)
    """
    valid = np.isfinite(q).all(1)
    place = np.asarray(q)[valid] / q_step
    norm = np.asarray(values)[valid] / (2 * np.pi * sigma**2)
    sides = []
    for axis, size in enumerate(shape):
        distance = np.arange(size) - size // 2 - place[:, axis, None]
        sides.append(np.exp(-((distance / sigma) ** 2) / 2))
    image: Array = (norm[:, None] * sides[0]).T @ sides[1]
    return image.astype(np.float32)


def structure_factor_image(
    q: Array,
    strength: Array,
    shape: tuple[int, int],
    q_step: float,
    *,
    sigma: float = 0.7,
) -> Array:
    """Image of relative |V_g|, the strongest reflection 1.

    Does not depend on the thickness. The direct beam, first in the lists, gets the
    value of the strongest other one: its V_0 says nothing about structure.

    Parameters
    ----------
    q : array
        (n, 2) as (y, x), 1/Å, the direct beam first; NaN marks an empty slot.
    strength : array
        (n,) |V_g| exp(−s²/2σ_s²), V.
    shape : (int, int)
        Rows and columns.
    q_step : float
        Detector pixel, 1/Å.
    sigma : float
        Width of a spot, px.

    Returns
    -------
    numpy.ndarray
        float32 `shape`; the integral of a spot is its relative strength.
    """
    relative = np.where(np.isfinite(strength), strength, 0.0).astype(float)
    top = relative[1:].max(initial=0.0)
    relative[0] = top or 1.0
    return render_peaks(q, relative / relative[0], shape, q_step, sigma)
