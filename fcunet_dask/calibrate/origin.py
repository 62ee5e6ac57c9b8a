"""Where the unscattered beam is, all over a scan."""

from collections.abc import Iterator
from typing import Any, Final

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import compute

from fcunet_dask._blockwise import map_positions
from fcunet_dask.errors import AnalysisError, ParameterError
from fcunet_dask.kernels.drift import (
    DISKS,
    drift_coefficients,
    median_plane,
    most_common,
)
from fcunet_dask.kernels.surfaces import (
    TERMS,
    direct_beam,
    even_steps,
    fit_surface,
    surface_at,
)
from fcunet_dask.schema import (
    BRAGG_INTENSITY,
    BRAGG_Q,
    COMPONENT,
    COMPONENTS,
    SCAN,
    q_units,
    validate,
)
from fcunet_dask.types import Array

_PASSES = 3
"""Of following the beam: each may reach half a disk's distance farther."""
_FOLLOWED: Final = 2**16
"""About how many patterns tell how the beam moves."""
_MOST: Final = 0.9
"""Share of brightest disks in one place from which on no other is looked for."""


def measure_origin(
    bragg: xr.Dataset,
    *,
    kind: str = "auto",
    expected: tuple[float, float] | None = None,
) -> xr.Dataset:
    """Position of the unscattered beam over the scan: a smooth surface, robustly.

    How it moves, all disks tell, from position to position (`kernels.drift`): by
    several distances of disks over the scan, if by less than half of one from each to the
    next. Which disk it is, the brightest ones do, all together, or `expected`. A surface
    through the disks nearest to that (Tukey weights) serves the positions where it is
    missing or mistaken.

    Parameters
    ----------
    bragg : xarray.Dataset
        From `find_bragg_vectors`; its brightest disks are computed.
    kind : {"auto", "constant", "plane", "parabola"}
        Of the surface; ``auto`` takes the parabola where it leaves less than 0.8 of the
        residual of the plane.
    expected : (float, float), optional
        y, x, the median over the scan, in the unit of ``bragg_q``.

    Returns
    -------
    xarray.Dataset
        ``origin`` (scan_y, scan_x, component), in the unit of ``bragg_q``, in memory;
        attributes ``kind``, ``residual``, ``std`` (of the surface) and ``measured``,
        the number of positions behind it.

    Raises
    ------
    ParameterError
        If `kind` is unknown.
    AnalysisError
        If no pattern has a disk.
    """
    validate(bragg, BRAGG_Q, BRAGG_INTENSITY)
    if kind not in (*TERMS, "auto"):
        msg = f"kind is one of {('auto', *TERMS)}, got {kind!r}"
        raise ParameterError(msg)
    position, reach = bragg[BRAGG_Q.name], 0.5 * _disk_distance(bragg)
    start = _start(position, reach, kind, expected)
    around = xr.zeros_like(position.isel(peak=0, drop=True))
    around = around.copy(data=_blocks_like(start, around))
    for _ in range(_PASSES):
        nearest = map_positions(direct_beam, [position, around], 2, reach=reach)
        measured = nearest.values
        chosen, surface, variance, residual = _surface(measured, kind)
        if np.isfinite(surface).all():
            around = around.copy(data=_blocks_like(surface, around))
    if not np.isfinite(surface).all():
        surface = start
    return xr.Dataset(
        {"origin": ((*SCAN, COMPONENT), surface, {"units": q_units(bragg)})},
        {COMPONENT: list(COMPONENTS)},
        {
            "kind": chosen,
            "residual": residual,
            "std": float(np.sqrt(np.nanmean(variance))),
            "measured": int(np.isfinite(measured[..., 0]).sum()),
        },
    )


def _blocks_like(values: Array, array: xr.DataArray) -> Any:
    """`values` in the blocks of `array`."""
    if array.chunks is None:
        return values
    return da.from_array(values, chunks=array.chunks)


def _start(
    position: xr.DataArray,
    reach: float,
    kind: str,
    expected: tuple[float, float] | None,
) -> Array:
    """Where the beam is looked for, (rows, columns, 2): as most brightest disks have it.

    A beam that does not move, and the surfaces along which disks move from position to
    position, are asked how many brightest disks they explain.
    """
    rows, columns = position.shape[:2]
    step = even_steps((rows, columns), _FOLLOWED)
    few = position.isel(
        peak=slice(0, DISKS),
        scan_y=slice(None, None, step[0]),
        scan_x=slice(None, None, step[1]),
    )
    disks, brightest = compute(few.data, position.isel(peak=0).data)
    present = np.isfinite(brightest).all(axis=-1)
    if not present.any():
        msg = "no disk in any pattern: there is no beam to calibrate the origin with"
        raise AnalysisError(msg)
    index = np.arange(0, rows, step[0]), np.arange(0, columns, step[1])
    y, x = np.arange(rows)[:, None], np.arange(columns)
    last = rows - 1, columns - 1
    best = np.broadcast_to(np.median(brightest[present], axis=0), brightest.shape)
    near = np.hypot(*np.moveaxis(brightest[present] - best[present], -1, 0)) < reach / 2
    most = int(near.sum())
    resting = kind == "constant" or most >= _MOST * present.sum()
    for drift in () if resting else _drifts(disks, index, last, kind, reach):
        surface = surface_at(drift, y, x, last)
        centre, votes = most_common((brightest - surface)[present], reach / 2)
        if votes > most:
            best, most = surface + centre, votes
    if expected is None:
        return best
    return best - np.median(best, axis=(0, 1)) + np.asarray(expected, float)


def _drifts(
    disks: Array,
    index: tuple[Array, Array],
    last: tuple[int, int],
    kind: str,
    reach: float,
) -> Iterator[Array]:
    """Coefficients of the surfaces along which the beam may move."""
    yield np.zeros((1, 2))
    for start in (None, median_plane(disks[:, :, 0], index, last)):
        for shape in ("plane", "parabola") if kind == "auto" else (kind,):
            yield drift_coefficients(
                disks, index, last, shape, reach=reach, start=start
            )


def _disk_distance(bragg: xr.Dataset) -> float:
    """Usual distance of neighbouring disks, from up to 64 patterns."""
    rows, columns = bragg[BRAGG_Q.name].shape[:2]
    part = bragg[BRAGG_Q.name].isel(
        scan_y=slice(None, None, max(1, rows // 8)),
        scan_x=slice(None, None, max(1, columns // 8)),
    )
    position = np.asarray(part).reshape(-1, part.shape[2], 2)
    away = position[:, :, None] - position[:, None]
    distance = np.hypot(away[..., 0], away[..., 1])
    distance = np.where(distance > 0, distance, np.nan)
    present = np.isfinite(distance).any(axis=2)
    if not present.any():
        return float("inf")
    return float(np.median(np.nanmin(distance[present], axis=1)))


def _surface(measured: Array, kind: str) -> tuple[str, Array, Array, float]:
    if kind != "auto":
        return (kind, *fit_surface(measured, kind))
    plane = fit_surface(measured, "plane")
    parabola = fit_surface(measured, "parabola")
    enough = np.isfinite(measured[..., 0]).sum() >= 30
    if enough and max(measured.shape[:2]) >= 3 and parabola[2] < 0.8 * plane[2]:
        return ("parabola", *parabola)
    return ("plane", *plane)
