"""Strain of the simulated multilayers: the same lattice fit behind every detector."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr

from fcunet_dask.kernels.illumination import probe_wave
from fcunet_dask.lattice import fit_lattice, given_lattice, reference_lattice
from fcunet_dask.model import DiskDetector
from fcunet_dask.peaks import find_bragg_vectors
from fcunet_dask.probe import measure_probe
from fcunet_dask.pulls import measure_pulls
from fcunet_dask.simulate.evaluation import multilayer_scan
from fcunet_dask.simulate.scan_store import open_simulated_scan
from fcunet_dask.simulate.scans import ScanRecipe, lattice_truth
from fcunet_dask.strain import compute_strain
from fcunet_dask.train.judge.detection import Threshold
from fcunet_dask.types import Array

COMPONENTS: Final = ("xx", "yy", "xy", "rotation")
DOSE: Final = 1e6
"""Electrons of a pattern."""
PROBE_DOSE: Final = 1e8
"""Electrons in the vacuum probe."""
SEED: Final = 20_261
UNSTRAINED: Final = 1e-4
"""|ε_xx| below which a position belongs to the substrate."""

_LEAST_RANGE: Final = 1e-3


def counted_scan(path: str | Path, dose: float = DOSE) -> xr.Dataset:
    """Return a simulated scan with shot noise, in memory.

    Parameters
    ----------
    path : path-like
        From `fcunet_dask.simulate.scan_store.make_scan`, without noise.
    dose : float
        Electrons of a pattern.

    Returns
    -------
    xarray.Dataset
        ``pattern`` and ``probe`` in counts, and the truth.
    """
    scan = open_simulated_scan(path).load()
    rng = np.random.default_rng(SEED)
    for name, electrons in (("pattern", dose), ("probe", PROBE_DOSE)):
        expected = np.maximum(scan[name].to_numpy().astype(float), 0) * electrons
        scan[name] = scan[name].copy(data=rng.poisson(expected).astype(np.float32))
    return scan


def measure_strain(
    scan: xr.Dataset,
    make: Callable[[xr.Dataset], DiskDetector],
    threshold: Threshold,
) -> xr.Dataset:
    """Strain map of a scan with one detector, referred to its substrate.

    Parameters
    ----------
    scan : xarray.Dataset
        From `counted_scan`.
    make : callable
        Probe → detector.
    threshold : Threshold
        Which detections count.

    Returns
    -------
    xarray.Dataset
        As of `fcunet_dask.compute_strain`, in memory.
    """
    bragg = counting_disks(scan, make, threshold)
    basis = given_lattice(*(scan[f"true_{g}"].to_numpy()[0, 0] for g in ("g1", "g2")))
    pulls = measure_pulls(bragg, fit_lattice(bragg, basis))
    lattice = fit_lattice(bragg, basis, pulls=pulls)
    mask = np.abs(scan["true_strain_xx"].to_numpy()) < UNSTRAINED
    reference = reference_lattice(lattice, mask=mask)
    return compute_strain(lattice, reference).compute()


def counting_disks(
    scan: xr.Dataset,
    make: Callable[[xr.Dataset], DiskDetector],
    threshold: Threshold,
) -> xr.Dataset:
    """Find the disks of a scan that count; parameters as of `measure_strain`.

    Returns
    -------
    xarray.Dataset
        As of `fcunet_dask.find_bragg_vectors`, in memory; NaN where disks do not count.
    """
    probe = measure_probe(scan)
    probe.attrs |= {"gain": 1.0, "readout": 0.0, "dark": 0.0}
    bragg = find_bragg_vectors(scan, make(probe)).compute()
    intensity = bragg["bragg_intensity"]
    if threshold.ranking == "relative":
        values = intensity / intensity.max("peak")
    else:
        values = bragg[f"bragg_{threshold.ranking}"]
    keep = values >= threshold.value
    names = [n for n in bragg.data_vars if "peak" in bragg[n].dims]
    return bragg.assign({n: bragg[n].where(keep) for n in names})


def strain_figures(strain: xr.Dataset, truth: Array) -> dict[str, dict[str, float]]:
    """Errors of a strain map.

    Parameters
    ----------
    strain : xarray.Dataset
        From `measure_strain`.
    truth : array
        (rows, columns, 4), `COMPONENTS`.

    Returns
    -------
    dict
        For each of `COMPONENTS` ``rmse`` and ``bias``; ``gain``, the slope against the
        truth, NaN where that does not vary; ``noise``, the scatter in the substrate;
        ``within_1_sigma``, ``within_2_sigma``; ``fitted``, the share of positions.
    """
    substrate = np.abs(truth[..., 0]) < UNSTRAINED
    return {
        name: _component(strain, name, truth[..., i], substrate)
        for i, name in enumerate(COMPONENTS)
    }


def _component(
    strain: xr.Dataset, name: str, true: Array, substrate: Array
) -> dict[str, float]:
    variable = name if name == "rotation" else f"strain_{name}"
    found = strain[variable].to_numpy()
    deviation = strain[f"{variable}_std"].to_numpy()
    ok = np.isfinite(found)
    if ok.sum() < 3:
        return {"fitted": float(ok.mean())}
    error = found - true
    still = found[ok & substrate]
    varies = np.ptp(true[ok]) > _LEAST_RANGE
    return {
        "rmse": float(np.sqrt(np.mean(error[ok] ** 2))),
        "bias": float(error[ok].mean()),
        "gain": float(np.polyfit(true[ok], found[ok], 1)[0])
        if varies
        else float("nan"),
        "noise": float(still.std()) if len(still) > 2 else float("nan"),
        "within_1_sigma": float((np.abs(error) < deviation)[ok].mean()),
        "within_2_sigma": float((np.abs(error) < 2 * deviation)[ok].mean()),
        "fitted": float(ok.mean()),
    }


def true_strain(kind: str, *, averaged: bool) -> Array:
    """Strain of a multilayer at the probe's middle, or averaged over its light.

    The average is that over |ψ|² of the incident probe: what a detector that weighs
    all of the illuminated crystal alike would see.

    Parameters
    ----------
    kind : str
        Of `fcunet_dask.simulate.evaluation.multilayer_scan`.
    averaged : bool
        Whether to average.

    Returns
    -------
    numpy.ndarray
        (rows, columns, 4), `COMPONENTS`.
    """
    recipe = multilayer_scan(kind)
    places = recipe.places()
    if not averaged:
        return lattice_truth(recipe, places)[1]
    offset, weight = probe_profile(recipe)
    along = places[..., None, :] + np.stack([offset, np.zeros_like(offset)], -1)
    strain = lattice_truth(recipe, along)[1]
    averaged_strain: Array = np.einsum("yxuc,u->yxc", strain, weight)
    return averaged_strain


def probe_profile(recipe: ScanRecipe) -> tuple[Array, Array]:
    """Share of the probe's light along x, summed over y: offsets (Å) and weights."""
    grid = recipe.grid
    wave = probe_wave(recipe.probe, grid.frequencies(), grid.box, grid.wavelength)
    profile = (np.abs(np.fft.ifft2(np.fft.ifftshift(wave))) ** 2).sum(axis=0)
    half = len(profile) // 2
    profile = np.roll(profile, half - int(profile.argmax()))
    offset = (np.arange(len(profile)) - half) * grid.box / len(profile)
    return offset, profile / profile.sum()


def summary(strain: xr.Dataset, kind: str) -> dict[str, Any]:
    """Return the figures against both truths, and the profile along the scan."""
    truths = {
        "middle": true_strain(kind, averaged=False),
        "averaged": true_strain(kind, averaged=True),
    }
    profile = {
        "true": truths["middle"][..., 0].mean(axis=0).tolist(),
        "averaged": truths["averaged"][..., 0].mean(axis=0).tolist(),
        "found": strain["strain_xx"].mean("scan_y").to_numpy().tolist(),
        "found_yy": strain["strain_yy"].mean("scan_y").to_numpy().tolist(),
    }
    figures = {name: strain_figures(strain, truth) for name, truth in truths.items()}
    return {"figures": figures, "profile": profile}
