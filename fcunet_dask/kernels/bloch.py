"""Dynamical diffraction of plane waves by the structure matrix (Bloch waves).

The independent oracle of the multislice, and the faster solver for small cells:
dψ_g/dz = 2πi s_g ψ_g + iσ Σ_h V_{g−h} ψ_h, whose matrix is diagonalised (Humphreys,
Rep. Prog. Phys. 42, 1825 (1979)). Paraxial, as multislice is.
"""

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from fcunet_dask.calibration import electron_wavelength
from fcunet_dask.errors import ParameterError
from fcunet_dask.kernels.scattering import (
    interaction_parameter,
    miller_indices,
    paraxial_error,
    reciprocal_basis,
)
from fcunet_dask.types import Array


@dataclass(frozen=True, slots=True)
class Beams:
    """Beams of a structure matrix, the incident one first.

    Parameters
    ----------
    hkl : array
        int (n, 3).
    g : array
        (n, 3) as (x, y, z) in the lab frame, 1/Å.
    """

    hkl: Array
    g: Array


def select_beams(
    cell: Array,
    rotation: Array,
    voltage: float,
    *,
    g_max: float,
    s_max: float,
    tilt_max: float = 0.0,
) -> Beams:
    """Beams near the Ewald sphere for all tilts up to `tilt_max`.

    Parameters
    ----------
    cell : array
        (3, 3) lattice vectors as rows, Å.
    rotation : array
        (3, 3) crystal to lab frame.
    voltage : float
        kV.
    g_max : float
        Longest beam, 1/Å.
    s_max : float
        Largest excitation error, 1/Å.
    tilt_max : float
        Largest transverse wave vector of the incident waves, 1/Å.

    Returns
    -------
    Beams
        Ordered by |g|: the incident beam is the first.
    """
    hkl = miller_indices(cell, g_max)
    g = hkl @ reciprocal_basis(cell) @ np.asarray(rotation).T
    axis = paraxial_error(g, np.zeros((1, 2)), voltage)[0]
    # over the aperture the error changes by up to λ |k| |g_⊥|
    flat = np.linalg.norm(g[:, :2], axis=1)
    slack = electron_wavelength(voltage) * tilt_max * flat
    near = np.abs(axis) <= s_max + slack
    return Beams(hkl[near], g[near])


def structure_matrix(
    beams: Beams, hkl: Array, potential: Array, voltage: float
) -> Array:
    """Off-diagonal part σV_{g−h} of the structure matrix.

    Parameters
    ----------
    beams : Beams
        n beams.
    hkl : array
        int (m, 3): where the potential is known.
    potential : array
        complex (m,): V_g there, V; with absorption V_g(1 + iκ).
    voltage : float
        kV.

    Returns
    -------
    array
        complex128 (n, n), rad/Å; coefficients that are not known are 0.
    """
    top = np.abs(hkl).max(0)
    table = np.zeros(2 * top + 1, dtype=complex)
    table[tuple(hkl.T)] = potential
    difference = beams.hkl[:, None] - beams.hkl[None]
    known = (np.abs(difference) <= top).all(-1)
    index = np.where(known[..., None], difference, 0)
    matrix = np.where(known, table[tuple(np.moveaxis(index, -1, 0))], 0)
    return np.asarray(interaction_parameter(voltage) * matrix)


def bloch_waves(
    beams: Beams, matrix: Array, tilts: Array, thickness: Array, voltage: float
) -> Array:
    """Amplitude of every beam behind a parallel slab, for plane waves.

    Parameters
    ----------
    beams : Beams
        n beams.
    matrix : array
        (n, n) of `structure_matrix`; not Hermitian where there is absorption.
    tilts : array
        (m, 2) transverse wave vectors (x, y), 1/Å.
    thickness : array
        (t,), Å.
    voltage : float
        kV.

    Returns
    -------
    array
        complex128 (m, t, n).

    Raises
    ------
    ParameterError
        If the first beam is not the incident one.
    """
    if beams.hkl[0].any():
        msg = f"the first beam must be (0, 0, 0), got {tuple(beams.hkl[0])}"
        raise ParameterError(msg)
    errors = paraxial_error(beams.g, tilts, voltage)
    hermitian = np.abs(matrix - matrix.conj().T).max() < 1e-9 * np.abs(matrix).max()
    depth = np.asarray(thickness, dtype=float)
    out = np.empty((len(errors), len(depth), len(beams.hkl)), dtype=complex)
    for i, error in enumerate(errors):
        full = matrix + np.diag(2 * np.pi * error)
        if hermitian:
            values, vectors = scipy.linalg.eigh(full, check_finite=False)
            start = vectors[0].conj()
        else:
            values, vectors = scipy.linalg.eig(full, check_finite=False)
            start = np.linalg.solve(vectors, np.eye(len(full))[:, 0])
        out[i] = (np.exp(1j * np.outer(depth, values)) * start) @ vectors.T
    return out


def disk_tilts(radius: float, rings: int, spokes: int = 15) -> Array:
    """Equal-area sample of an aperture: (rings · spokes, 2), unit of `radius`.

    Parameters
    ----------
    radius : float
        Of the aperture, α/λ.
    rings, spokes : int
        How many; neighbouring rings are turned by half a step.

    Returns
    -------
    array
        float64 (rings · spokes, 2).
    """
    ring, spoke = np.divmod(np.arange(rings * spokes), spokes)
    length = radius * np.sqrt((ring + 0.5) / rings)
    angle = 2 * np.pi * (spoke + 0.5 * ring) / spokes
    return np.stack([length * np.cos(angle), length * np.sin(angle)], -1)
