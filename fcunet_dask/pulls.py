"""Pulls: errors that the disks of a pattern share, for the error bars of lattices."""

import numpy as np
import xarray as xr

from fcunet_dask._blockwise import map_positions
from fcunet_dask.errors import SchemaError
from fcunet_dask.kernels.lattice import index_disks
from fcunet_dask.kernels.pulls import SPLITS, common_pulls, pulls_of_halves
from fcunet_dask.schema import (
    BRAGG_COVARIANCE,
    BRAGG_INTENSITY,
    BRAGG_Q,
    COMPONENT,
    COMPONENTS,
    LATTICE_STATUS,
    q_units,
    validate,
)
from fcunet_dask.types import Array

_PULLS = SPLITS * 8
_WIDTH = _PULLS + SPLITS


def measure_pulls(bragg: xr.Dataset, lattice: xr.Dataset) -> xr.Dataset:
    """Measure how much the disks of patterns are pulled together.

    Strain, tilt and thickness change what fills the disks, and that pulls all of them
    outwards or inwards. Lattices have then errors that their disks agree on
    (`fcunet_dask.kernels.pulls`); with what is measured here `fit_lattice` has them in
    its covariances.

    Parameters
    ----------
    bragg : xarray.Dataset
        With ``bragg_q``, ``bragg_covariance``, ``bragg_intensity``; some thousand
        positions are enough.
    lattice : xarray.Dataset
        From `fit_lattice`, of the same positions.

    Returns
    -------
    xarray.Dataset
        ``pull_axes`` (grain, axis, component), unit vectors; ``pull_variance`` (grain,
        axis), 1/Å²; in memory. Grains that fewer than 16 positions have are not pulled.

    Raises
    ------
    SchemaError
        If a variable is missing, or the lattice is of other positions.
    """
    validate(bragg, BRAGG_Q, BRAGG_COVARIANCE, BRAGG_INTENSITY)
    validate(lattice, LATTICE_STATUS)
    if "basis" not in lattice.attrs:
        msg = "the lattice has no basis: take that of fit_lattice"
        raise SchemaError(msg)
    status = lattice[LATTICE_STATUS.name]
    if bragg[BRAGG_Q.name].shape[:2] != status.shape:
        msg = f"disks of {bragg[BRAGG_Q.name].shape[:2]}, lattices of {status.shape}"
        raise SchemaError(msg)
    bases = np.array(lattice.attrs["basis"], float)
    grain = lattice.get("grain_index", xr.zeros_like(status))
    grain = grain.where(status == 0, -1).compute()
    halves = _halves(bragg, grain, bases)
    pulls = [
        common_pulls(rows[:, :_PULLS].reshape(-1, SPLITS, 2, 2, 2), rows[:, _PULLS:])
        for rows in (halves[grain.values.ravel() == g] for g in range(len(bases)))
    ]
    unit = q_units(bragg)
    return xr.Dataset(
        {
            "pull_axes": (("grain", "axis", COMPONENT), [p.axes for p in pulls]),
            "pull_variance": (
                ("grain", "axis"),
                [p.variance for p in pulls],
                {"units": f"{unit}²"},
            ),
        },
        {COMPONENT: list(COMPONENTS)},
    )


def _halves(bragg: xr.Dataset, grain: xr.DataArray, bases: Array) -> Array:
    """Return pulls of halves of the disks of each position, (positions, 36)."""
    disks = [bragg[v.name] for v in (BRAGG_Q, BRAGG_COVARIANCE, BRAGG_INTENSITY)]
    found = map_positions(_halves_kernel, [*disks, grain], _WIDTH, bases=bases)
    return np.asarray(found).reshape(-1, _WIDTH)


def _halves_kernel(
    position: Array, covariance: Array, intensity: Array, grain: Array, bases: Array
) -> Array:
    """Disks (n, peaks, ...) → (n, 36): pulls of halves on the lattice of the position."""
    out = np.full((len(position), _WIDTH), np.nan)
    for g, basis in enumerate(bases):
        rows = np.flatnonzero(grain == g)
        disks = position[rows].astype(float), covariance[rows], intensity[rows]
        fit, indexed = index_disks(*disks, basis, np.zeros((len(rows), 2)))
        pulls, variance = pulls_of_halves(indexed, basis)
        fitted = rows[fit.status == 0]
        out[fitted, :_PULLS] = pulls.reshape(len(fitted), _PULLS)
        out[fitted, _PULLS:] = variance
    return out


__all__ = ["measure_pulls"]
