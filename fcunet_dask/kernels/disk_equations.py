"""Normal equations of the fit of a disk, for all disks at once."""

import numpy as np

from fcunet_dask.kernels.arrays import namespace
from fcunet_dask.kernels.disk_model import DiskModel
from fcunet_dask.types import Array


def normal_equations(
    weight: Array,
    T: Array,
    slope_y: Array,
    slope_x: Array,
    rest: Array,
    model: DiskModel,
) -> Array:
    """Fisher matrix and, as its last column, gradient: (p, p + 1, m).

    Unknowns are filling, background and centre, in this order; only the upper triangle
    is set. All sums over pixels with modes are products with matrices that the disks
    share, and disks come last, so that `solve` works on all of them at once.
    """
    xp = namespace(weight)
    k = len(model.modes)
    system = xp.zeros((k + 3, k + 4, len(weight)), weight.dtype)
    first, second = (xp.asarray(i) for i in np.triu_indices(k))
    weighted_rest = weight * rest
    weight_T = weight * T
    system[first, second] = model.products.T @ (weight_T * T).T
    system[:k, k] = model.modes @ weight_T.T
    system[k, k] = weight.sum(1) + 1e-6
    system[k, k + 3] = weighted_rest.sum(1)
    rest = weighted_rest * T
    system[:k, k + 3] = model.modes @ rest.T
    for i, slope in enumerate((slope_y, slope_x), start=k + 1):
        system[:k, i] = model.modes @ xp.multiply(weight_T, slope, out=rest).T
        system[i, k + 3] = _row_sums(weighted_rest, slope)
        slope_weighted = xp.multiply(weight, slope, out=rest)
        system[k, i] = slope_weighted.sum(1)
        system[i, i] = _row_sums(slope_weighted, slope)
        if i == k + 1:
            system[i, i + 1] = _row_sums(slope_weighted, slope_x)
    return system


def _row_sums(a: Array, b: Array) -> Array:
    """Σ over pixels of a b, (m,)."""
    xp = namespace(a)
    return xp.matmul(a[:, None, :], b[:, :, None])[:, 0, 0]


_NOTHING = 1e-9
"""Precision of height and background where all of a window is masked."""


def add_priors(system: Array, filling: Array, mean: Array, model: DiskModel) -> None:
    """Width of the filling's coefficients; and ±2 px for the centre, a weak leash."""
    xp = namespace(system)
    k = len(model.modes)
    precision = 1 / (mean**2 * model.prior[:, None] + 1e-12)
    diagonal = xp.arange(1, k)
    system[diagonal, diagonal] += precision
    system[1:k, -1] -= precision * filling[:, 1:].T
    system[0, 0] += _NOTHING
    system[k, k] += _NOTHING
    system[k + 1, k + 1] += 0.25
    system[k + 2, k + 2] += 0.25


def solve(system: Array) -> tuple[Array, Array]:
    """Solve for the step, by elimination without pivots: the matrix is positive.

    Returns
    -------
    step : array
        (p, m).
    covariance : array
        (m, 3): yy, yx, xx of the centre, which is eliminated last.
    """
    xp = namespace(system)
    p = len(system)
    for j in range(p - 2):
        factor = system[j, j + 1 : p] / system[j, j]
        for i in range(j + 1, p):
            system[i, i:] -= factor[i - j - 1] * system[j, i:]
    yy, yx, xx = system[-2, -3], system[-2, -2], system[-1, -2]
    determinant = yy * xx - yx * yx
    covariance = xp.stack([xx, -yx, yy], axis=-1) / determinant[:, None]
    step = system[:, -1]
    y, x = step[-2], step[-1]
    step[-2:] = xp.stack([xx * y - yx * x, yy * x - yx * y]) / determinant
    for j in range(p - 3, -1, -1):
        step[j] -= (system[j, j + 1 : p] * step[j + 1 :]).sum(axis=0)
        step[j] /= system[j, j]
    return step, covariance.astype(xp.float64)
