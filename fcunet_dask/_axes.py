"""Pixel sizes of a scan as its coordinates have them, which outlive selections."""

from dataclasses import replace

import numpy as np
import xarray as xr

from fcunet_dask.calibration import Calibration
from fcunet_dask.errors import SchemaError
from fcunet_dask.schema import PATTERN, SCAN, Q, q_units
from fcunet_dask.types import Array

_SQUARE = 0.01
"""Most by which the sides of a pixel may differ: disks are round."""
_SAME = 1e-6
"""Rounding of coordinates."""
UNITS = {SCAN: ("nm", "px"), Q: ("1/Å", "px")}
"""Of coordinates."""
_PIXEL = 0.99
"""Least step of coordinates that count pixels."""


def detector_axes(scan: xr.Dataset) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return coordinates of the first detector pixel, and distance of pixels, y and x.

    Parameters
    ----------
    scan : xarray.Dataset
        With ``pattern``; where it has no coordinates ``q_y`` and ``q_x``, they are those
        of its calibration.

    Returns
    -------
    first, step : (float, float)
        In the unit of ``q_y`` and ``q_x``; steps are negative along flipped axes.

    Raises
    ------
    SchemaError
        If coordinates are not evenly spaced, or pixels not square.
    """
    calibration = Calibration.from_dict(scan.attrs.get("calibration", {}))
    first, step = [], []
    for name in Q:
        axis = calibration.q_axis(scan.sizes[name])
        if name in scan.coords:
            axis = np.asarray(scan[name], float)
        if axis.size < 2 or not _even(np.diff(axis)):
            msg = f"coordinate {name!r} must be evenly spaced, with two pixels or more"
            raise SchemaError(msg)
        first.append(float(axis[0]))
        step.append(_step(axis))
    if not np.isclose(abs(step[0]), abs(step[1]), rtol=_SQUARE, atol=0):
        msg = (
            f"detector pixels of {abs(step[0]):g} × {abs(step[1]):g} {q_units(scan)} (q_y, "
            "q_x) are not square, so that disks are not round: bin q_y and q_x alike"
        )
        raise SchemaError(msg)
    return (first[0], first[1]), (step[0], step[1])


def calibration_of(scan: xr.Dataset) -> Calibration:
    """Return the calibration of a scan, with the steps that its coordinates have.

    A scan that was binned or thinned out has other steps than the calibration that came
    with it. Steps that coordinates do not tell are those of the calibration; where they
    differ along scan_y and scan_x, there is no ``scan_step``.

    Parameters
    ----------
    scan : xarray.Dataset
        With ``pattern``.

    Returns
    -------
    Calibration

    Raises
    ------
    SchemaError
        If coordinates are no finite numbers, or in other units than nm and 1/Å, or px.
    """
    for names, units in UNITS.items():
        for name in names:
            if name in scan.coords:
                _refuse_no_numbers(scan, name)
                _refuse_other_units(scan, name, units)
    known = Calibration.from_dict(scan.attrs.get("calibration", {}))
    q_step = known.q_step
    if q_units(scan) == "1/Å":
        q_step = _common(scan, Q, known.q_step)
    scan_step, told = known.scan_step, {_units_of(scan, name) for name in SCAN}
    if told == {"nm"} or (scan_step and "px" not in told):
        scan_step = None if _differ(scan) else _common(scan, SCAN, scan_step)
    return replace(known, q_step=q_step, scan_step=scan_step)


def rescaled(axis: Array, step: float) -> Array:
    """Coordinates of the same pixels, `step` apart: in their order, from their zero."""
    return axis * (step / abs(_step(axis))) if axis.size > 1 else axis * 0.0


def _refuse_no_numbers(scan: xr.Dataset, name: str) -> None:
    axis = np.asarray(scan[name])
    if axis.dtype.kind not in "fiu" or not np.isfinite(axis).all():
        msg = (
            f"coordinate {name!r} must be finite numbers, got {axis[:3].tolist()} …: "
            f"assign others, or count pixels, scan.drop_vars({name!r})"
        )
        raise SchemaError(msg)


def _refuse_other_units(scan: xr.Dataset, name: str, units: tuple[str, str]) -> None:
    axis = scan[name]
    unit = axis.attrs.get("units")
    if not unit and name in Q and q_units(scan) == "px" and axis.size > 1:
        step = abs(_step(np.asarray(axis, float)))
        unit = None if step > _PIXEL else f"none, and {step:g} apart"
    if unit and unit not in units:
        msg = (
            f"the units of coordinate {name!r} are {unit}: they must be {units[0]} or "
            f"{units[1]}. Scale it, scan.assign_coords({name}=({name!r}, values, "
            f"{{'units': {units[0]!r}}}))"
        )
        raise SchemaError(msg)


def _common(
    scan: xr.Dataset, names: tuple[str, ...], known: float | None
) -> float | None:
    """Distance of pixels along both axes; `known` where it is that, or not one."""
    steps = _steps(scan, names)
    if not steps or _unlike(steps) or min(steps) == 0:
        return known
    step = sum(steps) / len(steps)
    return known if known and abs(step - known) <= _SAME * known else step


def _steps(scan: xr.Dataset, names: tuple[str, ...]) -> list[float]:
    """Distances of pixels along those of the axes that have coordinates, and several."""
    return [
        abs(_step(np.asarray(scan[name], float)))
        for name in names
        if name in scan.coords and scan[PATTERN.name].sizes[name] > 1
    ]


def _unlike(steps: list[float]) -> bool:
    return max(steps) - min(steps) > _SQUARE * max(steps)


def _differ(scan: xr.Dataset) -> bool:
    """Whether rows and columns of the scan are not as far apart."""
    steps = _steps(scan, SCAN)
    return bool(steps) and _unlike(steps)


def _units_of(scan: xr.Dataset, name: str) -> str | None:
    return scan[name].attrs.get("units") if name in scan.coords else None


def _step(axis: Array) -> float:
    return float((axis[-1] - axis[0]) / (axis.size - 1))


def _even(steps: Array) -> bool:
    """Whether steps are equal, up to the rounding of single precision."""
    return bool(steps[0] != 0 and np.allclose(steps, steps.mean(), rtol=1e-3, atol=0))
