"""Training libraries: a recipe and a seed become sharded Zarr, block by block."""

import logging
import platform
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

import numpy as np
import xarray as xr

from fcunet_dask._commit import ArraySpec, Block, BlockStore
from fcunet_dask.errors import ParameterError, StoreError
from fcunet_dask.simulate.artefacts import Clean
from fcunet_dask.simulate.crystals import Crystal, table_digest
from fcunet_dask.simulate.draw import draw_block, library_crystals
from fcunet_dask.simulate.patterns import (
    COLUMNS,
    PARAMETERS,
    array_module,
    decode,
    simulate_block,
)
from fcunet_dask.simulate.recipe import LibraryRecipe, load_recipe

Progress = Callable[[int, int], None]
"""Called with (patterns done, patterns in all), from the first on."""

_LOG = logging.getLogger(__name__)
_LEAD: Final = ("specimen", "probe")
_IN_FLIGHT: Final = 4
"""Blocks a cluster holds at a time, per thread of its workers."""


def make_library(
    recipe: LibraryRecipe | str | Path,
    out: str | Path,
    *,
    patterns: int,
    client: Any = None,
    progress: Progress | None = None,
    resume: bool = True,
    overwrite: bool = False,
    engine: str = "numpy",
) -> Path:
    """Simulate a training library, or go on with one that was interrupted.

    One task draws, simulates and writes one block of specimens: one shard. What is
    written depends on the recipe, the seed and the table of crystals alone, not on the
    workers, their number, or how often the run was interrupted.

    Parameters
    ----------
    recipe : LibraryRecipe, str or path-like
        What to draw; the name of a shipped recipe; a TOML file.
    out : path-like
        Zarr group to write.
    patterns : int
        How many; rounded up to whole blocks of specimens.
    client : distributed.Client or None
        Where tasks run; one after another in this process where None.
    progress : callable or None
        Called with (patterns done, patterns in all).
    resume : bool
        Whether to go on with a library that is there.
    overwrite : bool
        Whether to replace a library that is there.
    engine : str
        ``numpy``, or ``cupy`` for workers with a GPU.

    Returns
    -------
    pathlib.Path
        `out`, now a complete library.

    Raises
    ------
    SimulationError
        If the recipe or a crystal cannot be used.
    StoreError
        If `out` is something else, was begun with another recipe, is in use, or the
        disk is full. What was finished before stays and is not done again.
    """
    if isinstance(recipe, str | Path):
        recipe = load_recipe(recipe)
    if patterns < 1:
        msg = f"patterns must be at least 1, got {patterns}"
        raise ParameterError(msg)
    if client is None:
        array_module(engine)
    crystals = library_crystals(recipe)
    per_block = recipe.block * recipe.patterns_per_specimen
    blocks = -(-patterns // per_block)
    unmarked = _unmarked(out)
    store = BlockStore.create(
        out,
        _arrays(recipe, blocks),
        (recipe.block, recipe.probes),
        fingerprint=_fingerprint(recipe, engine),
        attrs={"provenance": _provenance(crystals), "patterns": blocks * per_block},
        overwrite=overwrite,
        resume=resume,
    )
    with store:
        for block in unmarked.difference(store.pending()):
            store.verify(block)  # marked meanwhile, by a worker of a killed run
        todo = [block[0] for block in store.pending()]
        done = blocks - len(todo)
        report = progress or _log_progress
        report(done * per_block, blocks * per_block)
        for _ in _run(store.path, recipe, todo, client, engine):
            done += 1
            report(done * per_block, blocks * per_block)
        store.finish({"patterns": blocks * per_block})
    return store.path


def _unmarked(out: str | Path) -> set[Block]:
    """Return the blocks that a store lacks; none where there is no store."""
    try:
        return set(BlockStore(out).pending())
    except StoreError:
        return set()


def _log_progress(done: int, total: int) -> None:
    _LOG.info("%d of %d patterns", done, total)


def _run(
    path: Path, recipe: LibraryRecipe, todo: list[int], client: Any, engine: str
) -> Iterator[int]:
    """Make the blocks of `todo`; yield each when its mark is written."""
    if client is None:
        crystals = library_crystals(recipe)
        for index in todo:
            yield make_block(str(path), recipe, index, engine, crystals)
        return
    finished: SimpleQueue[Any] = SimpleQueue()
    threads = max(1, sum(client.nthreads().values()))
    waiting = iter(todo)
    running = set()

    def submit(indices: Iterable[int]) -> None:
        for index in indices:
            future = client.submit(
                make_block, str(path), recipe, index, engine, pure=False
            )
            running.add(future)
            future.add_done_callback(finished.put)

    submit(islice(waiting, _IN_FLIGHT * threads))
    try:
        while running:
            future = finished.get()
            running.discard(future)
            yield future.result()
            submit(islice(waiting, 1))
    finally:
        for future in running:
            future.cancel()


def make_block(
    path: str,
    recipe: LibraryRecipe,
    index: int,
    engine: str = "numpy",
    crystals: tuple[Crystal, ...] | None = None,
) -> int:
    """Simulate one block of a library and commit it: the task that workers run.

    Parameters
    ----------
    path : str
        The library.
    recipe : LibraryRecipe
        What to draw.
    index : int
        Which block.
    engine : str
        ``numpy`` or ``cupy``.
    crystals : tuple of Crystal or None
        `library_crystals` of the recipe, made here where None.

    Returns
    -------
    int
        `index`.

    Raises
    ------
    StoreError
        If the block cannot be written.
    """
    pool = library_crystals(recipe) if crystals is None else crystals
    block = draw_block(recipe, pool, index)
    values = simulate_block(block, recipe, engine)
    names = [scene.sample.crystal.reference for scene in block.scenes]
    summary = {"crystals": names, "voltage": block.grid.voltage, "depth": block.depth}
    BlockStore(path).write((index, 0), values, summary)
    return index


def open_library(path: str | Path, *, partial: bool = False) -> xr.Dataset:
    """Open a library; nothing is read before it is asked for.

    Patterns and probes are companded: `fcunet_dask.simulate.patterns.decode` gives
    their intensities.

    Parameters
    ----------
    path : path-like
        What `make_library` wrote.
    partial : bool
        Whether to accept an unfinished library: only its finished blocks are returned.

    Returns
    -------
    xarray.Dataset
        ``pattern_code`` uint16 (specimen, probe, thickness, q_y, q_x), ``scale`` and
        ``thickness_angstrom`` float32 (specimen, probe, thickness), ``probe_code``
        uint16 (specimen, probe, q_y, q_x), ``probe_scale`` float32 (specimen, probe),
        ``truth`` float32 (specimen, probe, reflection, column), ``parameter``
        float64 (specimen, probe, quantity).

    Raises
    ------
    StoreError
        If `path` is no library, or is unfinished and `partial` is not set.
    """
    store = BlockStore(path)
    missing = store.pending()
    if missing and not partial:
        total = store.grid[0] * store.grid[1]
        msg = (
            f"{path} is unfinished: {len(missing)} of {total} blocks are missing; run "
            "the same command again to complete it, or pass partial=True"
        )
        raise StoreError(msg)
    if "truth" not in store.attrs["fcunet_dask"]["arrays"]:
        msg = f"{path} is no library of simulated patterns"
        raise StoreError(msg)
    data: xr.Dataset = xr.open_zarr(
        path, zarr_format=3, consolidated=False, chunks=None
    )
    if (data.sizes["column"], data.sizes["quantity"]) != (
        len(COLUMNS),
        len(PARAMETERS),
    ):
        msg = f"{path} is a library of another version of fcunet_dask: make it again"
        raise StoreError(msg)
    numbers = range(data.sizes["specimen"])
    data = data.assign_coords(
        specimen=list(numbers), column=list(COLUMNS), quantity=list(PARAMETERS)
    )
    if missing:
        absent = {block[0] for block in missing}
        keep = [
            i
            for block in range(store.grid[0])
            if block not in absent
            for i in range(block * store.block[0], (block + 1) * store.block[0])
        ]
        data = data.isel(specimen=keep)
    return data


def clean_pattern(
    library: xr.Dataset, specimen: int, probe: int, thickness: int
) -> Clean:
    """One pattern of a library with its probe and truth, ready for artefacts.

    Parameters
    ----------
    library : xarray.Dataset
        From `open_library`.
    specimen, probe, thickness : int
        Which pattern.

    Returns
    -------
    Clean
        Float32 shares of the incident beam; the strength of a reflection is
        |V_g| exp(−s²/2σ_s²) with σ_s = 0.02 1/Å.
    """
    one = library.isel(specimen=specimen, probe=probe)
    exit_ = one.isel(thickness=thickness)
    truth = one["truth"].to_numpy()
    truth = truth[np.isfinite(truth[:, 0])].astype(float)
    return Clean(
        decode(exit_["pattern_code"].to_numpy(), exit_["scale"].to_numpy()),
        decode(one["probe_code"].to_numpy(), one["probe_scale"].to_numpy()),
        truth[:, 3:5],
        truth[:, 5] * np.exp(-((truth[:, 6] / 0.02) ** 2) / 2),
        float(one["parameter"].sel(quantity="q_step")),
    )


def read_recipe(path: str | Path) -> LibraryRecipe:
    """Return the recipe that a library was made from.

    Parameters
    ----------
    path : path-like
        The library.

    Returns
    -------
    LibraryRecipe

    Raises
    ------
    StoreError
        If `path` is no library.
    """
    fingerprint = BlockStore(path).fingerprint
    if "recipe" not in fingerprint:
        msg = f"{path} is no library of simulated patterns"
        raise StoreError(msg)
    return LibraryRecipe.from_dict(fingerprint["recipe"])


def _arrays(recipe: LibraryRecipe, blocks: int) -> dict[str, ArraySpec]:
    """Return what a library holds; each block owns one shard of each array."""
    lead, own = (blocks * recipe.block, recipe.probes), (recipe.block, recipe.probes)
    n, t = recipe.pixels, recipe.thicknesses

    def spec(
        dims: tuple[str, ...], shape: tuple[int, ...], dtype: str, units: str, text: str
    ) -> ArraySpec:
        return ArraySpec(
            dims=(*_LEAD, *dims),
            shape=(*lead, *shape),
            dtype=dtype,
            chunks=(*own, *shape),
            attrs={"units": units, "long_name": text},
        )

    q = ("q_y", "q_x")
    return {
        "pattern_code": ArraySpec(
            dims=(*_LEAD, "thickness", *q),
            shape=(*lead, t, n, n),
            dtype="uint16",
            chunks=(1, 1, 1, n, n),
            shards=(*own, t, n, n),
            attrs={"long_name": "pattern", "encoding": "I = scale (code / 65535)²"},
        ),
        "scale": spec(("thickness",), (t,), "float32", "1", "intensity of 65535"),
        "thickness_angstrom": spec(("thickness",), (t,), "float32", "Å", "thickness"),
        "probe_code": spec(q, (n, n), "uint16", "1", "vacuum probe"),
        "probe_scale": spec((), (), "float32", "1", "intensity of 65535 in the probe"),
        "truth": ArraySpec(
            dims=(*_LEAD, "reflection", "column"),
            shape=(*lead, recipe.reflections, len(COLUMNS)),
            dtype="float32",
            chunks=(1, 1, recipe.reflections, len(COLUMNS)),
            shards=(*own, recipe.reflections, len(COLUMNS)),
            attrs={"units": ", ".join(COLUMNS), "long_name": "truth"},
        ),
        "parameter": spec(
            ("quantity",), (len(PARAMETERS),), "float64", ", ".join(PARAMETERS), "drawn"
        ),
    }


def _fingerprint(recipe: LibraryRecipe, engine: str) -> dict[str, Any]:
    """Return all that the bytes depend on."""
    cifs = {Path(c).name: sha256(Path(c).read_bytes()).hexdigest() for c in recipe.cifs}
    return {
        "kind": "library",
        "recipe": recipe.to_dict(),
        "crystals": table_digest(),
        "cifs": cifs,
        "engine": engine,
    }


def _provenance(crystals: tuple[Crystal, ...]) -> dict[str, Any]:
    """Return what made it: versions, and the crystals by number."""
    versions = {"python": platform.python_version(), "machine": platform.machine()}
    for name in ("fcunet-dask", "numpy", "scipy", "zarr", "gemmi"):
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    names = [f"{c.source}:{c.reference}" for c in crystals]
    return {"versions": versions, "crystals": names}
