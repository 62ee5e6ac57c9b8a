"""What a training library holds: a few numbers in a TOML file."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from fcunet_dask._recipes import check_types, read_recipe, refuse_unknown
from fcunet_dask.errors import ParameterError, SimulationError
from fcunet_dask.kernels.multislice import Grid
from fcunet_dask.simulate.split import SPLITS

Range = tuple[float, float]

SHIPPED: Final = ("library", "fine", "validation", "test")
"""Recipes in the package, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LibraryRecipe:
    """What is drawn for each specimen of a library; ranges are (lowest, highest).

    Parameters
    ----------
    seed : int
        With the recipe, the table of crystals and the processor it fixes every byte.
    split : str
        ``train``, ``validation``, ``test`` or ``all`` crystals.
    cifs : tuple of str
        CIF files whose crystals join the shipped table.
    only_cifs : bool
        Use nothing but `cifs`.
    box, size, step : float, int, float
        Of the `Grid`: Å, points, Å.
    pixels : int
        Detector pixels along a side, the middle of the grid's ⅔ `size`.
    block : int
        Specimens that are simulated together: one task, one file.
    probes : int
        Probes per specimen.
    depths : tuple of float
        Slab thicknesses to draw from, Å.
    depth_shares : tuple of float
        How often each of them.
    thicknesses : int
        Patterns per probe, at equal steps through the slab.
    voltages : tuple of float
        To draw from, kV.
    semiangle : (float, float)
        Drawn log-uniformly, mrad.
    min_radius : float
        Smallest radius of a disk, px.
    apart : float
        Share of probes whose disks (mostly) do not overlap: 2α/λ < 1.2 min |g_⊥|.
    patterned, aberrated : float
        Shares of probes with a bullseye aperture, and with aberrations.
    defocus, astigmatism, spherical : float
        Largest |C₁| and A₁, Å, and C_s, mm, of aberrated probes.
    near_zone, off_zone : float
        Shares within 3° and within 10° of a zone axis ⟨uvw⟩, |u| ≤ 3; the rest is
        uniform over all orientations.
    strain : float
        Largest |component| of a random strain.
    bent : float
        Share of bent specimens.
    bending : float
        Largest curvature, 1/Å.
    thermal : (float, float)
        Debye–Waller B, drawn log-uniformly, Å².
    absorption : (float, float)
        κ, drawn uniformly.
    reflections : int
        Reflections stored per pattern, strongest first.
    max_error : float
        Largest |s_g| of a stored reflection, 1/Å.

    Raises
    ------
    SimulationError
        If a number is out of its range; the message names it and the range.
    """

    seed: int = 2026
    split: str = "train"
    cifs: tuple[str, ...] = ()
    only_cifs: bool = False
    box: float = 51.2
    size: int = 384
    step: float = 2.0
    pixels: int = 256
    block: int = 4
    probes: int = 3
    depths: tuple[float, ...] = (500.0, 1000.0, 1500.0)
    depth_shares: tuple[float, ...] = (0.7, 0.2, 0.1)
    thicknesses: int = 25
    voltages: tuple[float, ...] = (60.0, 80.0, 120.0, 200.0, 300.0)
    semiangle: Range = (0.7, 6.0)
    min_radius: float = 2.5
    apart: float = 0.8
    patterned: float = 0.15
    aberrated: float = 0.3
    defocus: float = 5000.0
    astigmatism: float = 1000.0
    spherical: float = 1.3
    near_zone: float = 0.4
    off_zone: float = 0.3
    strain: float = 0.02
    bent: float = 0.3
    bending: float = 5e-6
    thermal: Range = (0.2, 1.2)
    absorption: Range = (0.0, 0.04)
    reflections: int = 16384
    max_error: float = 0.1

    def __post_init__(self) -> None:
        check_types(self, SimulationError)
        for name in ("cifs", *_LISTS):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        _check_choices(self)
        _check_bounds(self)
        _check_geometry(self)

    @property
    def patterns_per_specimen(self) -> int:
        """Probes × thicknesses."""
        return self.probes * self.thicknesses

    def grid(self, voltage: float) -> Grid:
        """Return the box of the multislice at a voltage (kV)."""
        return Grid(box=self.box, size=self.size, step=self.step, voltage=voltage)

    def exits(self, depth: float) -> list[int]:
        """Return the numbers of slices behind which patterns are taken."""
        total = round(depth / self.step)
        parts = range(1, self.thicknesses + 1)
        return [round(total * i / self.thicknesses) for i in parts]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON: part of the provenance of a library."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "LibraryRecipe":
        """Return the recipe of a mapping; unknown keys are refused by name.

        Raises
        ------
        SimulationError
            If a key is unknown or a value is out of range.
        """
        refuse_unknown(values, (f.name for f in fields(cls)), SimulationError)
        return cls(**values)


def load_recipe(source: str | Path) -> LibraryRecipe:
    """Return a shipped recipe by its name, or one from a TOML file.

    Parameters
    ----------
    source : path-like
        ``library`` (training), ``fine`` (twice the box), ``validation``, ``test``, or
        a file.

    Returns
    -------
    LibraryRecipe

    Raises
    ------
    SimulationError
        If there is no such recipe or file, it is no TOML, or it is out of range.

    Examples
    --------
    >>> load_recipe("library").patterns_per_specimen
    75
    """
    values = read_recipe(source, "fcunet_dask.simulate", SHIPPED, SimulationError)
    return LibraryRecipe.from_dict(values)


_BOUNDS: Final[dict[str, Range]] = {
    "seed": (0, 2**63),
    "box": (10, 1000),
    "step": (0.25, 4),
    "pixels": (16, 4096),
    "block": (1, 256),
    "probes": (1, 64),
    "thicknesses": (1, 500),
    "min_radius": (1, 100),
    "defocus": (0, 1e5),
    "astigmatism": (0, 1e5),
    "spherical": (0, 10),
    "strain": (0, 0.1),
    "bending": (0, 1e-4),
    "reflections": (8, 65536),
    "max_error": (0.005, 0.5),
    "apart": (0, 1),
    "patterned": (0, 1),
    "aberrated": (0, 1),
    "near_zone": (0, 1),
    "off_zone": (0, 1),
    "bent": (0, 1),
}

_LISTS: Final[dict[str, Range]] = {
    "depths": (4, 5000),
    "depth_shares": (0, 1),
    "voltages": (20, 1500),
    "semiangle": (0.05, 50),
    "thermal": (0.01, 10),
    "absorption": (0, 0.2),
}


def _check_choices(recipe: LibraryRecipe) -> None:
    if recipe.split not in (*SPLITS, "all"):
        msg = f"recipe: split must be one of {(*SPLITS, 'all')}, got {recipe.split!r}"
        raise SimulationError(msg)
    if recipe.only_cifs and not recipe.cifs:
        msg = "recipe: only_cifs is set, but cifs names no file"
        raise SimulationError(msg)
    shares = recipe.depth_shares
    if len(shares) != len(recipe.depths) or abs(math.fsum(shares) - 1) > 1e-6:
        msg = (
            f"recipe: depth_shares must hold one share for each of depths and add up "
            f"to 1, got {shares} for {recipe.depths}"
        )
        raise SimulationError(msg)
    if recipe.near_zone + recipe.off_zone > 1 + 1e-9:
        msg = "recipe: near_zone and off_zone together exceed 1"
        raise SimulationError(msg)


def _check_bounds(recipe: LibraryRecipe) -> None:
    for name, (low, high) in _BOUNDS.items():
        value = getattr(recipe, name)
        if not low <= value <= high:
            msg = f"recipe: {name} must lie in {low:g} … {high:g}, got {value!r}"
            raise SimulationError(msg)
    for name, (low, high) in _LISTS.items():
        values = getattr(recipe, name)
        pair = name in ("semiangle", "thermal", "absorption")
        ordered = not pair or (len(values) == 2 and values[0] <= values[1])
        if not values or not ordered or not all(low <= v <= high for v in values):
            what = "(lowest, highest)" if pair else "numbers"
            msg = f"recipe: {name} must be {what} in {low:g} … {high:g}, got {values!r}"
            raise SimulationError(msg)


def _check_geometry(recipe: LibraryRecipe) -> None:
    try:
        grids = [recipe.grid(v) for v in recipe.voltages]
    except ParameterError as error:
        msg = f"recipe: {error}"
        raise SimulationError(msg) from error
    if recipe.pixels > grids[0].pixels or recipe.pixels % 2:
        msg = f"recipe: pixels must be even and at most {grids[0].pixels} (⅔ of size)"
        raise SimulationError(msg)
    if min(recipe.depths) / recipe.step < recipe.thicknesses:
        msg = "recipe: the thinnest of depths has fewer slices than thicknesses"
        raise SimulationError(msg)
    largest = 0.9 * recipe.pixels / 2
    for grid in grids:
        radius = recipe.semiangle[1] * 1e-3 / grid.wavelength * recipe.box
        if not recipe.min_radius < radius:
            msg = (
                f"recipe: at {grid.voltage:g} kV the largest semiangle gives a disk of "
                f"{radius:.2f} px, below min_radius: enlarge semiangle or box"
            )
            raise SimulationError(msg)
        if radius > largest:
            msg = (
                f"recipe: at {grid.voltage:g} kV the largest semiangle gives a disk of "
                f"{radius:.0f} px, more than the detector ({largest:.0f} px) holds"
            )
            raise SimulationError(msg)
