"""Crystals: what they are, whether they can exist, and the table that ships."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from importlib.resources import as_file, files
from typing import Any, Final

import numpy as np

from fcunet_dask.errors import MissingDependencyError, SimulationError
from fcunet_dask.kernels.scattering import miller_indices, reciprocal_basis
from fcunet_dask.kernels.scattering import structure_factors as _structure_factors
from fcunet_dask.simulate.factors import (
    composition,
    covalent_radius,
    element_factors,
    factor_coefficients,
)
from fcunet_dask.types import Array

TABLE: Final = "crystals.parquet"
SYSTEMS: Final = (
    "triclinic",
    "monoclinic",
    "orthorhombic",
    "tetragonal",
    "trigonal",
    "hexagonal",
    "cubic",
)
CLOSEST: Final = 0.55
"""Shortest distance allowed, in sums of covalent radii."""
SAME_SITE: Final = 0.05
"""Atoms nearer than this (Å) share one site, if their occupancies allow."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Crystal:
    """A periodic arrangement of atoms, checked when it is made.

    Parameters
    ----------
    name : str
        What to call it.
    cell : array
        (3, 3) lattice vectors as rows, Å.
    positions : array
        (n, 3) fractional coordinates.
    numbers : array
        (n,) atomic numbers, 1 to 98.
    occupancies : array or None
        (n,) in (0, 1]; all one where None.
    system : str
        Crystal system, empty where it is not known.
    spacegroup : int
        1 to 230, 0 where it is not known.
    prototype, source, reference : str
        Structure type; who published it; under which identifier.
    trusted : bool
        Skip the search for overlapping atoms (the shipped table, tested once).

    Raises
    ------
    SimulationError
        If the cell is flat, a number is not finite, an element has no scattering
        factors, an occupancy is impossible, or two atoms overlap.
    """

    name: str
    cell: Array
    positions: Array
    numbers: Array
    occupancies: Array | None = None
    system: str = ""
    spacegroup: int = 0
    prototype: str = ""
    source: str = "user"
    reference: str = ""
    trusted: bool = False
    weights: Array = field(init=False)

    def __post_init__(self) -> None:
        n = np.size(self.numbers)
        full = np.ones(n) if self.occupancies is None else self.occupancies
        self._set("cell", np.reshape(np.asarray(self.cell, dtype=float), (-1, 3)))
        self._set("positions", np.asarray(self.positions, dtype=float).reshape(-1, 3))
        self._set("numbers", np.asarray(self.numbers, dtype=int).reshape(-1))
        self._set("weights", np.asarray(full, dtype=float).reshape(-1))
        _check_numbers(self)
        if not self.trusted:
            _check_overlap(self)

    def _set(self, name: str, value: Array) -> None:
        value.setflags(write=False)
        object.__setattr__(self, name, value)

    @property
    def volume(self) -> float:
        """Volume of the cell, Å³."""
        return float(abs(np.linalg.det(self.cell)))

    @property
    def formula(self) -> str:
        """Reduced formula, elements in alphabetical order."""
        return composition(self.numbers)

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers that occur, ascending."""
        return tuple(int(z) for z in np.unique(self.numbers))

    @property
    def volume_per_atom(self) -> float:
        """Volume of the cell per atom, Å³."""
        return self.volume / float(self.weights.sum())

    def structure_factors(
        self, hkl: Array, thermal: float = 0.0, cell: Array | None = None
    ) -> Array:
        """Fourier coefficients V_g of the crystal's potential.

        Parameters
        ----------
        hkl : array
            (n, 3).
        thermal : float
            Debye–Waller B of all atoms, Å².
        cell : array or None
            (3, 3) strained lattice vectors as rows, Å; `self.cell` where None.

        Returns
        -------
        numpy.ndarray
            complex128 (n,), V.
        """
        cell = self.cell if cell is None else cell
        g = np.linalg.norm(np.asarray(hkl) @ reciprocal_basis(cell), axis=1)
        each = {z: element_factors(z, g, thermal) for z in self.elements}
        factors = np.stack([each[int(z)] for z in self.numbers])
        return _structure_factors(hkl, cell, self.positions, self.weights, factors)

    def reflections(self, g_max: float) -> Array:
        """All (h, k, l) with |g| ≤ `g_max` (1/Å), by length: int64 (n, 3)."""
        return miller_indices(self.cell, g_max)


def _check_numbers(crystal: Crystal) -> None:
    """Refuse impossible cells, coordinates, elements and occupancies."""
    n = len(crystal.numbers)
    arrays = (crystal.cell, crystal.positions, crystal.weights)
    if not all(np.isfinite(a).all() for a in arrays):
        msg = f"{crystal.name}: a cell vector, coordinate or occupancy is not finite"
        raise SimulationError(msg)
    if crystal.cell.shape != (3, 3) or crystal.volume < 1.0:
        msg = f"{crystal.name}: the cell is not three independent vectors (rows, Å)"
        raise SimulationError(msg)
    if n == 0 or len(crystal.positions) != n or len(crystal.weights) != n:
        msg = (
            f"{crystal.name}: {n} atomic numbers, {len(crystal.positions)} positions "
            f"and {len(crystal.weights)} occupancies; expected as many of each, ≥ 1"
        )
        raise SimulationError(msg)
    if (crystal.weights <= 0).any() or (crystal.weights > 1 + 1e-6).any():
        msg = f"{crystal.name}: occupancies must lie in (0, 1]"
        raise SimulationError(msg)
    for number in crystal.elements:
        factor_coefficients(number)


def _check_overlap(crystal: Crystal) -> None:
    """Refuse atoms nearer than chemistry allows, unless they share one site."""
    distance = _distances(crystal)
    weights = crystal.weights
    radii = np.array([covalent_radius(int(z)) for z in crystal.numbers])
    allowed = CLOSEST * (radii[:, None] + radii)
    shared = distance < SAME_SITE
    # a site and its split twin may be half empty: they are never there together
    together = weights[:, None] + weights > 1 + 1e-6
    close = (distance < allowed) & ~shared & together
    close |= shared & ((weights + shared @ weights) > 1.001)[:, None]
    if close.any():
        i, j = np.unravel_index(np.argmax(close), close.shape)
        msg = (
            f"{crystal.name}: atoms {i} and {j} overlap: {distance[i, j]:.3f} Å apart, "
            f"at least {allowed[i, j]:.3f} Å expected; give coordinates as fractions "
            "of the cell, each atom once, occupancies of one site summing to 1"
        )
        raise SimulationError(msg)


def _distances(crystal: Crystal) -> Array:
    """Shortest distance of each pair over 27 images, an atom's own excluded.

    Returns
    -------
    numpy.ndarray
        float64 (n, n), Å.
    """
    delta = crystal.positions[:, None] - crystal.positions[None]
    delta = (delta - np.round(delta)) @ crystal.cell
    best = np.full(delta.shape[:2], np.inf)
    for image in np.ndindex(3, 3, 3):
        shift = (np.array(image) - 1) @ crystal.cell
        square = ((delta + shift) ** 2).sum(-1)
        if image == (1, 1, 1):
            np.fill_diagonal(square, np.inf)
        np.minimum(best, square, out=best)
    return np.asarray(np.sqrt(best))


@lru_cache(maxsize=1)
def load_crystals() -> tuple[Crystal, ...]:
    """Return the crystals that ship with the package, always in the same order.

    2,677 crystals of all seven systems from OQMD (CC BY 4.0), AFLOW and COD; see
    ``DATA_LICENSE``. Each names its source and its identifier there.

    Returns
    -------
    tuple of Crystal

    Raises
    ------
    MissingDependencyError
        If pyarrow is not installed.
    SimulationError
        If the table of the installation is broken.
    """
    return tuple(_crystal(row) for row in _rows())


def table_digest() -> str:
    """SHA-256 of the shipped table: part of the provenance of a library."""
    data = (files("fcunet_dask.simulate") / TABLE).read_bytes()
    return sha256(data).hexdigest()


def _rows() -> list[dict[str, Any]]:
    try:
        import pyarrow.parquet as pq  # noqa: PLC0415  (an extra)
    except ImportError as error:
        msg = "the crystal table needs pyarrow: pip install 'fcunet-dask[simulate]'"
        raise MissingDependencyError(msg) from error
    with as_file(files("fcunet_dask.simulate") / TABLE) as path:
        try:
            return list(pq.read_table(path).to_pylist())
        except (OSError, ValueError) as error:
            msg = f"the crystal table {path} cannot be read; reinstall the package"
            raise SimulationError(msg) from error


def _crystal(row: dict[str, Any]) -> Crystal:
    return Crystal(
        name=row["name"],
        cell=np.reshape(row["cell"], (3, 3)),
        positions=np.reshape(row["frac"], (-1, 3)),
        numbers=row["numbers"],
        system=row["system"],
        spacegroup=row["spacegroup"],
        prototype=row["prototype"],
        source=row["source"],
        reference=row["ref"],
        trusted=True,
    )


def find_crystal(name: str, crystals: Sequence[Crystal] | None = None) -> Crystal:
    """Return the first crystal with this reduced formula, name or reference.

    Parameters
    ----------
    name : str
        ``"Si"``, ``"AsGa"`` or ``"oqmd_icsd:17935"``.
    crystals : sequence of Crystal or None
        Where to look; the shipped table where None.

    Returns
    -------
    Crystal

    Raises
    ------
    SimulationError
        If there is none.
    """
    pool: Iterable[Crystal] = load_crystals() if crystals is None else crystals
    for crystal in pool:
        if name in (crystal.reference, crystal.name, crystal.formula):
            return crystal
    msg = (
        f"no crystal {name!r}; give a reduced formula in alphabetical order, e.g. AsGa"
    )
    raise SimulationError(msg)
