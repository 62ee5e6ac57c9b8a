"""Simulated diffraction with known truth."""

from importlib import import_module
from typing import Any, Final

from fcunet_dask.simulate.kinematic import KinematicRecipe, simulate_scan

_LATER: Final = {
    "LibraryRecipe": "recipe",
    "load_recipe": "recipe",
    "make_library": "library",
    "open_library": "library",
    "load_crystals": "crystals",
    "read_cif": "cif",
    "ScanRecipe": "scans",
    "simulate_dynamical_scan": "scans",
    "multilayer_scan": "evaluation",
    "PolycrystalRecipe": "polycrystal",
    "simulate_polycrystal": "polycrystal",
}
"""Names that are loaded on first use, and their modules."""

__all__ = ["KinematicRecipe", "simulate_scan", *sorted(_LATER)]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    """Load what few need when it is asked for."""
    if name not in _LATER:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
