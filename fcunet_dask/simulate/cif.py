"""Users' own crystals from CIF files."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from fcunet_dask.errors import SimulationError
from fcunet_dask.simulate.crystals import Crystal
from fcunet_dask.simulate.factors import _gemmi


def read_cif(path: str | Path) -> Crystal:
    """Crystal of the first structure in a CIF file, all atoms of its cell.

    Split and alloyed sites keep their occupancies. Debye–Waller factors of the file
    are not used: recipes draw them.

    Parameters
    ----------
    path : path-like
        A small-molecule or inorganic CIF with cell, symmetry and atom sites.

    Returns
    -------
    Crystal

    Raises
    ------
    SimulationError
        If the file cannot be read, lacks a cell or atoms, names an unknown element,
        or holds overlapping atoms.
    MissingDependencyError
        If gemmi is not installed.
    """
    path = Path(path)
    gemmi = _gemmi()
    try:
        structure = gemmi.read_small_structure(str(path))
        _set_symmetry(structure, path)
        sites = list(structure.get_all_unit_cell_sites())
    except (OSError, ValueError, RuntimeError, IndexError) as error:
        msg = f"{path} is no readable CIF file: {error}"
        raise SimulationError(msg) from error
    cell = np.array(structure.cell.orth.mat.tolist()).T
    if not sites or structure.cell.volume < 1.01:
        missing = "atom sites" if not sites else "cell lengths and angles"
        msg = f"{path} has no {missing}: no crystal can be made from it"
        raise SimulationError(msg)
    return Crystal(
        name=structure.name or path.stem,
        cell=cell,
        positions=np.array([s.fract.tolist() for s in sites]) % 1.0,
        numbers=[_number(s, path) for s in sites],  # type: ignore[arg-type]
        occupancies=np.array([s.occ for s in sites]),
        system=_system(structure),
        spacegroup=_spacegroup(structure),
        source="cif",
        reference=path.name,
    )


def read_cifs(paths: Iterable[str | Path]) -> tuple[Crystal, ...]:
    """Crystals of several CIF files, in their order.

    Parameters
    ----------
    paths : iterable of path-like
        CIF files.

    Returns
    -------
    tuple of Crystal

    Raises
    ------
    SimulationError
        If one of them cannot be used; the message names it.
    """
    return tuple(read_cif(path) for path in paths)


def _set_symmetry(structure: Any, path: Path) -> None:
    """Take the space group from whatever names it; a file that names none is P 1."""
    if structure.spacegroup or structure.symops:
        return
    named = structure.spacegroup_hm or structure.spacegroup_hall
    if not named and not structure.spacegroup_number:
        return
    # symmetry operations, Hall symbol, Hermann–Mauguin (origin 2), number
    structure.determine_and_set_spacegroup("s.h.2n")
    if not structure.spacegroup:
        msg = (
            f"{path}: unknown space group {named or structure.spacegroup_number!r}; "
            "give the symmetry operations"
        )
        raise SimulationError(msg)
    structure.setup_cell_images()


def _number(site: Any, path: Path) -> int:
    number = int(site.element.atomic_number)
    if not 1 <= number <= 98:
        name = site.type_symbol or site.label
        msg = f"{path}: site {site.label!r} has the unknown element {name!r}"
        raise SimulationError(msg)
    return number


def _spacegroup(structure: Any) -> int:
    return int(structure.spacegroup.number) if structure.spacegroup else 0


def _system(structure: Any) -> str:
    if not structure.spacegroup:
        return ""
    return str(structure.spacegroup.crystal_system_str())
