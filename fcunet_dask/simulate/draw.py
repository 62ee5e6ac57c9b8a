"""What a recipe draws: crystals, how they lie, and the probes; all from the seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from fcunet_dask.errors import SimulationError
from fcunet_dask.kernels.illumination import Probe
from fcunet_dask.kernels.multislice import Grid
from fcunet_dask.simulate.cif import read_cifs
from fcunet_dask.simulate.crystals import Crystal, load_crystals
from fcunet_dask.simulate.recipe import LibraryRecipe
from fcunet_dask.simulate.sample import Reflections, Sample, list_reflections
from fcunet_dask.simulate.split import split_crystals
from fcunet_dask.types import Array

PATTERNED_RADIUS: Final = 8.0
"""Smallest radius of a patterned aperture, px."""
_LIMITING: Final = 0.06
"""|s_g| up to which the disk of a reflection counts as a neighbour, 1/Å."""


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """One specimen of a library and the probes that look at it.

    Parameters
    ----------
    index : int
        Of the crystal in `library_crystals` of the recipe.
    sample : Sample
        How it lies.
    reflections : Reflections
        What is true of it.
    probes : tuple of Probe
        As many as the recipe says.
    """

    index: int
    sample: Sample
    reflections: Reflections
    probes: tuple[Probe, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Specimens that are simulated together.

    Parameters
    ----------
    grid : Grid
        The box and voltage that they share.
    depth : float
        Their thickness, Å.
    scenes : tuple of Scene
        One each.
    """

    grid: Grid
    depth: float
    scenes: tuple[Scene, ...]


@lru_cache(maxsize=4)
def library_crystals(recipe: LibraryRecipe) -> tuple[Crystal, ...]:
    """Crystals that a recipe may draw: the shipped ones first, then its CIF files.

    Parameters
    ----------
    recipe : LibraryRecipe
        Its `split`, `cifs` and `only_cifs` are used.

    Returns
    -------
    tuple of Crystal

    Raises
    ------
    SimulationError
        If a CIF file cannot be used, or no crystal is left.
    """
    own = read_cifs(recipe.cifs)
    pool = own if recipe.only_cifs else (*load_crystals(), *own)
    if recipe.split != "all":
        places = split_crystals(pool)
        pool = tuple(c for c, s in zip(pool, places, strict=True) if s == recipe.split)
    if not pool:
        msg = f"recipe: no crystal of the split {recipe.split!r}; set split = 'all'"
        raise SimulationError(msg)
    return pool


def draw_block(recipe: LibraryRecipe, crystals: Sequence[Crystal], index: int) -> Block:
    """Draw block `index` of a library: always the same for the same recipe.

    Crystals are taken in a random order without replacement, so that all occur
    equally often.

    Parameters
    ----------
    recipe : LibraryRecipe
        Ranges and shares.
    crystals : sequence of Crystal
        `library_crystals` of the recipe.
    index : int
        Number of the block.

    Returns
    -------
    Block
    """
    rng = np.random.default_rng([recipe.seed, 1, index])
    grid = recipe.grid(float(rng.choice(recipe.voltages)))
    depth = float(rng.choice(recipe.depths, p=recipe.depth_shares))
    scenes = []
    for i in range(recipe.block):
        turn, place = divmod(index * recipe.block + i, len(crystals))
        order = np.random.default_rng([recipe.seed, 0, turn]).permutation(len(crystals))
        own = np.random.default_rng([recipe.seed, 2, index, i])
        scenes.append(_draw_scene(recipe, crystals, int(order[place]), grid, own))
    return Block(grid, depth, tuple(scenes))


def _draw_scene(
    recipe: LibraryRecipe,
    crystals: Sequence[Crystal],
    index: int,
    grid: Grid,
    rng: np.random.Generator,
) -> Scene:
    sample = draw_sample(recipe, crystals[index], rng)
    q_max = grid.half / grid.box
    truth = list_reflections(sample, grid.voltage, q_max=q_max, s_max=recipe.max_error)
    probes = draw_probes(recipe, truth, grid, rng)
    return Scene(index, sample, truth, probes)


def draw_sample(
    recipe: LibraryRecipe, crystal: Crystal, rng: np.random.Generator
) -> Sample:
    """Draw how a crystal lies, how it is strained and bent, and how warm it is.

    Parameters
    ----------
    recipe : LibraryRecipe
        Ranges and shares.
    crystal : Crystal
        What it is made of.
    rng : numpy.random.Generator
        Where the draws come from.

    Returns
    -------
    Sample
    """
    rotation = draw_rotation(recipe, crystal.cell, rng)
    strain = rng.uniform(-recipe.strain, recipe.strain, (3, 3))
    deformation = np.eye(3) + (strain + strain.T) / 2
    kappa = rng.uniform(-recipe.bending, recipe.bending, (2, 2))
    bent = rng.random() < recipe.bent
    place = rng.random(3) @ crystal.cell @ rotation.T
    return Sample(
        crystal=crystal,
        rotation=rotation,
        deformation=deformation,
        bending=(kappa + kappa.T) / 2 if bent else np.zeros((2, 2)),
        origin=place,
        thermal=_log_uniform(rng, *recipe.thermal),
        absorption=rng.uniform(*recipe.absorption),
    )


def draw_rotation(
    recipe: LibraryRecipe, cell: Array, rng: np.random.Generator
) -> Array:
    """Draw an orientation: near a zone axis, off one, or anywhere.

    Parameters
    ----------
    recipe : LibraryRecipe
        Its shares `near_zone` and `off_zone` are used.
    cell : array
        (3, 3) lattice vectors as rows, Å.
    rng : numpy.random.Generator
        Where the draws come from.

    Returns
    -------
    numpy.ndarray
        float64 (3, 3), crystal to lab frame.
    """
    anywhere = quaternion_matrix(rng.normal(size=4))
    kind = rng.random()
    indices = rng.integers(-3, 4, 3)
    while not indices.any():
        indices = rng.integers(-3, 4, 3)
    axis, radius = rng.uniform(0, 2 * np.pi), np.sqrt(rng.random())
    if kind >= recipe.near_zone + recipe.off_zone:
        return anywhere
    off = np.deg2rad(3.0 if kind < recipe.near_zone else 10.0) * radius
    direction = indices @ np.asarray(cell)
    zone = _turn_to_beam(direction / np.linalg.norm(direction), anywhere)
    half = off / 2
    tilt = [np.cos(half), np.sin(half) * np.cos(axis), np.sin(half) * np.sin(axis), 0]
    return np.asarray(quaternion_matrix(np.array(tilt)) @ zone)


def _turn_to_beam(direction: Array, anywhere: Array) -> Array:
    """Rotation that brings `direction` to +z, with the azimuth of another one."""
    across = np.cross(anywhere[0], direction)
    across /= np.linalg.norm(across)
    return np.stack([np.cross(across, direction), across, direction])


def quaternion_matrix(quaternion: Array) -> Array:
    """Rotation matrix of a quaternion (w, x, y, z) of any length."""
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def draw_probes(
    recipe: LibraryRecipe, truth: Reflections, grid: Grid, rng: np.random.Generator
) -> tuple[Probe, ...]:
    """Draw the probes of a specimen: most so small that its disks stay apart.

    Parameters
    ----------
    recipe : LibraryRecipe
        Ranges and shares.
    truth : Reflections
        The shortest |g_⊥| among those above 1 % of the strongest limits the angle.
    grid : Grid
        Box and voltage.
    rng : numpy.random.Generator
        Where the draws come from.

    Returns
    -------
    tuple of Probe
    """
    strength = np.where(np.abs(truth.error) <= _LIMITING, truth.strength(), 0.0)
    visible = strength > 0.01 * strength[1:].max(initial=0.0)
    visible[0] = False
    length = np.linalg.norm(truth.q, axis=1)
    apart = 0.6 * 1e3 * grid.wavelength * length[visible].min(initial=np.inf)
    pixel = 1e3 * grid.wavelength / grid.box
    low = max(recipe.semiangle[0], recipe.min_radius * pixel)
    probes = []
    for _ in range(recipe.probes):
        free, patterned = rng.random(2) < (1 - recipe.apart, recipe.patterned)
        high = recipe.semiangle[1] if free else min(recipe.semiangle[1], apart)
        # rings of a tenth of the radius are seen from about 8 px on
        patterned &= recipe.semiangle[1] > PATTERNED_RADIUS * pixel
        least = max(low, PATTERNED_RADIUS * pixel) if patterned else low
        semiangle = _log_uniform(rng, least, max(least, high))
        probes.append(_draw_probe(recipe, semiangle, grid, rng, bool(patterned)))
    return tuple(probes)


def _draw_probe(
    recipe: LibraryRecipe,
    semiangle: float,
    grid: Grid,
    rng: np.random.Generator,
    patterned: bool,
) -> Probe:
    rings, spokes = rng.integers(1, 4), rng.choice([0, 2, 3, 4])
    aberrated = rng.random() < recipe.aberrated
    focus, twofold, sphere = rng.uniform(-1, 1), rng.random(), rng.random()
    angle = rng.uniform(0, np.pi)
    # a blurred probe must stay within the box: |C₁| α < box / 6
    limit = grid.box / 6 / (semiangle * 1e-3)
    return Probe(
        semiangle=semiangle,
        defocus=float(aberrated * focus * min(recipe.defocus, limit)),
        astigmatism=float(aberrated * twofold * min(recipe.astigmatism, limit)),
        spherical=float(aberrated * sphere * recipe.spherical),
        astigmatism_angle=float(aberrated * angle),
        rings=int(patterned * rings),
        spokes=int(patterned * spokes),
    )


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(low * (high / low) ** rng.random())
