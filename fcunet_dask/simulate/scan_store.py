"""Dynamical scans on disk: one tile after another, and gone on with where it stopped."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from fcunet_dask._commit import ArraySpec, BlockStore
from fcunet_dask.errors import StoreError
from fcunet_dask.schema import PATTERN, SCAN, Q
from fcunet_dask.simulate.scans import (
    ScanRecipe,
    simulate_dynamical_scan,
    simulate_tile,
)
from fcunet_dask.types import Array

Progress = Callable[[int, int], None]
"""Called with (tiles done, tiles in all), from the first on."""


def make_scan(
    recipe: ScanRecipe,
    out: str | Path,
    *,
    progress: Progress | None = None,
    overwrite: bool = False,
) -> Path:
    """Simulate a dynamical scan into the native store, or go on with an interrupted one.

    Parameters
    ----------
    recipe : ScanRecipe
        The scan.
    out : path-like
        Zarr group to write; `fcunet_dask.open_scan` opens it, and
        `open_simulated_scan` with its truth.
    progress : callable or None
        Called with (tiles done, tiles in all).
    overwrite : bool
        Whether to replace a scan that is there.

    Returns
    -------
    pathlib.Path
        `out`, now complete.

    Raises
    ------
    StoreError
        If `out` is something else, was begun with another recipe, is in use, or the
        disk is full. Tiles that were finished before are not done again.
    """
    scan = simulate_dynamical_scan(recipe)
    store = BlockStore.create(
        out,
        {PATTERN.name: _spec(recipe)},
        recipe.tile,
        fingerprint={"kind": "dynamical scan", "recipe": _plain(recipe)},
        attrs={str(key): value for key, value in scan.attrs.items()},
        overwrite=overwrite,
    )
    with store:
        for name in scan.variables:
            if name not in (PATTERN.name, "component"):
                array = scan[name]
                dims = tuple(map(str, array.dims))
                store.put(str(name), dims, np.asarray(array), array.attrs)
        total = store.grid[0] * store.grid[1]
        todo = store.pending()
        report = progress or _silent
        report(total - len(todo), total)
        for i, block in enumerate(todo, total - len(todo) + 1):
            store.write(block, {PATTERN.name: simulate_tile(recipe, block)})
            report(i, total)
        store.finish()
    return store.path


def open_simulated_scan(path: str | Path) -> xr.Dataset:
    """Open a scan that `make_scan` wrote, with its truth; patterns are read when used.

    Parameters
    ----------
    path : path-like
        The scan.

    Returns
    -------
    xarray.Dataset
        As `simulate_dynamical_scan` returns it.

    Raises
    ------
    StoreError
        If `path` is no such scan, or is not finished.
    """
    store = BlockStore(path)
    if store.fingerprint.get("kind") != "dynamical scan":
        msg = f"{path} is no simulated scan with its truth; make it with make_scan"
        raise StoreError(msg)
    if not store.complete:
        msg = (
            f"{path}: {len(store.pending())} tiles are missing; make_scan with the same "
            "recipe goes on with it"
        )
        raise StoreError(msg)
    scan: xr.Dataset = xr.open_zarr(path, zarr_format=3, consolidated=False)
    return scan


def made_with(path: str | Path, recipe: ScanRecipe) -> bool:
    """Return whether a scan that `make_scan` wrote, or began, is that of `recipe`."""
    return bool(BlockStore(path).fingerprint.get("recipe") == _plain(recipe))


def _silent(done: int, total: int) -> None:
    """Say nothing."""


def _spec(recipe: ScanRecipe) -> ArraySpec:
    q = (recipe.pixels, recipe.pixels)
    chunks = tuple(min(n, m) for n, m in zip(recipe.tile, recipe.scan, strict=True))
    return ArraySpec(
        dims=(*SCAN, *Q),
        shape=(*recipe.scan, *q),
        dtype="<f4",
        chunks=(*chunks, *q),
        attrs={"units": "counts", "long_name": "pattern"},
    )


def _plain(value: Any) -> Any:
    """Return plain JSON of a recipe: nested dataclasses, tuples and arrays."""
    if is_dataclass(value):
        values = {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
        return {"is": type(value).__name__, **values}
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, np.ndarray | np.generic):
        array: Array | Any = value.tolist()
        return array
    return value
