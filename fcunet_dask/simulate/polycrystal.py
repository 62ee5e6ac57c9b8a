"""Dynamical 4D scan of a polycrystal, two layers of grains on top of each other."""

from dataclasses import dataclass, field
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from fcunet_dask.errors import SimulationError
from fcunet_dask.kernels.illumination import Probe
from fcunet_dask.kernels.multislice import Grid, Specimen
from fcunet_dask.kernels.slab import cut_slab
from fcunet_dask.schema import COMPONENT, PATTERN, PEAK, SCAN
from fcunet_dask.simulate.crystals import Crystal
from fcunet_dask.simulate.draw import quaternion_matrix
from fcunet_dask.simulate.factors import element_factors
from fcunet_dask.simulate.sample import Reflections, Sample, list_reflections
from fcunet_dask.simulate.scans import (
    ScanRecipe,
    diffract_positions,
    simulate_dynamical_scan,
)
from fcunet_dask.types import Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PolycrystalRecipe:
    """A film of two layers of grains of one crystal.

    In each layer the grains are the Voronoi cells of random seeds; the layers do not
    know of each other, so most positions see two grains, one after the other.

    Parameters
    ----------
    crystal : Crystal
        Of all grains.
    scan : (int, int)
        Rows and columns.
    scan_step : float
        nm.
    grain : float
        Mean diameter of a grain, nm.
    thickness : (float, float)
        Of the upper and the lower layer, nm; one layer where the second is 0.
    grid : Grid
        Box and voltage.
    pixels : int
        Detector pixels along a side.
    probe : Probe
        The probe.
    thermal, absorption : float
        B, Å², and κ.
    dose : float
        Electrons per pattern; 0 is noise-free.
    tile : (int, int)
        Positions that share a box.
    peaks : int
        Reflections of the truth per position.
    seed : int
        Of seeds, orientations and noise.

    Raises
    ------
    SimulationError
        If a number is out of range.
    """

    crystal: Crystal
    scan: tuple[int, int] = (8, 8)
    scan_step: float = 1.0
    grain: float = 6.0
    thickness: tuple[float, float] = (15.0, 15.0)
    grid: Grid = field(default_factory=Grid)
    pixels: int = 256
    probe: Probe = field(default_factory=lambda: Probe(semiangle=2.0))
    thermal: float = 0.5
    absorption: float = 0.01
    dose: float = 0.0
    tile: tuple[int, int] = (2, 2)
    peaks: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.grain > 0 and self.thickness[0] > 0 and self.thickness[1] >= 0):
            msg = f"grain {self.grain} and thickness {self.thickness} must be positive"
            raise SimulationError(msg)
        if self.peaks < 1:
            msg = f"peaks must be at least 1, got {self.peaks}"
            raise SimulationError(msg)
        self.positions()

    def positions(self) -> ScanRecipe:
        """Return the scan without its grains: positions, box, probe and detector."""
        return ScanRecipe(
            crystal=self.crystal,
            rotation=np.eye(3),
            basis=((1, 0, 0), (0, 1, 0)),
            scan=self.scan,
            scan_step=self.scan_step,
            grid=self.grid,
            pixels=self.pixels,
            probe=self.probe,
            thickness=(sum(self.thickness), sum(self.thickness)),
            thermal=self.thermal,
            absorption=self.absorption,
            tile=self.tile,
        )

    def grains(self, layer: int) -> tuple[Array, Array]:
        """Return seeds (n, 2) as (x, y), Å, and rotations (n, 3, 3) of a layer."""
        rng = np.random.default_rng([self.seed, 80, layer])
        margin = self.grid.box
        size = np.array(self.scan[::-1]) * self.scan_step * 10 + 2 * margin
        count = max(1, round(float(size.prod()) / (np.pi / 4 * (10 * self.grain) ** 2)))
        seeds = rng.uniform(-margin, size - margin, (count, 2))
        return seeds, np.array(
            [quaternion_matrix(q) for q in rng.normal(size=(count, 4))]
        )

    def grain_at(self, layer: int, place: Array) -> Array:
        """Return which grain of a layer is at `place` (…, 2) as (x, y), Å: int (…)."""
        seeds, _ = self.grains(layer)
        distance = ((np.asarray(place)[..., None, :] - seeds) ** 2).sum(-1)
        return np.asarray(distance.argmin(-1))


def simulate_polycrystal(recipe: PolycrystalRecipe) -> xr.Dataset:
    """Scan of a polycrystal with overlapping grains, lazily, one task per tile.

    Parameters
    ----------
    recipe : PolycrystalRecipe
        The film.

    Returns
    -------
    xarray.Dataset
        As `simulate_dynamical_scan`, with the truth ``true_grain`` (scan_y, scan_x,
        layer), ``true_bragg_q`` (scan_y, scan_x, peak, component), 1/Å, and
        ``true_bragg_strength`` (scan_y, scan_x, peak): |V_g| exp(−s²/2σ_s²) of both
        grains, V; the direct beam is first, empty slots are NaN.
    """
    base = recipe.positions()
    shell = simulate_dynamical_scan(base)
    pattern = da.map_blocks(
        _tile,
        recipe,
        chunks=shell[PATTERN.name].chunks,
        dtype=np.float32,
        meta=np.empty((0, 0, 0, 0), np.float32),
    )
    scan = shell.drop_vars([str(v) for v in shell if str(v).startswith("true_")])
    scan = scan.assign({PATTERN.name: (shell[PATTERN.name].dims, pattern)})
    scan[PATTERN.name].attrs.update(shell[PATTERN.name].attrs)
    if recipe.dose:
        scan["probe"] = scan["probe"] * recipe.dose
    places = base.places()
    grain = np.stack([recipe.grain_at(layer, places) for layer in (0, 1)], -1)
    q, strength = _peaks(recipe, grain)
    return scan.assign(
        true_grain=((*SCAN, "layer"), grain),
        true_bragg_q=((*SCAN, PEAK, COMPONENT), q),
        true_bragg_strength=((*SCAN, PEAK), strength),
    )


def _truths(recipe: PolycrystalRecipe, layer: int) -> dict[int, Reflections]:
    """Reflections of the grains that the scan meets in a layer."""
    _, rotations = recipe.grains(layer)
    met = np.unique(recipe.grain_at(layer, recipe.positions().places()))
    q_max = recipe.pixels / 2 * recipe.grid.q_step
    return {
        int(i): list_reflections(
            Sample(
                crystal=recipe.crystal, rotation=rotations[i], thermal=recipe.thermal
            ),
            recipe.grid.voltage,
            q_max=q_max,
        )
        for i in met
    }


def _peaks(recipe: PolycrystalRecipe, grain: Array) -> tuple[Array, Array]:
    """Positions and strengths of the reflections of both grains, strongest first."""
    layers = (0, 1) if recipe.thickness[1] else (0,)
    truths = [_truths(recipe, layer) for layer in layers]
    q = np.full((*recipe.scan, recipe.peaks, 2), np.nan)
    strength = np.full((*recipe.scan, recipe.peaks), np.nan)
    for y, x in np.ndindex(*recipe.scan):
        found = [truths[layer][int(grain[y, x, layer])] for layer in layers]
        places = np.concatenate([t.q[1:] for t in found])
        values = np.concatenate([t.strength()[1:] for t in found])
        order = np.argsort(-values, kind="stable")[: recipe.peaks - 1]
        q[y, x, 0], strength[y, x, 0] = 0.0, found[0].amplitude[0]
        q[y, x, 1 : len(order) + 1] = places[order]
        strength[y, x, 1 : len(order) + 1] = values[order]
    return q, strength


def _tile(recipe: PolycrystalRecipe, block_id: tuple[int, ...] = (), **_: Any) -> Array:
    """Patterns of one tile of positions."""
    base = recipe.positions()
    window = tuple(
        slice(i * n, min((i + 1) * n, size))
        for i, n, size in zip(block_id[:2], recipe.tile, recipe.scan, strict=True)
    )
    places = base.places()[window]
    center = (places[0, 0] + places[-1, -1]) / 2
    slices = np.rint(base.thickness_map()[window] / recipe.grid.step).astype(int)
    specimen = grain_specimen(recipe, center)
    shifts = (places - center).reshape(-1, 2)[:, ::-1]
    images = diffract_positions(specimen, base, shifts, slices.ravel())
    images = images.reshape(*slices.shape, recipe.pixels, recipe.pixels)
    if not recipe.dose:
        return images
    rng = np.random.default_rng([recipe.seed, 81, *block_id[:2]])
    return rng.poisson(images.astype(float) * recipe.dose).astype(np.float32)


def grain_specimen(recipe: PolycrystalRecipe, center: Array) -> Specimen:
    """Atoms of all grains in the box around a place of the scan.

    Parameters
    ----------
    recipe : PolycrystalRecipe
        The film.
    center : array
        (2,) as (x, y), Å: the middle of the box.

    Returns
    -------
    Specimen
    """
    grid, crystal = recipe.grid, recipe.crystal
    corner = np.asarray(center) - grid.box / 2
    axis = np.linspace(0, grid.box, 65)
    sample = np.stack(np.meshgrid(axis, axis), -1) + corner
    found, sites, top = [], [], 0.0
    for layer, depth in enumerate(np.array(recipe.thickness) * 10):
        _, rotations = recipe.grains(layer)
        for grain in np.unique(recipe.grain_at(layer, sample)) if depth else ():
            rng = np.random.default_rng([recipe.seed, 82, layer, int(grain)])
            atoms, site = cut_slab(
                crystal.cell,
                crystal.positions,
                (grid.box, grid.box, float(depth)),
                rotation=rotations[grain],
                origin=np.append(-center, 0.0) + rng.random(3) * 3,
            )
            inside = recipe.grain_at(layer, atoms[:, :2] + corner) == grain
            found.append(atoms[inside] + [0, 0, top])
            sites.append(site[inside])
        top += float(depth)
    site = np.concatenate(sites)
    kinds = crystal.elements
    radius = grid.radius()
    factors = np.stack([element_factors(z, radius, recipe.thermal) for z in kinds])
    return Specimen(
        np.concatenate(found),
        np.searchsorted(kinds, crystal.numbers)[site],
        crystal.weights[site],
        factors.astype(np.float32),
        recipe.absorption,
    )
