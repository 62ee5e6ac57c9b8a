"""Second pass: from Bragg vectors to strain."""

from typing import Any

import numpy as np
import xarray as xr

from fcunet_dask.calibrate import apply_calibration, measure_origin
from fcunet_dask.calibration import Calibration
from fcunet_dask.lattice import (
    find_lattice,
    fit_lattice,
    given_lattice,
    reference_lattice,
)
from fcunet_dask.peaks import bragg_vector_map
from fcunet_dask.pipeline.settings import Settings
from fcunet_dask.schema import Q, q_units
from fcunet_dask.strain import compute_strain


def analyze(
    bragg: xr.Dataset, probe: xr.Dataset, settings: Settings
) -> tuple[xr.Dataset, dict[str, Any]]:
    """Bragg vectors → calibrated map, lattice and strain.

    Parameters
    ----------
    bragg : xarray.Dataset
        From `find_bragg_vectors`.
    probe : xarray.Dataset
        From `estimate_probe`.
    settings : Settings

    Returns
    -------
    results : xarray.Dataset
        ``bragg_vector_map`` (map_q_y, map_q_x), ``beam`` (the fitted origin surface),
        ``basis_g1``, ``basis_g2``, ``reference_g1``, ``reference_g2`` (grain,
        component), and all variables of lattice and strain.
    choices : dict
        What was chosen, and from what.
    """
    step = _pixel(bragg, probe)
    radius = probe.attrs["radius"] * step
    origin = measure_origin(bragg, kind=settings.origin)
    calibrated = apply_calibration(bragg, origin=origin, transform=settings.transform)
    reach = 0.5 * step * max(probe["probe"].shape) * 1.42
    bragg_map = bragg_vector_map(calibrated, step=step / 2, extent=reach).compute()
    if settings.g1 is not None and settings.g2 is not None:
        basis = given_lattice(settings.g1, settings.g2, q_units(bragg))
        how = "given"
    else:
        basis = find_lattice(bragg_map, radius=radius, most_grains=settings.grains)
        how = "Bragg-vector map"
    lattice = fit_lattice(calibrated, basis)
    lattice = lattice.persist() if _small(lattice) else lattice
    reference = reference_lattice(lattice, region=settings.reference)
    strain = compute_strain(lattice, reference, axes=settings.axes)
    results = xr.merge([lattice.drop_attrs(deep=False), strain.drop_attrs(deep=False)])
    results["bragg_vector_map"] = bragg_map.rename(q_y="map_q_y", q_x="map_q_x")
    results["beam"] = origin["origin"]
    for name in ("g1", "g2"):
        results[f"basis_{name}"] = basis[name]
        results[f"reference_{name}"] = reference[name]
    choices = {
        "origin": {**origin.attrs, "from": "brightest disks"},
        "basis": {"from": how, **_vectors(basis)},
        "reference": {
            "from": _words(settings.reference),
            "positions": reference["n_positions"].values.tolist(),
        },
        "transform": np.eye(2).tolist()
        if settings.transform is None
        else np.asarray(settings.transform, float).tolist(),
        "axes": settings.axes,
    }
    return results, choices


def _vectors(basis: xr.Dataset) -> dict[str, Any]:
    """g₁ and g₂ of each grain, as lists."""
    return {name: basis[name].values.tolist() for name in ("g1", "g2")}


def _words(region: tuple[slice, slice] | None) -> str:
    """Rows and columns as they are typed: ``:,0:16``."""
    if region is None:
        return "median of all"
    ends = [[s.start, s.stop] for s in region]
    parts = [":".join("" if e is None else str(e) for e in pair) for pair in ends]
    return "rows and columns " + ",".join(parts)


def _pixel(bragg: xr.Dataset, probe: xr.Dataset) -> float:
    """Width of a detector pixel in the unit of q."""
    if Q[0] in probe.coords:
        return float(abs(probe[Q[0]][1] - probe[Q[0]][0]))
    return Calibration.from_dict(bragg.attrs.get("calibration", {})).q_step or 1.0


def _small(lattice: xr.Dataset) -> bool:
    return bool(lattice.nbytes < 2**27)
