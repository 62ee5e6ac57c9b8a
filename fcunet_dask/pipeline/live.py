"""A run looked at while it goes on: the strain map so far."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import xarray as xr

from fcunet_dask._commit import BlockStore, is_owned
from fcunet_dask._places import Place, failures, located, place
from fcunet_dask.errors import AnalysisError, StoreError
from fcunet_dask.kernels.surfaces import even_steps
from fcunet_dask.pipeline.analyze import analyze
from fcunet_dask.pipeline.detect import kept_probe
from fcunet_dask.pipeline.results import open_results
from fcunet_dask.pipeline.settings import Settings
from fcunet_dask.schema import BRAGG_Q, SCAN

POSITIONS: Final = 2**14
"""Most positions of a map that is not the last."""


def strain_so_far(out: str | Path, settings: Settings | None = None) -> xr.Dataset:
    """Lattice and strain of the blocks that are finished, in memory.

    Provisional: origin, basis and reference are those of the finished blocks, and large
    scans are thinned to 16,384 positions. Of a finished run, its results.

    Parameters
    ----------
    out : str or Path
        Where `run` writes.
    settings : Settings, optional
        As `run` was given them.

    Returns
    -------
    xarray.Dataset
        All variables of lattice and strain, NaN where nothing is finished, and
        ``finished`` (scan_y, scan_x), bool.

    Raises
    ------
    AnalysisError
        If there are too few disks yet.
    StoreError
        If there is no run at `out`.
    """
    results = open_results(out, partial=True)
    shape = results[BRAGG_Q.name].shape[:2]
    if "finished" not in results:
        results["finished"] = (SCAN, np.ones(shape, bool))
        return results
    step = even_steps((shape[0], shape[1]), POSITIONS)
    thin = dict(zip(SCAN, (slice(None, None, n) for n in step), strict=True))
    bragg = results.isel(thin).load()
    probe = kept_probe(located(out), resume=True, overwrite=False)
    if probe is None or not bragg["finished"].any():
        msg = f"{out}: no block is finished yet"
        raise AnalysisError(msg)
    settings = settings or Settings()
    if settings.reference is not None:
        rows, columns = (
            _thinned(part, size, n)
            for part, size, n in zip(settings.reference, shape, step, strict=True)
        )
        settings = replace(settings, reference=(rows, columns))
    found, _ = analyze(bragg.drop_vars("finished"), probe, settings)
    return found.assign(finished=bragg["finished"])


def _thinned(part: slice, size: int, step: int) -> slice:
    """Return a part of an axis of which every `step`-th is left: one, at the least."""
    start, stop, _ = part.indices(size)
    first = -(-start // step)
    return slice(first, max(-(-stop // step), first + 1))


def watch(
    out: str | Path,
    *,
    every: float = 10.0,
    settings: Settings | None = None,
    patience: float = 60.0,
) -> Iterator[xr.Dataset]:
    """Yield the strain map so far, again and again until the run has ended.

    From another process than the run's (a second notebook): a run holds its own.

    Parameters
    ----------
    out : str or Path
        Where `run` writes, or is about to.
    every : float
        Seconds between two maps.
    settings : Settings, optional
        As `run` was given them.
    patience : float
        Seconds to wait for a run that has not begun, or for somebody to go on with one
        that has ended unfinished. Of a run on another host that is not known before its
        last sign is five minutes old.

    Yields
    ------
    xarray.Dataset
        As of `strain_so_far`; the last are the results. Nothing, as long as there is
        nothing to see.

    Raises
    ------
    StoreError
        If nobody runs there for so long, or the results cannot be read, or are none.
    """
    where, alone = place(located(out)), 0.0
    while True:
        owned = _is_owned(where)  # first: an owner that ends has completed the store
        store, ended, maps, reason = None, False, None, ""
        try:
            store = BlockStore(out)
            ended = store.complete
            maps = strain_so_far(out, settings)
        except (AnalysisError, StoreError) as error:
            reason = str(error)
        if maps is not None:
            yield maps
            if ended:
                return
        elif ended and not owned:
            raise StoreError(reason)
        if not owned and alone >= patience:
            raise _nobody(store, reason, patience)
        start = time.monotonic()
        time.sleep(every)
        alone = 0.0 if owned else alone + time.monotonic() - start


def _is_owned(where: Place) -> bool:
    """Whether somebody runs there, as far as can be seen: a network may fail for once."""
    try:
        return is_owned(where)
    except failures():
        return True


def _nobody(store: BlockStore | None, reason: str, seconds: float) -> StoreError:
    """Return the error of a place where no process runs, and none was finished."""
    if store is None:
        return StoreError(
            f"{reason}, and no run has begun there for {seconds:g} s: check the name, "
            "start the run, or wait longer with patience="
        )
    total = store.grid[0] * store.grid[1]
    return StoreError(
        f"{store.location}: the run has ended unfinished, with "
        f"{total - len(store.pending())} of {total} blocks, and nobody has gone on with "
        f"it for {seconds:g} s: give the same command again, it goes on"
    )
