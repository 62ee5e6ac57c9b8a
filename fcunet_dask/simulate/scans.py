"""Dynamical 4D scans of a crystal with a known strain field, thickness and tilt."""

import math
from dataclasses import dataclass, field
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr

from fcunet_dask._computing import computing
from fcunet_dask.calibration import Calibration
from fcunet_dask.errors import SimulationError
from fcunet_dask.kernels.illumination import Probe, probe_wave
from fcunet_dask.kernels.multislice import Grid, Specimen, exit_waves, layer_atoms
from fcunet_dask.kernels.scattering import reciprocal_basis
from fcunet_dask.kernels.slab import cut_slab
from fcunet_dask.kernels.strain import strain_tensor
from fcunet_dask.schema import COMPONENT, COMPONENTS, PATTERN, PROBE, SCAN, Q, annotate
from fcunet_dask.simulate.crystals import Crystal
from fcunet_dask.simulate.factors import element_factors
from fcunet_dask.simulate.fields import Field, Uniform, unstrained_place
from fcunet_dask.types import Array, Vector


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScanRecipe:
    """A scan to simulate with multislice.

    Parameters
    ----------
    crystal : Crystal
        The unstrained reference.
    rotation : array
        (3, 3) crystal to lab frame: x along the scan's and the detector's columns, y
        along their rows, the beam along +z.
    basis : ((int, int, int), (int, int, int))
        hkl of g₁ and g₂ of the truth.
    scan : (int, int)
        Rows and columns.
    scan_step : float
        nm.
    grid : Grid
        Box and voltage.
    pixels : int
        Detector pixels along a side.
    probe : Probe
        The probe, without a shift.
    field : Field
        Strain (and composition) over the scan.
    partner : int
        Atomic number of the second element of an alloy, which takes the share of each
        site that ``field.composition`` says; 0 is none.
    thickness : (float, float)
        At the first and at the last column, nm: a wedge if they differ.
    tilt : (float, float)
        Mistilt as (y, x), mrad: moves the Laue centre along +y and +x.
    thermal, absorption : float
        B, Å², and κ.
    dose : float
        Electrons per pattern; 0 gives expected values without noise.
    tile : (int, int)
        Rows and columns of positions that share one box: one chunk, one task.
    seed : int
        Of the shot noise.

    Raises
    ------
    SimulationError
        If the positions of a tile leave the box, the detector is larger than the
        grid's, or a number is not positive.
    """

    crystal: Crystal
    rotation: Array
    basis: tuple[tuple[int, int, int], tuple[int, int, int]]
    scan: tuple[int, int] = (4, 201)
    scan_step: float = 0.5
    grid: Grid = field(default_factory=Grid)
    pixels: int = 256
    probe: Probe = field(default_factory=lambda: Probe(semiangle=2.0))
    field: Field = field(default_factory=Uniform)
    partner: int = 0
    thickness: tuple[float, float] = (40.0, 40.0)
    tilt: Vector = (0.0, 0.0)
    thermal: float = 0.5
    absorption: float = 0.0
    dose: float = 0.0
    tile: tuple[int, int] = (4, 4)
    seed: int = 0

    def __post_init__(self) -> None:
        if min(*self.scan, *self.tile) < 1 or not self.scan_step > 0:
            msg = f"scan {self.scan}, tile {self.tile} and step must be positive"
            raise SimulationError(msg)
        reach = (max(self.tile) - 1) * self.scan_step * 10 / 2
        if reach > self.grid.box / 4:
            msg = (
                f"a tile of {self.tile} positions reaches {reach:.0f} Å from the middle "
                f"of a box of {self.grid.box:g} Å; at most a quarter: smaller tile"
            )
            raise SimulationError(msg)
        if self.pixels > self.grid.pixels or self.pixels % 2:
            msg = f"pixels must be even and at most {self.grid.pixels}"
            raise SimulationError(msg)
        if min(self.thickness) * 10 < self.grid.step:
            msg = f"thickness {self.thickness} nm is less than a slice"
            raise SimulationError(msg)
        if not (self.dose >= 0 and self.thermal >= 0 and self.absorption >= 0):
            msg = "dose, thermal and absorption must not be negative"
            raise SimulationError(msg)

    @property
    def calibration(self) -> Calibration:
        """Pixel sizes, voltage and semi-angle of the scan."""
        return Calibration(
            q_step=self.grid.q_step,
            scan_step=self.scan_step,
            voltage=self.grid.voltage,
            semiangle=self.probe.semiangle,
        )

    @property
    def turn(self) -> Array:
        """Crystal to lab frame with the mistilt."""
        toward_y, toward_x = (angle * 1e-3 for angle in self.tilt)
        c, s = math.cos(toward_x), math.sin(toward_x)
        first = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
        c, s = math.cos(toward_y), math.sin(toward_y)
        second = np.array([[1, 0, 0], [0, c, s], [0, -s, c]])
        return np.asarray(second @ first @ self.rotation)

    def places(self) -> Array:
        """Positions of the probe, (rows, columns, 2) as (x, y), Å."""
        y, x = (np.arange(n) * self.scan_step * 10 for n in self.scan)
        return np.stack(np.meshgrid(x, y), -1)

    def thickness_map(self) -> Array:
        """Thickness at each position, whole slices: (rows, columns), Å."""
        line = np.linspace(*self.thickness, self.scan[1]) * 10
        slices = np.maximum(1, np.rint(line / self.grid.step))
        return np.broadcast_to(slices * self.grid.step, self.scan)


def simulate_dynamical_scan(recipe: ScanRecipe) -> xr.Dataset:
    """Scan with dynamical diffraction and known truth, lazily, one task per tile.

    Parameters
    ----------
    recipe : ScanRecipe
        The scan.

    Returns
    -------
    xarray.Dataset
        ``pattern`` (scan_y, scan_x, q_y, q_x), float32, electrons (of a dose of 1
        where ``dose`` is 0); ``probe`` (q_y, q_x); the truth at the positions of the
        probe: ``true_strain_xx``, ``…_yy``, ``…_xy``, ``true_rotation``,
        ``true_thickness`` (nm) (scan_y, scan_x), ``true_origin``, ``true_g1``,
        ``true_g2`` (scan_y, scan_x, component), 1/Å.
    """
    chunks = da.core.normalize_chunks(
        (*recipe.tile, -1, -1),
        (*recipe.scan, recipe.pixels, recipe.pixels),
        dtype="float32",
    )
    pattern = da.map_blocks(
        simulate_tile,
        recipe,
        chunks=chunks,
        dtype=np.float32,
        meta=np.empty((0, 0, 0, 0), np.float32),
    )
    grid = recipe.grid
    wave = probe_wave(recipe.probe, grid.frequencies(), grid.box, grid.wavelength)
    vacuum = _middle(np.abs(wave) ** 2, recipe.pixels) * (recipe.dose or 1.0)
    calibration = recipe.calibration
    axes: dict[str, Any] = {
        n: (n, calibration.scan_axis(s), {"units": "nm"})
        for n, s in zip(SCAN, recipe.scan, strict=True)
    }
    for n in Q:
        axes[n] = (n, calibration.q_axis(recipe.pixels), {"units": "1/Å"})
    scan = xr.Dataset(
        {
            PATTERN.name: ((*SCAN, *Q), pattern),
            PROBE.name: (Q, vacuum),
            **_truth(recipe),
        },
        {**axes, COMPONENT: list(COMPONENTS)},
        {"calibration": calibration.to_dict()},
    )
    return annotate(scan, PATTERN, PROBE)


def _truth(recipe: ScanRecipe) -> dict[str, Any]:
    """Return strain, lattice and thickness at every position."""
    vectors, strain = lattice_truth(recipe, recipe.places())
    dims = (*SCAN, COMPONENT)
    return {
        "true_strain_xx": (SCAN, strain[..., 0]),
        "true_strain_yy": (SCAN, strain[..., 1]),
        "true_strain_xy": (SCAN, strain[..., 2]),
        "true_rotation": (SCAN, strain[..., 3]),
        "true_thickness": (SCAN, recipe.thickness_map() / 10, {"units": "nm"}),
        "true_origin": (dims, np.zeros((*recipe.scan, 2))),
        "true_g1": (dims, vectors[..., :2]),
        "true_g2": (dims, vectors[..., 2:]),
    }


def lattice_truth(recipe: ScanRecipe, places: Array) -> tuple[Array, Array]:
    """Lattice vectors and strain of the crystal at places of the strained scan.

    Parameters
    ----------
    recipe : ScanRecipe
        The scan.
    places : array
        (..., 2) as (x, y), Å.

    Returns
    -------
    vectors : numpy.ndarray
        (..., 4): g₁ and g₂ as (y, x), 1/Å.
    strain : numpy.ndarray
        (..., 4): ε_xx, ε_yy, ε_xy and the rotation (rad).
    """
    source = unstrained_place(recipe.field, places)
    deformation = np.eye(2) + recipe.field.gradient(source)
    lab = reciprocal_basis(recipe.crystal.cell @ recipe.turn.T)
    reference = np.array(recipe.basis) @ lab
    # g = F⁻ᵀ g₀ in the plane; the beam's component does not take part
    moved = reference[:, :2] @ np.linalg.inv(deformation)
    vectors = moved[..., ::-1].reshape(*places.shape[:-1], 4)
    strain, _ = strain_tensor(vectors, reference[:, 1::-1].ravel())
    return vectors, strain


def simulate_tile(
    recipe: ScanRecipe, block_id: tuple[int, ...] = (), **_: Any
) -> Array:
    """Patterns of one tile of positions, from one box.

    Parameters
    ----------
    recipe : ScanRecipe
        The scan.
    block_id : tuple of int
        Row and column of the tile (and two zeros).

    Returns
    -------
    numpy.ndarray
        float32 (rows, columns, q_y, q_x).
    """
    window = tuple(
        slice(i * n, min((i + 1) * n, size))
        for i, n, size in zip(block_id[:2], recipe.tile, recipe.scan, strict=True)
    )
    places = recipe.places()[window]
    slices = np.rint(recipe.thickness_map()[window] / recipe.grid.step).astype(int)
    center = (places[0, 0] + places[-1, -1]) / 2
    specimen = scan_specimen(recipe, center, int(slices.max()))
    shifts = (places - center).reshape(-1, 2)[:, ::-1]
    with computing():
        images = diffract_positions(specimen, recipe, shifts, slices.ravel())
    images = images.reshape(*slices.shape, recipe.pixels, recipe.pixels)
    if not recipe.dose:
        return images
    rng = np.random.default_rng([recipe.seed, *block_id[:2]])
    return rng.poisson(images.astype(float) * recipe.dose).astype(np.float32)


def scan_specimen(recipe: ScanRecipe, center: Array, slices: int) -> Specimen:
    """Atoms of the strained crystal in the box around a place of the scan.

    Parameters
    ----------
    recipe : ScanRecipe
        The scan.
    center : array
        (2,) as (x, y), Å: the middle of the box.
    slices : int
        Depth.

    Returns
    -------
    Specimen
    """
    box, depth = recipe.grid.box, slices * recipe.grid.step
    before = unstrained_place(recipe.field, center)
    probes = before + np.linspace(-box, box, 9)[:, None]
    slope = np.abs(recipe.field.gradient(probes)).max()
    wide = box * (1 + 4 * slope) + 4.0
    crystal = recipe.crystal
    atoms, site = cut_slab(
        crystal.cell @ recipe.turn.T,
        crystal.positions,
        (wide, wide, depth),
        rotation=np.eye(3),
        origin=np.array([-before[0], -before[1], 0.0]),
    )
    flat = atoms[:, :2] - wide / 2 + before
    atoms[:, :2] = flat + recipe.field.displacement(flat) - center + box / 2
    inside = ((atoms[:, :2] >= 0) & (atoms[:, :2] < box)).all(1)
    weights = crystal.weights[site]
    kinds = list(crystal.elements)
    element = np.searchsorted(crystal.elements, crystal.numbers)[site]
    if recipe.partner:
        share = recipe.field.composition(flat)
        atoms = np.concatenate([atoms, atoms])
        element = np.concatenate([element, np.full(len(site), len(kinds))])
        weights = np.concatenate([weights * (1 - share), weights * share])
        inside = np.concatenate([inside, inside]) & (weights > 1e-6)
        kinds.append(recipe.partner)
    radius = recipe.grid.radius()
    factors = np.stack([element_factors(z, radius, recipe.thermal) for z in kinds])
    return Specimen(
        atoms[inside],
        element[inside],
        weights[inside],
        factors.astype(np.float32),
        recipe.absorption,
    )


def diffract_positions(
    specimen: Specimen, recipe: ScanRecipe, shifts: Array, slices: Array
) -> Array:
    """Patterns of several positions in one box, each behind its own thickness.

    Parameters
    ----------
    specimen : Specimen
        Atoms of the box.
    recipe : ScanRecipe
        Grid, probe and detector.
    shifts : array
        (n, 2) as (y, x) from the middle of the box, Å.
    slices : array
        int (n,).

    Returns
    -------
    numpy.ndarray
        float32 (n, q_y, q_x), shares of the incident beam.
    """
    grid, q = recipe.grid, recipe.grid.frequencies()
    wave = probe_wave(recipe.probe, q, grid.box, grid.wavelength)
    y, x = (np.exp(-2j * math.pi * np.outer(s, q)) for s in np.asarray(shifts).T)
    waves = (wave * y[:, :, None] * x[:, None, :]).astype(np.complex64)[None]
    layers = layer_atoms([specimen], grid, int(slices.max()))
    exits = sorted(set(slices.tolist()))
    out = np.empty((len(shifts), recipe.pixels, recipe.pixels), np.float32)
    for depth, spectra in zip(
        exits, exit_waves(layers, waves, grid, exits), strict=True
    ):
        for i in np.flatnonzero(slices == depth):
            out[i] = _middle(np.abs(spectra[0, i]) ** 2, recipe.pixels)
    return out


def _middle(image: Array, pixels: int) -> Array:
    first = len(image) // 2 - pixels // 2
    return image[first : first + pixels, first : first + pixels]
