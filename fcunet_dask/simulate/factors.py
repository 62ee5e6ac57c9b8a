"""Elements: electron scattering factors, symbols and radii, from gemmi's tables."""

from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np

from fcunet_dask.errors import MissingDependencyError, SimulationError
from fcunet_dask.kernels.scattering import electron_factor
from fcunet_dask.types import Array


def _gemmi() -> Any:
    """Import gemmi, or say what to install."""
    try:
        import gemmi  # noqa: PLC0415  (an extra)
    except ImportError as error:
        msg = "form factors need gemmi: pip install 'fcunet-dask[simulate]'"
        raise MissingDependencyError(msg) from error
    return gemmi


@cache
def factor_coefficients(number: int) -> Array:
    """Five Gaussians of one element's electron scattering factor.

    International Tables C (2004) table 4.3.2.2, from ``gemmi.Element.c4322``.

    Parameters
    ----------
    number : int
        Atomic number, 1 to 98.

    Returns
    -------
    numpy.ndarray
        float64 (2, 5): a in Å, b in Å².

    Raises
    ------
    SimulationError
        If there is no such element, or no factors for it.
    MissingDependencyError
        If gemmi is not installed.
    """
    table = _gemmi().Element(int(number)).c4322 if 1 <= number <= 98 else None
    if table is None:
        msg = f"no electron scattering factors for element {number}; 1 to 98 have them"
        raise SimulationError(msg)
    return np.array([list(table.a), list(table.b)])


def element_factors(number: int, g: Array, thermal: float = 0.0) -> Array:
    """Scattering factor of an element with its Debye–Waller factor.

    f(|g|) exp(−B g²/4).

    Parameters
    ----------
    number : int
        Atomic number.
    g : array
        |g|, any shape, 1/Å.
    thermal : float
        B, Å².

    Returns
    -------
    numpy.ndarray
        float64, shape of `g`, Å.
    """
    damping = np.exp(-thermal * np.asarray(g, dtype=float) ** 2 / 4.0)
    return electron_factor(factor_coefficients(int(number)), g) * damping


@cache
def symbol(number: int) -> str:
    """Chemical symbol of an atomic number."""
    return str(_gemmi().Element(int(number)).name)


@cache
def covalent_radius(number: int) -> float:
    """Covalent radius of an element, Å."""
    return float(_gemmi().Element(int(number)).covalent_r)


def composition(numbers: Iterable[int]) -> str:
    """Reduced formula, elements in alphabetical order.

    Examples
    --------
    >>> composition([14, 14, 8, 8, 8, 8])
    'O2Si'
    """
    values, counts = np.unique(np.fromiter(numbers, dtype=int), return_counts=True)
    counts = counts // np.gcd.reduce(counts)
    parts = sorted(zip(map(symbol, values), counts, strict=True))
    return "".join(f"{name}{n if n > 1 else ''}" for name, n in parts)
