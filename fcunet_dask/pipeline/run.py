"""Patterns to strain map in one call."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import xarray as xr

from fcunet_dask._blockwise import commit_patterns, verify_blocks
from fcunet_dask._commit import BlockStore
from fcunet_dask._computing import computing
from fcunet_dask._places import located
from fcunet_dask._source_guard import refuse_replaced, refuse_within
from fcunet_dask.model import DiskDetector
from fcunet_dask.peaks import block_peaks
from fcunet_dask.pipeline.detect import (
    Progress,
    choose_detector,
    create_store,
    kept_probe,
    make_detector,
    reported,
)
from fcunet_dask.pipeline.halving import Halving
from fcunet_dask.pipeline.identity import describe
from fcunet_dask.pipeline.maps import drop_analyses, drop_unreadable, map_strain
from fcunet_dask.pipeline.plan import check_fits
from fcunet_dask.pipeline.prepare import prepare_scan
from fcunet_dask.pipeline.results import open_results
from fcunet_dask.pipeline.settings import Settings
from fcunet_dask.schema import PATTERN


def _silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""


def run(
    scan: str | Path | xr.Dataset,
    out: str | Path,
    *,
    settings: Settings | None = None,
    resume: bool = True,
    overwrite: bool = False,
    progress: Progress = _silent,
    **changes: Any,
) -> xr.Dataset:
    """Patterns to strain map, automatic, block by block, on the active Dask scheduler.

    Bragg vectors are committed block by block as they are found: a run that was
    interrupted goes on where it stopped, with the same settings only. Lattice and
    strain are computed from them, block by block, so another reference costs no new
    detection; the results of the one before are shown until those are whole.

    Parameters
    ----------
    scan : str, Path or xarray.Dataset
        A file that `open_scan` reads, or a scan.
    out : str or Path
        Folder of the results, one Zarr group, or URL in an object store.
    settings : Settings, optional
        What should not be automatic.
    resume : bool
        Go on with a run of the same scan and settings at `out`; refuse one otherwise.
    overwrite : bool
        Delete results of another run at `out`.
    progress : callable
        Called with the stage, blocks done and blocks in all.
    **changes
        Fields of the settings.

    Returns
    -------
    xarray.Dataset
        Probe, Bragg vectors, Bragg-vector map, lattice and strain, lazily, from `out`;
        ``attrs["provenance"]`` says how each was chosen.

    Raises
    ------
    ReaderError, SchemaError, ParameterError, AnalysisError, StoreError
        Before any work where it can be known; otherwise what was finished stays.
    """
    settings = Settings(**{**_fields(settings), **changes})
    scan = prepare_scan(scan, settings)
    refuse_within(located(out), scan[PATTERN.name].data)
    check_fits(scan, out)
    with computing():
        kept = kept_probe(located(out), resume=resume, overwrite=overwrite)
        progress("probe", 0, 1)
        if kept is None:
            chosen = choose_detector(scan, settings)
        else:
            chosen = kept, make_detector(kept, settings)
        progress("probe", 1, 1)
        store = create_store(scan, located(out), chosen, settings, overwrite=overwrite)
        with store:
            _fill(store, scan, chosen, settings, progress)
    return open_results(out)


def _fields(settings: Settings | None) -> dict[str, Any]:
    return {} if settings is None else dict(vars(settings))


def _fill(
    store: BlockStore,
    scan: xr.Dataset,
    chosen: tuple[xr.Dataset, DiskDetector],
    settings: Settings,
    progress: Progress,
) -> None:
    """Both passes, each gone on with where it stopped; then the completion mark."""
    probe, detector = chosen
    _drop_damaged(store)
    with reported(store, "disks", progress):
        work = block_peaks(scan, Halving(detector))
        commit_patterns(work, scan[PATTERN.name], store)
    refuse_replaced(scan[PATTERN.name].data)  # what was read while it was
    name, choices = map_strain(store, scan, probe, settings, progress)
    before = store.summary["analysis"] if store.complete else name
    provenance = _provenance(scan, probe, detector, settings) | choices
    store.finish({"provenance": provenance, "analysis": name})
    drop_analyses(store, {name, before})


def _drop_damaged(store: BlockStore) -> None:
    """Forget what cannot be read, or is not as written, and what was made of it."""
    drop_unreadable(store)
    before = store.committed()
    verify_blocks(store)
    if store.committed() != before:
        drop_analyses(store, keep=set())


def _provenance(
    scan: xr.Dataset, probe: xr.Dataset, detector: DiskDetector, settings: Settings
) -> dict[str, Any]:
    return {
        "version": version("fcunet-dask"),
        "source": scan.attrs.get("source", {"path": "memory"}),
        "calibration": {
            "values": scan.attrs.get("calibration", {}),
            "from": "file"
            if settings.calibration is None
            else "given, over the file's",
        },
        "probe": dict(probe.attrs),
        "detector": describe(detector),
    }
