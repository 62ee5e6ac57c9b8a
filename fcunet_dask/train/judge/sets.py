"""Patterns, made where missing, and scans that detectors are judged on; both checked."""

import logging
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Final

import xarray as xr

from fcunet_dask._commit import BlockStore
from fcunet_dask.errors import StoreError
from fcunet_dask.simulate.evaluation import SETS, multilayer_scan
from fcunet_dask.simulate.library import make_library, read_recipe
from fcunet_dask.simulate.recipe import load_recipe
from fcunet_dask.simulate.scan_store import made_with
from fcunet_dask.train.judge.contender import Progress
from fcunet_dask.train.judge.strain import counted_scan

PATTERNS: Final = 260
"""Patterns of the validation and of the test set."""

_LOG = logging.getLogger(__name__)


def judged_set(folder: str | Path, name: str, progress: Progress) -> Path:
    """Return the path of a set of patterns; it is made where it is missing or unfinished.

    Parameters
    ----------
    folder : path-like
        Where ``NAME.zarr`` is, or will be.
    name : str
        ``validation`` or ``test``.
    progress : callable
        Called with (what, done, in all).

    Returns
    -------
    pathlib.Path

    Raises
    ------
    StoreError
        If something else has its name: figures of other patterns cannot be compared.
    """
    path = Path(folder) / f"{name}.zarr"
    if not path.exists() or BlockStore(path).pending():
        report = partial(progress, f"{name} set")
        make_library(name, path, patterns=PATTERNS, progress=report)
    found, wanted = read_recipe(path), load_recipe(name)
    other = [
        f.name
        for f in fields(found)
        if getattr(found, f.name) != getattr(wanted, f.name)
    ]
    if BlockStore(path).attrs.get("patterns") != PATTERNS:
        other.append("number of patterns")
    if other:
        msg = (
            f"{path} is not the {name} set, it has other {', '.join(other)}: move it "
            "away, and it is made anew, or give another folder"
        )
        raise StoreError(msg)
    return path


def judged_scans(folder: str | Path | None) -> dict[str, xr.Dataset]:
    """Return the simulated multilayers of a folder, counted, by name.

    Parameters
    ----------
    folder : path-like or None
        With ``ideal.zarr``, ``tilted.zarr``, ``thick.zarr``; those that are missing are
        told in the log. None: none.

    Returns
    -------
    dict

    Raises
    ------
    StoreError
        If it has none of them, or one is another scan: its strain would be compared
        with a truth that is not its own.
    """
    if folder is None:
        return {}
    paths = {name: Path(folder) / f"{name}.zarr" for name in SETS}
    missing = [name for name, path in paths.items() if not path.exists()]
    if len(missing) == len(paths):
        msg = (
            f"{folder} holds none of {', '.join(p.name for p in paths.values())}: make "
            "them with fcunet-dask simulate --scan NAME --out FOLDER/NAME.zarr"
        )
        raise StoreError(msg)
    for name in missing:
        _LOG.warning("%s is not there: its strain is not judged", paths.pop(name))
    for name, path in paths.items():
        if not made_with(path, multilayer_scan(name)):
            msg = (
                f"{path} is not the scan that is judged as {name}: move it away, and "
                f"make it with fcunet-dask simulate --scan {name} --out {path}"
            )
            raise StoreError(msg)
    return {name: counted_scan(path) for name, path in paths.items()}
