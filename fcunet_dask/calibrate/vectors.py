"""Bragg vectors from the origin, distortion and scale undone."""

from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr

from fcunet_dask.calibration import Calibration
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
        s, corrected over assumed scale; of vectors in px, 1/Å per px. One other than 1
        makes them 1/Å.

    Returns
    -------
    xarray.Dataset
        `bragg` with ``bragg_q`` and ``bragg_covariance`` replaced, and the attributes
        ``calibrated`` and ``calibration``, the latter with the corrected pixel.

    Raises
    ------
    SchemaError
        If `bragg` or `origin` lacks a variable.
    ParameterError
        If the transform is not an invertible (2, 2) matrix or the scale not positive and
        finite.
    """
    validate(bragg, BRAGG_Q, BRAGG_COVARIANCE)
    matrix = np.eye(2) if transform is None else np.asarray(transform, float)
    if matrix.shape != (2, 2) or not 1e-6 < abs(np.linalg.det(matrix)) < np.inf:
        msg = f"transform is an invertible (2, 2) matrix, got {transform!r}"
        raise ParameterError(msg)
    if not 0 < q_step_scale < np.inf:
        msg = f"q_step_scale must be positive and finite, got {q_step_scale!r}"
        raise ParameterError(msg)
    matrix = matrix * q_step_scale
    position = bragg[BRAGG_Q.name]
    if origin is not None:
        validate(origin, ORIGIN)
        position = position - _like(origin["origin"], position)
    out, unit = bragg.assign_attrs(calibrated=1), q_units(bragg)
    if q_step_scale != 1:
        out.attrs["calibration"] = _scaled(bragg, q_step_scale)
        unit = "1/Å"
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
    return annotate(out, BRAGG_Q, BRAGG_COVARIANCE, q_units=unit)


def _scaled(bragg: xr.Dataset, scale: float) -> dict[str, float | None]:
    """Calibration of Bragg vectors whose unit is corrected by `scale`."""
    known = Calibration.from_dict(bragg.attrs.get("calibration", {}))
    step = 1.0 if q_units(bragg) == "px" else known.q_step
    return replace(known, q_step=step and step * scale).to_dict()


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
