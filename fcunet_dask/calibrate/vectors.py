"""Bragg vectors from the origin, distortion and scale undone."""

from typing import Any

import numpy as np
import xarray as xr

from fcunet_dask.errors import ParameterError
from fcunet_dask.schema import (
    BRAGG_COVARIANCE,
    BRAGG_Q,
    COMPONENT,
    ORIGIN,
    SCAN,
    annotate,
    q_units,
    validate,
)
from fcunet_dask.types import Array


def apply_calibration(
    bragg: xr.Dataset,
    *,
    origin: xr.Dataset | None = None,
    transform: Any = None,
    q_step_scale: float = 1.0,
) -> xr.Dataset:
    """Refer Bragg vectors to the origin, and undo the distortion and scale, lazily.

    q' = s A (q − o), and its covariance with it.

    Parameters
    ----------
    bragg : xarray.Dataset
        From `find_bragg_vectors`.
    origin : xarray.Dataset, optional
        From `measure_origin`.
    transform : array, optional
        A, (2, 2), y before x: from `measure_ellipse`.
    q_step_scale : float
        s, corrected over assumed scale.

    Returns
    -------
    xarray.Dataset
        `bragg` with ``bragg_q`` and ``bragg_covariance`` replaced, and the attribute
        ``calibrated``.

    Raises
    ------
    SchemaError
        If `bragg` or `origin` lacks a variable.
    ParameterError
        If the transform is not an invertible (2, 2) matrix or the scale not positive.
    """
    validate(bragg, BRAGG_Q, BRAGG_COVARIANCE)
    matrix = np.eye(2) if transform is None else np.asarray(transform, float)
    if matrix.shape != (2, 2) or not abs(np.linalg.det(matrix)) > 1e-6:
        msg = f"transform is an invertible (2, 2) matrix, got {transform!r}"
        raise ParameterError(msg)
    if not q_step_scale > 0:
        msg = f"q_step_scale must be positive, got {q_step_scale!r}"
        raise ParameterError(msg)
    matrix = matrix * q_step_scale
    position = bragg[BRAGG_Q.name]
    if origin is not None:
        validate(origin, ORIGIN)
        position = position - _like(origin["origin"], position)
    out = bragg.assign_attrs(calibrated=1)
    if not np.array_equal(matrix, np.eye(2)):
        axes = (COMPONENT, f"{COMPONENT}_")
        turned = xr.DataArray(matrix, dims=(f"{COMPONENT}_", COMPONENT))
        position = xr.dot(position.drop_vars(COMPONENT), turned, dim=COMPONENT)
        position = position.rename({axes[1]: COMPONENT})
        covariance = bragg[BRAGG_COVARIANCE.name]
        pair = xr.DataArray(_pair_matrix(matrix), dims=("pair_", "pair"))
        turned_covariance = xr.dot(covariance.drop_vars("pair"), pair, dim="pair")
        out[BRAGG_COVARIANCE.name] = turned_covariance.rename(pair_="pair").astype("f4")
    out[BRAGG_Q.name] = position.astype("f4")
    return annotate(out, BRAGG_Q, BRAGG_COVARIANCE, q_units=q_units(bragg))


def _like(origin: xr.DataArray, position: xr.DataArray) -> xr.DataArray:
    """Origin in the blocks of `position`, single precision."""
    single = origin.astype("f4").drop_vars([n for n in SCAN if n in origin.coords])
    if position.chunks is None:
        return single
    return single.chunk({n: position.chunksizes[n] for n in SCAN})


def _pair_matrix(matrix: Array) -> Array:
    """(3, 3) that turns (yy, yx, xx) of C into those of A C Aᵀ."""
    (a, b), (c, d) = matrix
    return np.array(
        [
            [a * a, 2 * a * b, b * b],
            [a * c, a * d + b * c, b * d],
            [c * c, 2 * c * d, d * d],
        ]
    )
