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


def even_steps(shape: tuple[int, int], most: int) -> tuple[int, int]:
    """Return steps that leave at most `most` positions of a scan, evenly.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns of the scan.
    most : int
        Positions.

    Returns
    -------
    (int, int)
        Of rows and columns.
    """
    y, x = 1, 1
    while -(-shape[0] // y) * -(-shape[1] // x) > most:
        if shape[0] // y > shape[1] // x:
            y += 1
        else:
            x += 1
    return y, x


def surface_coefficients(surface: Array, kind: str) -> Array:
    """Coefficients of a surface that is a polynomial, from its values.

    Parameters
    ----------
    surface : numpy.ndarray
        (rows, columns, 2), from `fit_surface`.
    kind : {"constant", "plane", "parabola"}
        Of the surface.

    Returns
    -------
    numpy.ndarray
        (terms, 2), for `surface_at`.
    """
    rows, columns = surface.shape[:2]
    y = np.unique(np.linspace(0, rows - 1, 7).astype(int))
    x = np.unique(np.linspace(0, columns - 1, 7).astype(int))
    values = surface[np.ix_(y, x)].reshape(-1, 2)
    terms = surface_terms(y[:, None], x[None, :], (rows - 1, columns - 1), TERMS[kind])
    return np.asarray(np.linalg.lstsq(terms.reshape(len(values), -1), values)[0])


def surface_at(coefficients: Array, y: Array, x: Array, last: tuple[int, int]) -> Array:
    """Values of a polynomial surface.

    Parameters
    ----------
    coefficients : numpy.ndarray
        (terms, 2).
    y, x : numpy.ndarray
        Row and column, of shapes that broadcast.
    last : (int, int)
        Row and column of the last position behind the coefficients.

    Returns
    -------
    numpy.ndarray
        (..., 2).
    """
    return surface_terms(y, x, last, len(coefficients)) @ coefficients


def surface_terms(y: Array, x: Array, last: tuple[int, int], count: int) -> Array:
    """Polynomials on the scan, −1 to 1 in each direction.

    Parameters
    ----------
    y, x : numpy.ndarray
        Row and column, of shapes that broadcast.
    last : (int, int)
        Last row and column of the scan.
    count : int
        Of the polynomials (`TERMS`).

    Returns
    -------
    numpy.ndarray
        (..., count).
    """
    v, u = (
        2.0 * i / n - 1 if n else np.zeros(np.shape(i))
        for i, n in zip((y, x), last, strict=True)
    )
    terms = np.broadcast_arrays(np.ones_like(v), v, u, v * v, v * u, u * u)
    return np.stack(terms[:count], axis=-1)
