"""Weighted least squares of planes a + h b + k c, many at once, in closed form.

Arrays are (disks, n): positions come last, so that sums over disks are sums of rows.
"""

from collections.abc import Sequence

import numpy as np

from fcunet_dask.types import Array


def fit_planes(
    values: Sequence[Array], weight: Array, h: Array, k: Array
) -> tuple[Array, Array, Array]:
    """Fit one plane to each of `values`, with the same weights.

    Parameters
    ----------
    values : sequence of numpy.ndarray
        m arrays (disks, n).
    weight, h, k : numpy.ndarray
        (disks, n); a weight of 0 = no disk.

    Returns
    -------
    coefficients : numpy.ndarray
        (3 m, n): a of each, b of each, c of each.
    inverse : numpy.ndarray
        (n, 3, 3): of the normal matrix.
    determined : numpy.ndarray
        bool (n,): whether the disks determine a plane.
    """
    s, sh, sk, hh, hk, kk = _moments(weight, h, k)
    minors = [
        hh * kk - hk * hk,
        sk * hk - sh * kk,
        sh * hk - sk * hh,
        s * kk - sk * sk,
        sh * sk - s * hk,
        s * hh - sh * sh,
    ]
    determinant = s * minors[0] + sh * minors[1] + sk * minors[2]
    determined = determinant > 1e-6 * s * hh * kk
    determined &= s > 0
    safe = np.where(determined, determinant, np.inf)
    a, b, c, d, e, f = minors = [m / safe for m in minors]
    m = len(values)
    coefficients = np.empty((3 * m, len(s)))
    for i, value in enumerate(values):
        weighted = weight * value
        u, v, w = weighted.sum(0), (weighted * h).sum(0), (weighted * k).sum(0)
        coefficients[i] = a * u + b * v + c * w
        coefficients[i + m] = b * u + d * v + e * w
        coefficients[i + 2 * m] = c * u + e * v + f * w
    return coefficients, _symmetric(minors), determined


def moment_matrix(weight: Array, h: Array, k: Array) -> Array:
    """(n, 3, 3): Σ w a aᵀ over the disks, a = (1, h, k)."""
    return _symmetric(_moments(weight, h, k))


def _moments(weight: Array, h: Array, k: Array) -> list[Array]:
    """Weighted sums of 1, h, k, hh, hk, kk, each (n,)."""
    wh, wk = weight * h, weight * k
    return [
        weight.sum(0),
        wh.sum(0),
        wk.sum(0),
        (wh * h).sum(0),
        (wh * k).sum(0),
        (wk * k).sum(0),
    ]


def _symmetric(upper: list[Array]) -> Array:
    """(n, 3, 3) from the six numbers of its upper triangle."""
    s, sh, sk, hh, hk, kk = upper
    flat = np.stack([s, sh, sk, sh, hh, hk, sk, hk, kk], axis=-1)
    return flat.reshape(-1, 3, 3)
