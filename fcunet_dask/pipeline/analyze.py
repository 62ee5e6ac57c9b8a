"""Second pass: from Bragg vectors to strain.

What the whole scan has in common (where the beam is, the lattice, its unstrained form) is
found first, from a sample where the scan is large; then each block is on its own.
"""

from typing import Any, Final

import dask.array as da
import numpy as np
import xarray as xr

from fcunet_dask.calibrate import apply_calibration, measure_origin
from fcunet_dask.calibration import Calibration
from fcunet_dask.kernels.covered import covered_points
from fcunet_dask.kernels.surfaces import even_steps, surface_at, surface_coefficients
from fcunet_dask.lattice import (
    find_lattice,
    fit_lattice,
    given_lattice,
    reference_lattice,
)
from fcunet_dask.peaks import bragg_vector_map
from fcunet_dask.pipeline.settings import Settings
from fcunet_dask.pulls import measure_pulls
from fcunet_dask.schema import (
    BRAGG_Q,
    COMPONENT,
    COMPONENTS,
    G1,
    G2,
    LATTICE_STATUS,
    N_INDEXED,
    ORIGIN,
    SCAN,
    Q,
    q_units,
)
from fcunet_dask.strain import compute_strain
from fcunet_dask.types import Array

SAMPLE: Final = 2**16
"""About how many positions the origin and the reference are taken from."""
PULLED: Final = 2**12
"""About how many positions tell how disks are pulled together."""


def analyze(
    bragg: xr.Dataset, probe: xr.Dataset, settings: Settings
) -> tuple[xr.Dataset, dict[str, Any]]:
    """Bragg vectors → calibrated map, lattice and strain, lazily.

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
    common, choices = find_common(bragg, probe, settings)
    return xr.merge([analyze_block(bragg, choices), common]), choices


def find_common(
    bragg: xr.Dataset, probe: xr.Dataset, settings: Settings
) -> tuple[xr.Dataset, dict[str, Any]]:
    """Find what all positions have in common: origin surface, basis, reference.

    The origin and the reference of scans of more than 2¹⁶ positions are those of every
    second, third, … row and column; the Bragg-vector map holds every position.

    Parameters
    ----------
    bragg : xarray.Dataset
        From `find_bragg_vectors`.
    probe : xarray.Dataset
        From `estimate_probe`.
    settings : Settings

    Returns
    -------
    common : xarray.Dataset
        ``bragg_vector_map``, ``basis_g1``, ``basis_g2``, ``reference_g1`` and
        ``reference_g2``, in memory.
    choices : dict
        Plain JSON: what `analyze_block` needs, and where it is from.
    """
    step = _pixel(bragg, probe)
    choices: dict[str, Any] = {
        "origin": _origin(bragg, settings),
        "transform": np.eye(2).tolist()
        if settings.transform is None
        else np.asarray(settings.transform, float).tolist(),
        "axes": settings.axes,
    }
    calibrated = _calibrated(bragg, choices)
    reach = 0.5 * step * max(probe["probe"].shape) * 1.42
    bragg_map = bragg_vector_map(calibrated, step=step / 2, extent=reach).compute()
    if settings.g1 is not None and settings.g2 is not None:
        basis = given_lattice(settings.g1, settings.g2, q_units(bragg))
        how = "given"
    else:
        radius = probe.attrs["radius"] * step
        basis = find_lattice(bragg_map, radius=radius, most_grains=settings.grains)
        how = "Bragg-vector map"
    sample, chosen = _sample(calibrated, settings.reference)
    lattice = _fitted(sample, basis)
    reference = reference_lattice(lattice, mask=chosen)
    pulls = _measured_pulls(sample, lattice)
    choices["origin"]["covered"] = _covered(sample, lattice, choices)
    choices["basis"] = {"from": how, **_vectors(basis)}
    choices["reference"] = {
        "from": _words(settings.reference),
        "positions": reference["n_positions"].values.tolist(),
        "outside": reference["outside"].values.tolist(),
        **_vectors(reference),
    }
    choices["pulls"] = {name: v.values.tolist() for name, v in pulls.data_vars.items()}
    common = bragg_map.rename(q_y="map_q_y", q_x="map_q_x").to_dataset()
    for name in ("g1", "g2"):
        common[f"basis_{name}"] = basis[name]
        common[f"reference_{name}"] = reference[name]
    return common, choices


def analyze_block(
    bragg: xr.Dataset, choices: dict[str, Any], first: tuple[int, int] = (0, 0)
) -> xr.Dataset:
    """Lattice and strain of a part of a scan, lazily where `bragg` is lazy.

    Parameters
    ----------
    bragg : xarray.Dataset
        Bragg vectors of a block of positions.
    choices : dict
        From `find_common`.
    first : (int, int)
        Row and column of its first position in the scan.

    Returns
    -------
    xarray.Dataset
        ``beam`` and all variables of lattice and strain.
    """
    units = q_units(bragg)
    calibrated = _calibrated(bragg, choices, first)
    basis = _lattice_of(choices["basis"], units)
    lattice = fit_lattice(calibrated, basis, pulls=_pulls_of(choices["pulls"]))
    reference = _lattice_of(choices["reference"], units)
    strain = compute_strain(lattice, reference, axes=choices["axes"])
    results = xr.merge([lattice.drop_attrs(deep=False), strain.drop_attrs(deep=False)])
    results["beam"] = _beam(bragg, choices["origin"], first)
    return results


def _origin(bragg: xr.Dataset, settings: Settings) -> dict[str, Any]:
    """Surface of the unscattered beam, as coefficients."""
    rows, columns = bragg[BRAGG_Q.name].shape[:2]
    step = even_steps((rows, columns), SAMPLE)
    sample = bragg.isel(
        scan_y=slice(None, None, step[0]), scan_x=slice(None, None, step[1])
    )
    origin = measure_origin(sample, kind=settings.origin)
    last = [(n - 1) // s * s for n, s in zip((rows, columns), step, strict=True)]
    coefficients = surface_coefficients(
        np.asarray(origin["origin"]), origin.attrs["kind"]
    )
    return {
        **origin.attrs,
        "from": "brightest disks",
        "coefficients": coefficients.tolist(),
        "last": last,
    }


def _calibrated(
    bragg: xr.Dataset, choices: dict[str, Any], first: tuple[int, int] = (0, 0)
) -> xr.Dataset:
    origin = xr.Dataset({"origin": _beam(bragg, choices["origin"], first)})
    return apply_calibration(bragg, origin=origin, transform=choices["transform"])


def _beam(
    bragg: xr.Dataset, origin: dict[str, Any], first: tuple[int, int]
) -> xr.DataArray:
    """Origin surface at the positions of `bragg`, in its blocks."""
    position = bragg[BRAGG_Q.name]
    y = np.arange(position.shape[0])[:, None, None] + first[0]
    x = np.arange(position.shape[1])[None, :, None] + first[1]
    coefficients, last = np.array(origin["coefficients"]), tuple(origin["last"])
    values: Any
    if position.chunks is None:
        values = _beam_block(y, x, coefficients, last)
    else:
        rows, columns = position.chunks[:2]
        values = da.map_blocks(
            _beam_block,
            da.from_array(y, chunks=(rows, 1, 1)),
            da.from_array(x, chunks=(1, columns, 1)),
            coefficients,
            last,
            chunks=(rows, columns, (2,)),
            meta=np.empty((0, 0, 0)),
        )
    return xr.DataArray(
        values,
        dims=(*SCAN, COMPONENT),
        coords={COMPONENT: list(COMPONENTS)},
        attrs={"units": q_units(bragg)},
    )


def _beam_block(
    y: Array, x: Array, coefficients: Array, last: tuple[int, int]
) -> Array:
    return surface_at(coefficients, y[..., 0], x[..., 0], last)


def _sample(
    calibrated: xr.Dataset, region: tuple[slice, slice] | None
) -> tuple[xr.Dataset, Array]:
    """Part of the region and of the whole, evenly, and what of it is in the region."""
    rows, columns = calibrated[BRAGG_Q.name].shape[:2]
    shape = rows, columns
    inside = region or (slice(None), slice(None))
    picks, chosen = [], []
    whole = even_steps(shape, SAMPLE)
    parts = [range(n)[s] for n, s in zip(shape, inside, strict=True)]
    within = even_steps((len(parts[0]), len(parts[1])), SAMPLE)
    for n, part, all_step, part_step in zip(shape, parts, whole, within, strict=True):
        pick = np.union1d(np.arange(0, n, all_step), np.array(part[::part_step], int))
        picks.append(pick)
        chosen.append(np.isin(pick, np.array(part)))
    if (len(picks[0]), len(picks[1])) != shape:
        calibrated = calibrated.isel(scan_y=picks[0], scan_x=picks[1])
    return calibrated, chosen[0][:, None] & chosen[1]


def _fitted(sample: xr.Dataset, basis: xr.Dataset) -> xr.Dataset:
    """Return what reference and pulls need of the lattices, in memory."""
    names = [
        ORIGIN.name,
        G1.name,
        G2.name,
        N_INDEXED.name,
        LATTICE_STATUS.name,
        "grain_index",
    ]
    return fit_lattice(sample, basis)[names].compute()


def _covered(sample: xr.Dataset, lattice: xr.Dataset, choices: dict[str, Any]) -> Any:
    """Places of missing disks that may be the beam's, in the middle of the scan.

    y, x in the unit of q, in the axes of the detector.
    """
    rows, columns = lattice[N_INDEXED.name].shape
    y, x = even_steps((rows, columns), PULLED)
    part = {"scan_y": slice(None, None, y), "scan_x": slice(None, None, x)}
    names = (ORIGIN.name, G1.name, G2.name)
    fitted = np.concatenate([lattice[n].isel(part).values for n in names], axis=2)
    fitted = fitted.reshape(-1, 6)
    position = sample[BRAGG_Q.name].isel(part).values
    points = covered_points(position.reshape(len(fitted), -1, 2), fitted)
    if not len(points):
        return []
    typical = np.nanmedian(fitted, axis=0)
    away = typical[:2] + points @ typical[2:].reshape(2, 2)
    undone = away @ np.linalg.inv(np.array(choices["transform"])).T
    return (undone + np.array(choices["origin"]["coefficients"])[0]).tolist()


def _measured_pulls(sample: xr.Dataset, lattice: xr.Dataset) -> xr.Dataset:
    """Measure pulls at some thousand positions of the sample."""
    rows, columns = lattice[N_INDEXED.name].shape
    y, x = even_steps((rows, columns), PULLED)
    part = {"scan_y": slice(None, None, y), "scan_x": slice(None, None, x)}
    return measure_pulls(sample.isel(part), lattice.isel(part))


def _pulls_of(pulls: dict[str, Any]) -> xr.Dataset:
    """Return pulls of each grain, from lists."""
    return xr.Dataset(
        {
            "pull_axes": (("grain", "axis", COMPONENT), np.array(pulls["pull_axes"])),
            "pull_variance": (("grain", "axis"), np.array(pulls["pull_variance"])),
        }
    )


def _vectors(basis: xr.Dataset) -> dict[str, Any]:
    """g₁ and g₂ of each grain, as lists."""
    return {name: basis[name].values.tolist() for name in ("g1", "g2")}


def _lattice_of(vectors: dict[str, Any], units: str) -> xr.Dataset:
    """g₁ and g₂ of each grain, from lists."""
    return xr.Dataset(
        {
            name: (("grain", COMPONENT), np.array(vectors[name]), {"units": units})
            for name in ("g1", "g2")
        },
        {COMPONENT: list(COMPONENTS)},
    )


def _words(region: tuple[slice, slice] | None) -> str:
    """Rows and columns as they are typed: ``:,0:16``."""
    if region is None:
        return "median of all"
    ends = [[s.start, s.stop, *([s.step] if s.step else [])] for s in region]
    parts = [":".join("" if e is None else str(e) for e in pair) for pair in ends]
    return "rows and columns " + ",".join(parts)


def _pixel(bragg: xr.Dataset, probe: xr.Dataset) -> float:
    """Width of a detector pixel in the unit of q."""
    if Q[0] in probe.coords:
        return float(abs(probe[Q[0]][1] - probe[Q[0]][0]))
    return Calibration.from_dict(bragg.attrs.get("calibration", {})).q_step or 1.0
