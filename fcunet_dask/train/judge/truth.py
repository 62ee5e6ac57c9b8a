"""The patterns that detectors are judged on, and what is true of them."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr
from scipy.spatial import cKDTree

from fcunet_dask.errors import ParameterError
from fcunet_dask.probe import measure_probe
from fcunet_dask.simulate.artefacts import (
    Artefacts,
    Clean,
    Observation,
    expect,
    expose,
)
from fcunet_dask.simulate.conditions import ArtefactRecipe, draw_artefacts
from fcunet_dask.simulate.crystals import Crystal
from fcunet_dask.simulate.draw import library_crystals
from fcunet_dask.simulate.library import clean_pattern, open_library, read_recipe
from fcunet_dask.simulate.visibility import (
    Visibility,
    disk_contrast,
    disk_significance,
    elastic_pattern,
    frame_distance,
    visible_disks,
)
from fcunet_dask.types import Array

MODERATE: Final = ArtefactRecipe(
    dose=(1e4, 1e6),
    probe_dose=(10.0, 100.0),
    loss=(0.05, 0.3),
    loss_width=(0.001, 0.02),
    thermal=(0.0, 0.5),
    ellipse=0.005,
    max_ellipse=0.01,
    scale=0.0,
    barrel=0.0,
    shift_px=3.0,
    amorphous=0.2,
    stopped=0.0,
    two_grains=0.0,
    scintillator=0.0,
    sigma=(0.3, 0.7),
    bad=(0.0, 0.0),
)
"""A good experiment: a counting camera that misses nothing, a layer of carbon now and
then, an inelastic background, some ellipse and descan."""
SEED: Final = 20_260
ABSENT_SHARE: Final = 1e-3
"""|V_g| over the strongest below which a reflection counts as systematically absent."""

_LEAST_EDGE: Final = 0.3
_ZONES: Final = 3


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """One pattern and its truth, px from the middle of the first pixel.

    Attributes
    ----------
    key : tuple of int
        Specimen and thickness in its library.
    counts : array
        float32 (rows, columns), electrons.
    probe : xarray.Dataset
        What `load_detector` makes a detector from.
    q_step : float
        Detector pixel, 1/Å.
    position : array
        float64 (n, 2) as (y, x): every reflection near the Ewald sphere, the direct
        beam first.
    label : array
        int8 (n,), `Visibility`; of the direct beam nothing is asked.
    flux, background : array
        float64 (n,): electrons of the disk itself, and of all else in a pixel under it.
    potential, strength : array
        float64 (n,): |V_g|, and that weakened by the distance to the Ewald sphere, V.
    condition : dict
        ``thickness`` (nm), ``dose``, ``radius`` (px), ``semiangle`` (mrad),
        ``voltage`` (kV), ``tilt`` (from the nearest zone axis, degrees), ``system``,
        ``spacing`` (median distance of neighbouring visible disks over the radius).
    """

    key: tuple[int, int]
    counts: Array
    probe: xr.Dataset
    q_step: float
    position: Array
    label: Array
    flux: Array
    background: Array
    potential: Array
    strength: Array
    condition: dict[str, Any]

    @property
    def radius(self) -> float:
        """Of the disks, px."""
        return float(self.condition["radius"])

    @property
    def edge(self) -> float:
        """Of the disks' blurred edge, px."""
        return max(float(self.probe.attrs["edge"]), _LEAST_EDGE)

    @property
    def tolerance(self) -> float:
        """Distance within which a detection belongs to a reflection, px."""
        return max(2.0, 0.5 * self.radius)


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A pattern before it is counted, so that it can be counted at any dose.

    Attributes
    ----------
    clean : Clean
        What was simulated.
    expected : Observation
        From `fcunet_dask.simulate.artefacts.expect`, without noise.
    elastic : array
        float32 (rows, columns): what of it is in disks.
    artefacts : Artefacts
        What happens to it, dose and camera included.
    potential : array
        float64 (n,) |V_g|, V.
    q_step : float
        1/Å.
    key : tuple of int
        Specimen and thickness.
    condition : dict
        What `Judged.condition` has of specimen and microscope.
    """

    clean: Clean
    expected: Observation
    elastic: Array
    artefacts: Artefacts
    potential: Array
    key: tuple[int, int]
    condition: dict[str, Any]

    def judged(self, dose: float | None = None) -> Judged:
        """Count the pattern, at its own dose or another, and say what can be seen.

        The noise depends on the pattern and the dose alone, so everyone sees the same.
        """
        art = self.artefacts
        if dose is not None:
            art = replace(art, dose=dose, probe_dose=dose * art.probe_dose / art.dose)
        seed = [SEED, 2, *self.key, round(art.dose)]
        seen = expose(self.expected, art, np.random.default_rng(seed))
        q_step = self.clean.q_step
        probe = vacuum_probe(seen, q_step)
        radius, edge = probe.attrs["radius"], max(probe.attrs["edge"], _LEAST_EDGE)
        place = self.positions()
        counts = self.expected.pattern.astype(float) * art.dose
        flux, label = self.truth(art.dose, radius, edge)
        return Judged(
            key=self.key,
            counts=seen.pattern,
            probe=probe,
            q_step=q_step,
            position=place,
            label=label,
            flux=flux,
            background=_background(counts, place, flux, radius, edge),
            potential=self.potential,
            strength=seen.strength,
            condition={
                **self.condition,
                "dose": art.dose,
                "radius": radius,
                "spacing": _spacing(place[label == Visibility.VISIBLE]) / radius,
            },
        )

    def positions(self) -> Array:
        """Where the reflections are: (n, 2), px."""
        middle = np.array(self.expected.pattern.shape) // 2
        return np.asarray(self.expected.q / self.clean.q_step + middle)

    def truth(self, dose: float, radius: float, edge: float) -> tuple[Array, Array]:
        """Flux and label of each reflection, expected at a dose."""
        args = (
            self.expected.pattern * dose,
            self.positions(),
            radius,
            edge,
            self.expected.strength,
            self.elastic * dose,
        )
        _, flux = disk_significance(*args)
        label = visible_disks(*args)
        label[0] = Visibility.FAINT
        return flux, label


def open_scenes(path: str | Path, *, every: int = 1) -> list[Scene]:
    """Patterns of a library under moderate artefacts, the same for everyone.

    Parameters
    ----------
    path : path-like
        Library of the recipe ``validation`` or ``test``.
    every : int
        Take one pattern in this many.

    Returns
    -------
    list of Scene

    Raises
    ------
    ParameterError
        If that leaves none.
    """
    library = open_library(path)
    crystals = library_crystals(read_recipe(path))
    keys = [
        (s, t)
        for s in range(library.sizes["specimen"])
        for t in range(library.sizes["thickness"])
    ]
    if every > len(keys):
        msg = f"one pattern in {every} leaves none: {path} has {len(keys)}"
        raise ParameterError(msg)
    # one in `every` of all, in an order that mixes specimens and thicknesses
    order = np.random.default_rng(SEED).permutation(len(keys))[: len(keys) // every]
    return [_scene(library, crystals, *keys[i]) for i in sorted(order)]


def _scene(
    library: xr.Dataset, crystals: tuple[Crystal, ...], specimen: int, thickness: int
) -> Scene:
    clean = clean_pattern(library, specimen, 0, thickness)
    one = library.isel(specimen=specimen, probe=0)
    drawn = dict(
        zip(map(str, one["quantity"].values), one["parameter"].to_numpy(), strict=True)
    )
    crystal = crystals[int(drawn["crystal"])]
    rng = np.random.default_rng([SEED, 1, specimen, thickness])
    size = clean.pattern.shape[0]
    artefacts = draw_artefacts(MODERATE, rng, size=size, radius=5.0)
    artefacts = replace(artefacts, camera=replace(artefacts.camera, bits=32))
    truth = one["truth"].to_numpy()
    depth = float(one["thickness_angstrom"][thickness]) / 10
    return Scene(
        clean=clean,
        expected=expect(clean, artefacts),
        elastic=elastic_pattern(clean, artefacts),
        artefacts=artefacts,
        potential=truth[np.isfinite(truth[:, 0]), 5].astype(float),
        key=(specimen, thickness),
        condition={
            "thickness": depth,
            "semiangle": float(drawn["semiangle"]),
            "voltage": float(drawn["voltage"]),
            "tilt": _tilt(crystal, drawn),
            "system": crystal.system,
        },
    )


def vacuum_probe(seen: Observation, q_step: float) -> xr.Dataset:
    """Return the probe that detectors are made from: measured on its vacuum image.

    Parameters
    ----------
    seen : Observation
        From `expose`.
    q_step : float
        1/Å.

    Returns
    -------
    xarray.Dataset
        As of `fcunet_dask.probe.measure_probe`, with the axes ``q_y``, ``q_x``, 1/Å;
        an electron is one count.
    """
    q = ("q_y", "q_x")
    scan = xr.Dataset(
        {
            "pattern": (("scan_y", "scan_x", *q), seen.pattern[None, None]),
            "probe": (q, seen.probe),
            "mask": (q, seen.mask),
        }
    )
    for name in q:
        size = scan.sizes[name]
        axis = (np.arange(size) - size // 2) * q_step
        scan = scan.assign_coords({name: (name, axis, {"units": "1/Å"})})
    probe = measure_probe(scan)
    probe.attrs |= {"gain": 1.0, "readout": 0.0, "dark": 0.0}
    return probe


def _background(
    counts: Array, place: Array, flux: Array, radius: float, edge: float
) -> Array:
    """Return the counts in a pixel under each disk that are not its own."""
    inside = frame_distance(place, counts.shape) >= 0
    background = np.zeros(len(place))
    mean, _ = disk_contrast(counts, place[inside], radius, edge)
    background[inside] = mean - flux[inside] / (np.pi * radius**2)
    return np.maximum(background, 0)


def _spacing(place: Array) -> float:
    """Median distance to the nearest neighbour; infinite for fewer than two."""
    if len(place) < 2:
        return float("inf")
    return float(np.median(cKDTree(place).query(place, 2)[0][:, 1]))


def _tilt(crystal: Crystal, drawn: dict[str, float]) -> float:
    """Angle of the beam from the nearest zone axis ⟨uvw⟩, |u| ≤ 3, degrees."""
    turn = np.array([drawn[f"rotation_{i}{j}"] for i in "xyz" for j in "xyz"])
    beam = turn.reshape(3, 3)[2]
    steps = np.arange(-_ZONES, _ZONES + 1)
    indices = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(-1, 3)
    axes = indices[np.any(indices != 0, axis=1)] @ crystal.cell
    cosine = axes @ beam / np.linalg.norm(axes, axis=1)
    return float(np.degrees(np.arccos(np.clip(cosine.max(), -1, 1))))
