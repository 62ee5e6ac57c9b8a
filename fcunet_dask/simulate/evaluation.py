"""The scans that detectors are judged on: Si/SiGe multilayers, as published.

The published sets (npj Comput. Mater. 8, 254 (2022)) cannot be had; these follow their
description: [110] zone, 200 kV, 2 mrad, 0.403 nm steps, four periods of ±1 % strain
against the substrate, 40.4 nm thick, well aligned or tilted; and an experiment-like
stack of tensile layers at 110 nm.
"""

from typing import Any, Final

import numpy as np

from fcunet_dask.errors import ParameterError
from fcunet_dask.kernels.illumination import Probe
from fcunet_dask.kernels.multislice import Grid
from fcunet_dask.simulate.crystals import Crystal
from fcunet_dask.simulate.fields import Multilayer
from fcunet_dask.simulate.scans import ScanRecipe
from fcunet_dask.types import Array

SETS: Final = ("ideal", "tilted", "thick")
SILICON: Final = 5.4310
"""Lattice parameter of silicon, Å."""
GERMANIUM: Final = 5.6579
"""Lattice parameter of germanium, Å."""


def diamond(number: int, lattice: float, name: str) -> Crystal:
    """Crystal of the diamond structure.

    Parameters
    ----------
    number : int
        Atomic number.
    lattice : float
        Lattice parameter, Å.
    name : str
        What to call it.

    Returns
    -------
    Crystal
    """
    base = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    return Crystal(
        name=name,
        cell=np.eye(3) * lattice,
        positions=np.concatenate([base, base + 0.25]),
        numbers=np.full(8, number),
        system="cubic",
        spacegroup=227,
    )


def zone_110() -> Array:
    """Rotation with [001] along x, [1-10] along y, and the beam along [110]."""
    half = np.sqrt(0.5)
    return np.array([[0, 0, 1], [half, -half, 0], [half, half, 0]])


def multilayer_scan(kind: str = "ideal", **changes: Any) -> ScanRecipe:
    """Return the recipe of a Si/SiGe multilayer.

    Parameters
    ----------
    kind : str
        ``ideal`` and ``tilted``: Si / Si₀.₅Ge₀.₅ on Si₀.₇₅Ge₀.₂₅, ±1 %, 40.4 nm, the
        second off its zone axis by 5 (y) and 8 (x) mrad; ``thick``: Si / Si₀.₈₂Ge₀.₁₈
        on Si, 0 and +1.2 % (tetragonally expanded), 110 nm, 1 and 2 mrad off.
    **changes
        Fields of the recipe to change.

    Returns
    -------
    ScanRecipe
        4 × 201 positions; ``simulate_dynamical_scan`` makes the scan.

    Raises
    ------
    ParameterError
        If there is no such set.
    """
    if kind not in SETS:
        msg = f"kind must be one of {SETS}, got {kind!r}"
        raise ParameterError(msg)
    if kind == "thick":
        share, layers = (
            0.0,
            Multilayer(low=0.0, high=0.012, substrate=0.0, alloy=(0.0, 0.18)),
        )
        thickness, tilt = 110.0, (1.0, 2.0)
    else:
        share, layers = 0.25, Multilayer()
        thickness, tilt = 40.4, (5.0, 8.0) if kind == "tilted" else (0.0, 0.0)
    lattice = (1 - share) * SILICON + share * GERMANIUM
    values: dict[str, Any] = {
        "crystal": diamond(14, lattice, f"Si/SiGe {kind}"),
        "rotation": zone_110(),
        "basis": ((1, -1, 1), (1, -1, -1)),
        "scan": (4, 201),
        "scan_step": 0.403,
        "grid": Grid(box=82.6, size=480, step=2.0, voltage=200.0),
        "pixels": 256,
        "probe": Probe(semiangle=2.0),
        "field": layers,
        "partner": 32,
        "thickness": (thickness, thickness),
        "tilt": tilt,
        "thermal": 0.47,
        "absorption": 0.01,
        "tile": (4, 4),
    }
    return ScanRecipe(**(values | changes))
