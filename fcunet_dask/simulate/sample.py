"""A crystal in the beam: how it lies, how it is strained, and what is true of it."""

from dataclasses import dataclass, field

import numpy as np

from fcunet_dask.errors import SimulationError
from fcunet_dask.kernels.multislice import Grid, Specimen
from fcunet_dask.kernels.scattering import (
    excitation_error,
    miller_indices,
    reciprocal_basis,
)
from fcunet_dask.kernels.slab import cut_slab
from fcunet_dask.simulate.crystals import Crystal
from fcunet_dask.simulate.factors import element_factors
from fcunet_dask.types import Array

MAX_STRAIN = 0.2
"""Largest component of a strain that is believed."""


def _identity() -> Array:
    return np.eye(3)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """A crystal in the beam.

    Parameters
    ----------
    crystal : Crystal
        What it is made of.
    rotation : array
        (3, 3) proper rotation from the crystal's Cartesian to the lab frame (x along
        the columns of the detector, y along its rows, beam along +z).
    deformation : array
        (3, 3) deformation gradient F in the lab frame: r → F r.
    bending : array
        (2, 2) symmetric curvature in (x, y), 1/Å: see `cut_slab`.
    origin : array
        (3,) of the crystal, from the middle of the entrance face, Å.
    thermal : float
        Debye–Waller B of all atoms, Å².
    absorption : float
        κ, ratio of the imaginary to the real potential.

    Raises
    ------
    SimulationError
        If `rotation` is none, a strain exceeds 20 %, B or κ is negative.
    """

    crystal: Crystal
    rotation: Array = field(default_factory=_identity)
    deformation: Array = field(default_factory=_identity)
    bending: Array = field(default_factory=lambda: np.zeros((2, 2)))
    origin: Array = field(default_factory=lambda: np.zeros(3))
    thermal: float = 0.5
    absorption: float = 0.0

    def __post_init__(self) -> None:
        turn = np.asarray(self.rotation, dtype=float)
        if turn.shape != (3, 3) or not np.allclose(turn @ turn.T, np.eye(3), atol=1e-6):
            msg = f"rotation must be orthogonal (3, 3), got {turn.tolist()}"
            raise SimulationError(msg)
        strain = np.asarray(self.deformation, dtype=float) - np.eye(3)
        if strain.shape != (3, 3) or not np.abs(strain).max() <= MAX_STRAIN:
            msg = (
                f"deformation must be near the identity, got F − 1 = {strain.tolist()}"
            )
            raise SimulationError(msg)
        if not (self.thermal >= 0 and self.absorption >= 0):
            msg = (
                "thermal (B, Å²) and absorption must not be negative, got "
                f"{self.thermal!r} and {self.absorption!r}"
            )
            raise SimulationError(msg)

    @property
    def lab_cell(self) -> Array:
        """Strained lattice vectors in the lab frame, rows (x, y, z), Å."""
        turned = self.crystal.cell @ np.asarray(self.rotation).T
        return np.asarray(turned @ np.asarray(self.deformation).T)


@dataclass(frozen=True, slots=True, eq=False)
class Reflections:
    """The truth of a pattern: what could be seen, exactly where.

    Parameters
    ----------
    hkl : array
        int (n, 3), the direct beam first, then by expected strength.
    q : array
        float64 (n, 2) as (y, x), strain applied, 1/Å.
    potential : array
        complex128 (n,) V_g with its Debye–Waller factor, V.
    error : array
        float64 (n,) excitation error s_g, 1/Å.
    """

    hkl: Array
    q: Array
    potential: Array
    error: Array

    def __len__(self) -> int:
        return len(self.hkl)

    @property
    def amplitude(self) -> Array:
        """|V_g|, V: float64 (n,)."""
        return np.abs(self.potential)

    def strength(self, width: float = 0.02) -> Array:
        """|V_g| exp(−s²/2σ_s²): what can be excited, whatever the thickness.

        Parameters
        ----------
        width : float
            σ_s, 1/Å.

        Returns
        -------
        numpy.ndarray
            float64 (n,), V.
        """
        return self.amplitude * np.exp(-((self.error / width) ** 2) / 2)


def build_specimen(sample: Sample, grid: Grid, depth: float) -> Specimen:
    """Atoms of a slab of the sample, for the multislice.

    Parameters
    ----------
    sample : Sample
        What lies in the beam.
    grid : Grid
        The box.
    depth : float
        Thickness, Å.

    Returns
    -------
    Specimen
        Atoms (x, y, z) in the box and factors on its frequencies.
    """
    crystal = sample.crystal
    coordinates, site = cut_slab(
        sample.lab_cell,
        crystal.positions,
        (grid.box, grid.box, depth),
        rotation=np.eye(3),
        origin=sample.origin,
        bending=sample.bending,
    )
    kinds = np.array(crystal.elements)
    radius = grid.radius()
    factors = np.stack([element_factors(int(z), radius, sample.thermal) for z in kinds])
    return Specimen(
        coordinates,
        np.searchsorted(kinds, crystal.numbers)[site],
        crystal.weights[site],
        factors.astype(np.float32),
        sample.absorption,
    )


def list_reflections(
    sample: Sample, voltage: float, *, q_max: float, s_max: float = 0.08
) -> Reflections:
    """Return the reflections of a sample near the Ewald sphere.

    For a slab across the beam the transverse momentum is conserved: a disk lies
    exactly at g_⊥, whatever its excitation error.

    Parameters
    ----------
    sample : Sample
        What lies in the beam.
    voltage : float
        kV.
    q_max : float
        Largest |g_⊥|, 1/Å.
    s_max : float
        Largest |s_g|, 1/Å.

    Returns
    -------
    Reflections
        Strongest first, behind the direct beam.
    """
    cell = sample.lab_cell
    hkl = miller_indices(cell, 1.05 * q_max + 2 * s_max)
    g = hkl @ reciprocal_basis(cell)
    flat = np.hypot(g[:, 0], g[:, 1])
    near = flat <= q_max
    hkl, g = hkl[near], g[near]
    error = excitation_error(g, voltage)
    near = np.abs(error) <= s_max
    hkl, g, error = hkl[near], g[near], error[near]
    potential = sample.crystal.structure_factors(hkl, sample.thermal, cell)
    found = Reflections(hkl, g[:, 1::-1], potential, error)
    strength = found.strength()
    strength[0] = np.inf  # the list is by length: the direct beam is its first
    order = np.argsort(-strength, kind="stable")
    return Reflections(hkl[order], g[order, 1::-1], potential[order], error[order])
