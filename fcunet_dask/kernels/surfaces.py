"""Smooth surfaces through values measured over the scan, robustly."""

import numpy as np

from fcunet_dask.types import Array

TERMS = {"constant": 1, "plane": 3, "parabola": 6}
"""Number of coefficients of each kind of surface."""


def fit_surface(
    values: Array, kind: str, rounds: int = 6
) -> tuple[Array, Array, float]:
    """Fit a polynomial surface, down-weighting what lies far off it.

    Iterated least squares with Tukey weights, their width 4.7 times the median
    distance over 1.177 (the Rayleigh median): up to a third of the values may be wrong.

    Parameters
    ----------
    values : numpy.ndarray
        (rows, columns, 2): y, x; NaN = not measured.
    kind : {"constant", "plane", "parabola"}
        Of the surface.
    rounds : int
        Of re-weighting.

    Returns
    -------
    surface : numpy.ndarray
        float64 (rows, columns, 2), everywhere.
    covariance : numpy.ndarray
        float64 (rows, columns): variance of the surface in each direction.
    residual : float
        Standard deviation of the kept values about it.
    """
    rows, columns = values.shape[:2]
    design = _design(rows, columns, kind)
    flat = values.reshape(-1, 2)
    good = np.asarray(np.isfinite(flat).all(axis=1))
    if not good.any():
        nothing = np.full((rows, columns), np.nan)
        return np.stack([nothing, nothing], axis=-1), nothing, float("nan")
    weight = good.astype(float)
    target = np.where(good[:, None], flat, 0.0)
    centre = np.median(target[good], axis=0)
    distance = np.hypot(*(target - centre).T)
    for _ in range(rounds):
        width = 4.7 * np.median(distance[good]) / 1.1774 + 1e-12
        weight = good * np.maximum(1 - (distance / width) ** 2, 0) ** 2
        root = np.sqrt(weight)[:, None]
        coefficients = np.linalg.lstsq(design * root, target * root, rcond=None)[0]
        distance = np.hypot(*(target - design @ coefficients).T)
    total = max(weight.sum() - design.shape[1], 1.0)
    residual = float(np.sqrt((weight * distance**2).sum() / (2 * total)))
    inverse = np.linalg.pinv((design * weight[:, None]).T @ design)
    variance = residual**2 * np.einsum("ni,ij,nj->n", design, inverse, design)
    surface = design @ coefficients
    return (
        surface.reshape(rows, columns, 2),
        variance.reshape(rows, columns),
        residual,
    )


def _design(rows: int, columns: int, kind: str) -> Array:
    """Polynomials on the scan, −1 to 1 in each direction."""
    y, x = np.meshgrid(
        np.linspace(-1, 1, rows) if rows > 1 else np.zeros(1),
        np.linspace(-1, 1, columns) if columns > 1 else np.zeros(1),
        indexing="ij",
    )
    v, u = y.ravel(), x.ravel()
    terms = [np.ones_like(v), v, u, v * v, v * u, u * u]
    return np.stack(terms[: TERMS[kind]], axis=-1)


def direct_beam(position: Array, expected: Array, reach: float) -> Array:
    """Disk nearest to where the unscattered beam is expected.

    Parameters
    ----------
    position : numpy.ndarray
        (n, peaks, 2); NaN = none.
    expected : numpy.ndarray
        (2,) or (n, 2).
    reach : float
        Farther disks do not count.

    Returns
    -------
    numpy.ndarray
        (n, 2); NaN where none is within `reach`.
    """
    away = position - np.reshape(expected, (-1, 1, 2))
    distance = np.where(
        np.isfinite(away[..., 0]), np.hypot(*np.moveaxis(away, -1, 0)), np.inf
    )
    nearest = distance.argmin(axis=1)
    rows = np.arange(len(position))
    found = distance[rows, nearest] < reach
    return np.where(found[:, None], position[rows, nearest], np.nan)
