"""A scan as a run takes it: opened, calibrated, in blocks."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr

from fcunet_dask._axes import calibration_of, detector_axes, rescaled
from fcunet_dask._source_guard import refuse_replaced
from fcunet_dask.calibration import Calibration
from fcunet_dask.errors import ParameterError
from fcunet_dask.io import open_scan
from fcunet_dask.pipeline.settings import Settings
from fcunet_dask.schema import PATTERN, SCAN, Q, validate

BLOCK: Final = 16
"""Rows and columns of a block of a scan in memory."""


def prepare_scan(scan: str | Path | xr.Dataset, settings: Settings) -> xr.Dataset:
    """Return what `run` computes on, and `plan` speaks of; patterns are not read.

    Parameters
    ----------
    scan : str, Path or xarray.Dataset
        A file that `open_scan` reads, or a scan.
    settings : Settings
        What is given in their calibration replaces the scan's.

    Returns
    -------
    xarray.Dataset
        With ``pattern`` (scan_y, scan_x, q_y, q_x), in blocks.

    Raises
    ------
    ReaderError, SchemaError, ParameterError
        If it is no scan, or no longer the file that was opened, its pixels are not
        square, or a region of the settings holds no position of it.
    """
    if not isinstance(scan, xr.Dataset):
        _refuse_array(scan)
        scan = open_scan(scan, calibration=settings.calibration)
    elif settings.calibration is not None:
        scan = _recalibrated(validate(scan, PATTERN), settings.calibration)
    validate(scan, PATTERN)
    refuse_replaced(scan[PATTERN.name].data)
    calibration = calibration_of(scan)
    detector_axes(scan)
    scan = scan.assign_attrs(calibration=calibration.to_dict())
    _check_regions(scan, settings)
    if scan[PATTERN.name].chunks is None:
        scan = scan.chunk(dict.fromkeys(SCAN, BLOCK))
    return scan


def _refuse_array(scan: Any) -> None:
    if hasattr(scan, "dtype"):
        msg = (
            f"a scan is a path or an xarray.Dataset, got {type(scan).__name__}: pass "
            f"xarray.Dataset({{'pattern': ({(*SCAN, *Q)}, array)}})"
        )
        raise ParameterError(msg)


def _check_regions(scan: xr.Dataset, settings: Settings) -> None:
    """Refuse regions without a position before any work."""
    positions = np.zeros(scan[PATTERN.name].shape[:2])
    for name in ("reference", "vacuum_region"):
        region = getattr(settings, name)
        if region is not None and not positions[region].size:
            msg = f"{name} {region} holds no position of {positions.shape}"
            raise ParameterError(msg)


def _recalibrated(scan: xr.Dataset, calibration: Calibration) -> xr.Dataset:
    """Lay what is given of a calibration over that of the scan, and its axes."""
    known = Calibration.from_dict(scan.attrs.get("calibration", {}))
    out = scan.assign_attrs(calibration=calibration.over(known).to_dict())
    for names, step, units, regular in (
        (SCAN, calibration.scan_step, calibration.scan_units, calibration.scan_axis),
        (Q, calibration.q_step, calibration.q_units, calibration.q_axis),
    ):
        if step is None:
            continue
        for name in names:
            axis = regular(scan.sizes[name])
            if name in scan.coords:
                axis = rescaled(np.asarray(scan[name], float), step)
            out = out.assign_coords({name: (name, axis, {"units": units})})
    return out
