"""Patterns to strain map in one call."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from threadpoolctl import threadpool_limits

from fcunet_dask._blockwise import commit_patterns
from fcunet_dask.calibration import Calibration
from fcunet_dask.errors import ParameterError
from fcunet_dask.io import open_scan
from fcunet_dask.model import DiskDetector
from fcunet_dask.peaks import block_peaks
from fcunet_dask.pipeline.analyze import analyze
from fcunet_dask.pipeline.detect import (
    Progress,
    choose_detector,
    create_store,
    describe,
    reported,
    stored_bragg,
)
from fcunet_dask.pipeline.results import open_results, write_results
from fcunet_dask.pipeline.settings import Settings
from fcunet_dask.schema import PATTERN, SCAN, Q, validate

BLOCK = 16
"""Rows and columns of a block of a scan in memory."""


def _silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""


def run(
    scan: str | Path | xr.Dataset,
    out: str | Path,
    *,
    settings: Settings | None = None,
    overwrite: bool = False,
    progress: Progress = _silent,
    **changes: Any,
) -> xr.Dataset:
    """Patterns to strain map, automatic, block by block, on the active Dask scheduler.

    Bragg vectors are committed block by block as they are found: a run that was
    interrupted goes on where it stopped, with the same settings only. Lattice and
    strain are computed from them, so another reference costs no new detection.

    Parameters
    ----------
    scan : str, Path or xarray.Dataset
        A file that `open_scan` reads, or a scan.
    out : str or Path
        Folder of the results, one Zarr group.
    settings : Settings, optional
        What should not be automatic.
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
    if not isinstance(scan, xr.Dataset):
        scan = open_scan(scan, calibration=settings.calibration)
    elif settings.calibration is not None:
        scan = _recalibrated(validate(scan, PATTERN), settings.calibration)
    validate(scan, PATTERN)
    _check_regions(scan, settings)
    if scan[PATTERN.name].chunks is None:
        scan = scan.chunk(dict.fromkeys(SCAN, BLOCK))
    with threadpool_limits(1):
        return _run(
            scan, Path(out).absolute(), settings, overwrite=overwrite, progress=progress
        )


def _fields(settings: Settings | None) -> dict[str, Any]:
    return {} if settings is None else dict(vars(settings))


def _check_regions(scan: xr.Dataset, settings: Settings) -> None:
    """Refuse regions without a position before any work."""
    positions = np.zeros(scan[PATTERN.name].shape[:2])
    for name in ("reference", "vacuum_region"):
        region = getattr(settings, name)
        if region is not None and not positions[region].size:
            msg = f"{name} {region} holds no position of {positions.shape}"
            raise ParameterError(msg)


def _recalibrated(scan: xr.Dataset, calibration: Calibration) -> xr.Dataset:
    """Lay what is given of a calibration over that of the scan."""
    given = {k: v for k, v in calibration.to_dict().items() if v}
    known = scan.attrs.get("calibration", {})
    calibration = Calibration.from_dict({**known, **given})
    shape = scan[PATTERN.name].shape
    sizes = dict(zip((*SCAN, *Q), shape, strict=True))
    axes = {
        n: (n, calibration.scan_axis(sizes[n]), {"units": calibration.scan_units})
        for n in SCAN
    }
    axes |= {
        n: (n, calibration.q_axis(sizes[n]), {"units": calibration.q_units}) for n in Q
    }
    out = scan.assign_coords(axes)
    out.attrs["calibration"] = calibration.to_dict()
    return out


def _run(
    scan: xr.Dataset,
    out: Path,
    settings: Settings,
    *,
    overwrite: bool,
    progress: Progress,
) -> xr.Dataset:
    progress("probe", 0, 1)
    probe, detector = choose_detector(scan, settings)
    progress("probe", 1, 1)
    store = create_store(scan, out, detector, settings, overwrite=overwrite)
    with store:
        provenance = _provenance(scan, probe, detector, settings)
        total = store.grid[0] * store.grid[1]
        with reported(store, total, progress):
            commit_patterns(block_peaks(scan, detector), scan[PATTERN.name], store)
        progress("disks", total, total)
        bragg = stored_bragg(out, scan)
        results, choices = analyze(bragg, probe, settings)
        provenance |= choices
        progress("strain", 0, 1)
        write_results(store, results, probe)
        store.finish({"provenance": provenance})
        progress("strain", 1, 1)
    return open_results(out)


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
