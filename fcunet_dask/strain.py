"""Strain maps: how the lattice differs from the unstrained one."""

from typing import Final

import numpy as np
import xarray as xr

from fcunet_dask._blockwise import map_positions
from fcunet_dask.errors import ParameterError, SchemaError
from fcunet_dask.kernels.strain import (
    axes_matrix,
    matching_vectors,
    strain_covariance,
    strain_tensor,
)
from fcunet_dask.schema import (
    G1,
    G2,
    LATTICE_COVARIANCE,
    STRAIN_VARIABLES,
    annotate,
    q_units,
    validate,
)
from fcunet_dask.types import Array, is_finite

_OTHER_LATTICE: Final = 0.3
"""Principal strain from a reference to a basis from which on they are two lattices: twice
what a position may be stretched by (ADR 0035)."""


def compute_strain(
    lattice: xr.Dataset,
    reference: xr.Dataset,
    *,
    axes: str | float = "scan",
) -> xr.Dataset:
    """Strain and rotation of every position, with standard deviations, lazily.

    G = F⁻ᵀ G₀, F = R U, ε = U − I: positive = expansion of the real lattice; the
    rotation is positive from +x towards +y (`fcunet_dask.kernels.strain`).

    Parameters
    ----------
    lattice : xarray.Dataset
        From `fit_lattice`: ``g1``, ``g2`` (scan_y, scan_x, component) and
        ``lattice_covariance``.
    reference : xarray.Dataset
        The unstrained lattice, from `reference_lattice`, also of another scan: ``g1``,
        ``g2`` (component) or (grain, component). Where these are other vectors of the
        same lattice, they are exchanged for those of `lattice`.
    axes : {"scan", "detector", "g1"} or float
        Axes of the tensor: x along the scan's x axis (needs the scan rotation of the
        calibration; 0 where it has none), along the detector's, along the reference
        g₁ of each grain; or the angle of x from the detector's x axis towards +y, degrees.

    Returns
    -------
    xarray.Dataset
        ``strain_xx``, ``strain_yy``, ``strain_xy``, ``rotation`` (scan_y, scan_x) and
        each ``…_std``; NaN where the lattice is. The standard deviations are those of
        the position: an error of the reference is common to all. The attribute
        ``axes_degrees`` has for each grain the angle of x from the detector's x axis.

    Raises
    ------
    SchemaError
        If a variable is missing.
    ParameterError
        If `axes` is unknown, or the reference has another number of grains, another
        unit, or is another lattice.
    """
    validate(lattice, G1, G2, LATTICE_COVARIANCE)
    vectors = _reference_vectors(reference, lattice)
    angle = _axes_angles(lattice, vectors, axes)
    grain = lattice.get("grain_index", xr.zeros_like(lattice["n_indexed"]))
    result = map_positions(
        _strain_kernel,
        [lattice["g1"], lattice["g2"], lattice["lattice_covariance"], grain],
        8,
        reference=vectors,
        angle=angle,
    )
    names = [v.name for v in STRAIN_VARIABLES]
    strain = xr.Dataset(
        {name: result.isel(result=i, drop=True) for i, name in enumerate(names)}
    )
    strain.attrs = {
        **{k: v for k, v in lattice.attrs.items() if k in ("calibration", "source")},
        "reference": vectors.tolist(),
        "axes_degrees": np.degrees(angle).tolist(),
    }
    return annotate(strain, *STRAIN_VARIABLES, q_units=q_units(lattice))


def _reference_vectors(reference: xr.Dataset, lattice: xr.Dataset) -> Array:
    """(grain, 4): the vectors of the reference that are those of the lattice."""
    missing = sorted({"g1", "g2"} - set(reference))
    if missing:
        msg = f"the reference has no {', '.join(missing)}: take reference_lattice(…)"
        raise SchemaError(msg)
    unit, expected = reference["g1"].attrs.get("units"), q_units(lattice)
    if unit not in (None, expected):
        msg = f"the reference is in {unit}, the lattice in {expected}"
        raise ParameterError(msg)
    vectors = np.concatenate(
        [np.atleast_2d(reference[name].values) for name in ("g1", "g2")], axis=1
    )
    basis = np.asarray(lattice.attrs.get("basis", vectors), float)
    if len(vectors) != len(basis):
        msg = f"the reference has {len(vectors)} grains, the lattice {len(basis)}"
        raise ParameterError(msg)
    present = np.isfinite(vectors).all(axis=1)
    for grain, known in enumerate(basis):
        if not present[grain]:
            continue
        found, deformation = matching_vectors(vectors[grain], known)
        if not deformation <= _OTHER_LATTICE:
            msg = (
                f"the reference (g1, g2 as y, x: {vectors[grain].round(4).tolist()}) is "
                f"another lattice than that of grain {grain} "
                f"({known.round(4).tolist()}, {expected})"
            )
            raise ParameterError(msg)
        vectors[grain] = found
    return vectors


def _axes_angles(lattice: xr.Dataset, reference: Array, axes: str | float) -> Array:
    """(grain,): the angle of the tensor's x axis from the detector's, towards +y, rad."""
    if axes == "g1":
        return np.arctan2(reference[:, 0], reference[:, 1])
    if axes == "scan":
        rotation = lattice.attrs.get("calibration", {}).get("scan_rotation") or 0.0
        degrees = -float(rotation)
    elif axes == "detector":
        degrees = 0.0
    elif is_finite(axes):
        degrees = float(axes)
    else:
        msg = f"axes is 'scan', 'detector', 'g1' or an angle in degrees, got {axes!r}"
        raise ParameterError(msg)
    return np.full(len(reference), np.radians(degrees))


def _strain_kernel(
    g1: Array,
    g2: Array,
    covariance: Array,
    grain: Array,
    reference: Array,
    angle: Array,
) -> Array:
    """Positions (n, ...) → (n, 8): four values, four standard deviations."""
    which = np.clip(np.nan_to_num(grain, nan=0), 0, len(reference) - 1).astype(int)
    values, jacobian = strain_tensor(np.concatenate([g1, g2], 1), reference[which])
    spread = strain_covariance(jacobian, covariance[:, 2:, 2:])
    turn = axes_matrix(angle[which])
    spread = turn @ spread @ np.swapaxes(turn, -1, -2)
    deviations = np.sqrt(np.maximum(np.diagonal(spread, axis1=1, axis2=2), 0))
    values = (turn @ values[..., None])[..., 0]
    return np.concatenate([values, deviations], axis=1)
