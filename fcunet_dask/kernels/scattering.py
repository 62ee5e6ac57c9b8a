"""How electrons are scattered by atoms and crystals: the laws without the solver.

Lab frame: x along the detector's columns, y along its rows, the beam along +z.
Scattering vectors carry no 2π: V(r) = Σ_g V_g exp(2πi g·r).
"""

import math
from typing import Final

import numpy as np

from fcunet_dask.calibration import electron_wavelength
from fcunet_dask.types import Array

VOLT_AREA: Final = 47.878009
"""h²/(2π m₀ e), V Å²: V_g = VOLT_AREA · F_g / Ω with F_g in Å (first Born)."""

REST_ENERGY: Final = 510.99895
"""m₀c², keV."""


def interaction_parameter(voltage: float) -> float:
    """Phase per projected potential, σ = 2π m e λ / h².

    Kirkland, *Advanced Computing in Electron Microscopy* (2010), eq. 5.6; the mass is
    the relativistic one.

    Parameters
    ----------
    voltage : float
        kV.

    Returns
    -------
    float
        rad / (V Å).

    Examples
    --------
    >>> round(interaction_parameter(200.0) * 1e4, 3)
    7.288
    """
    gamma = 1.0 + voltage / REST_ENERGY
    return gamma * electron_wavelength(voltage) / VOLT_AREA


def electron_factor(coefficients: Array, g: Array) -> Array:
    """Electron scattering factor of one atom, f(g) = Σ_i a_i exp(−b_i g²/4).

    International Tables for Crystallography C (2004), table 4.3.2.2.

    Parameters
    ----------
    coefficients : array
        (2, n): the a_i in Å and the b_i in Å².
    g : array
        |g|, any shape, 1/Å.

    Returns
    -------
    array
        float64, shape of `g`, Å.
    """
    s2 = np.asarray(g, dtype=float)[..., None] ** 2 / 4.0
    a, b = np.asarray(coefficients, dtype=float)
    factor: Array = (a * np.exp(-b * s2)).sum(-1)
    return factor


def reciprocal_basis(cell: Array) -> Array:
    """Reciprocal vectors (rows) of a cell (rows): B = (A⁻¹)ᵀ.

    Parameters
    ----------
    cell : array
        (3, 3), one vector a row, Å.

    Returns
    -------
    array
        (3, 3), one vector a row, 1/Å.
    """
    return np.linalg.inv(np.asarray(cell, dtype=float)).T


def miller_indices(cell: Array, g_max: float) -> Array:
    """Return all (h, k, l) with |g| ≤ `g_max`, the origin among them.

    Parameters
    ----------
    cell : array
        (3, 3), one vector a row, Å.
    g_max : float
        1/Å.

    Returns
    -------
    array
        int64 (n, 3), ordered by |g|, then by (h, k, l).
    """
    cell = np.asarray(cell, dtype=float)
    top = np.floor(g_max * np.linalg.norm(cell, axis=1) + 1e-9).astype(int)
    axes = [np.arange(-n, n + 1) for n in top]
    hkl = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    length = np.linalg.norm(hkl @ reciprocal_basis(cell), axis=1)
    hkl, length = hkl[length <= g_max], length[length <= g_max]
    ordered: Array = hkl[np.lexsort((*hkl.T[::-1], np.round(length, 9)))]
    return ordered


def structure_factors(
    hkl: Array, cell: Array, positions: Array, weights: Array, factors: Array
) -> Array:
    """Fourier coefficients of the crystal's potential.

    V_g = (h²/2π m₀ e Ω) Σ_j w_j f_j(|g|) exp(−2πi g·r_j), where f_j already holds the
    Debye–Waller factor exp(−B g²/4).

    Parameters
    ----------
    hkl : array
        (n, 3).
    cell : array
        (3, 3), one vector a row, Å.
    positions : array
        (m, 3) fractional coordinates.
    weights : array
        (m,) occupancies.
    factors : array
        (m, n) scattering factor of each atom at each |g|, Å.

    Returns
    -------
    array
        complex128 (n,), V.
    """
    volume = abs(np.linalg.det(cell))
    phase = np.exp(-2j * math.pi * (np.asarray(positions) @ np.asarray(hkl).T))
    total: Array = (np.asarray(weights)[:, None] * np.asarray(factors) * phase).sum(0)
    return np.asarray(VOLT_AREA / volume * total)


def excitation_error(g: Array, voltage: float) -> Array:
    """Distance from a reciprocal point to the Ewald sphere, along the beam.

    s = √(K² − |g_⊥|²) − K − g_z with K = 1/λ and the beam along +z: negative outside
    the sphere, as in Hirsch et al., *Electron Microscopy of Thin Crystals* (1977).

    Parameters
    ----------
    g : array
        (..., 3) as (x, y, z) in the lab frame, 1/Å; |g_⊥| < K.
    voltage : float
        kV.

    Returns
    -------
    array
        (...), 1/Å.
    """
    g = np.asarray(g, dtype=float)
    k = 1.0 / electron_wavelength(voltage)
    transverse = g[..., 0] ** 2 + g[..., 1] ** 2
    # K - √(K² - t) without cancellation
    sagitta = transverse / (k + np.sqrt(k * k - transverse))
    return np.asarray(-g[..., 2] - sagitta)


def paraxial_error(g: Array, tilt: Array, voltage: float) -> Array:
    """Excitation error in the approximation that multislice makes.

    s = −g_z − λ(|g_⊥|² + 2 k·g_⊥)/2, for plane waves of transverse wave vector k.

    Parameters
    ----------
    g : array
        (n, 3) as (x, y, z), 1/Å.
    tilt : array
        (m, 2) transverse wave vectors (x, y) of the incident waves, 1/Å.
    voltage : float
        kV.

    Returns
    -------
    array
        (m, n), 1/Å.
    """
    g = np.asarray(g, dtype=float)
    flat = g[:, :2]
    wavelength = electron_wavelength(voltage)
    path = (flat**2).sum(1) + 2.0 * np.asarray(tilt, dtype=float) @ flat.T
    return np.asarray(-g[:, 2] - wavelength / 2.0 * path)
