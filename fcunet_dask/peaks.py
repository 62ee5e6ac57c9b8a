"""Bragg vectors: the disks of every pattern, and their map over the whole scan."""

from dataclasses import dataclass
from typing import Any, Protocol

import dask.array as da
import numpy as np
import xarray as xr

from fcunet_dask._axes import calibration_of, detector_axes
from fcunet_dask._blockwise import map_patterns
from fcunet_dask.errors import ParameterError
from fcunet_dask.kernels.basis import bragg_histogram
from fcunet_dask.schema import (
    BRAGG_COVARIANCE,
    BRAGG_INTENSITY,
    BRAGG_PROBABILITY,
    BRAGG_Q,
    BRAGG_SCORE,
    BRAGG_STRUCTURE_FACTOR,
    BRAGG_VARIABLES,
    COMPONENT,
    COMPONENTS,
    PAIR,
    PAIRS,
    PATTERN,
    PATTERN_STATUS,
    SCAN,
    Q,
    annotate,
    q_units,
    validate,
)
from fcunet_dask.types import Array


class _Peaks(Protocol):
    position: Array
    covariance: Array
    intensity: Array
    score: Array
    structure_factor: Array
    probability: Array
    status: Array


class Detector(Protocol):
    """What this stage asks of a detector (`fcunet_dask.model.DiskDetector`)."""

    @property
    def max_peaks(self) -> int:
        """Length of the peak dimension."""

    def __call__(self, patterns: Array) -> Any:
        """Patterns (n, rows, columns) → peaks, px."""


@dataclass(frozen=True)
class BlockPeaks:
    """The work on one block: patterns → Bragg vectors, in the units of the scan.

    Parameters
    ----------
    detector : Detector
        Finds disks, px.
    first, step : (float, float)
        Coordinates of the first pixel and distance of pixels, y and x.
    """

    detector: Detector
    first: tuple[float, float]
    step: tuple[float, float]

    def __call__(self, block: Array) -> dict[str, Array]:
        """Patterns (rows, columns, q_y, q_x) → variables (rows, columns, ...)."""
        scan = block.shape[:2]
        peaks: _Peaks = self.detector(block.reshape(-1, *block.shape[2:]))
        step = np.asarray(self.step)
        pairs = np.array([step[0] ** 2, step[0] * step[1], step[1] ** 2])
        values = {
            BRAGG_Q.name: peaks.position.astype(float) * step + self.first,
            BRAGG_COVARIANCE.name: peaks.covariance * pairs,
            BRAGG_INTENSITY.name: peaks.intensity,
            BRAGG_SCORE.name: peaks.score,
            BRAGG_STRUCTURE_FACTOR.name: peaks.structure_factor,
            BRAGG_PROBABILITY.name: peaks.probability,
            PATTERN_STATUS.name: peaks.status,
        }
        return {
            name: value.astype(np.float32).reshape(*scan, *value.shape[1:])
            for name, value in values.items()
        }


def block_peaks(scan: xr.Dataset, detector: Detector) -> BlockPeaks:
    """Return the work on one block of `scan`.

    Raises
    ------
    SchemaError
        If `scan` lacks ``pattern``, its q coordinates are not evenly spaced, or its pixels
        are not square.
    ParameterError
        If `detector` is none.
    """
    validate(scan, PATTERN)
    if not hasattr(detector, "max_peaks"):
        msg = f"detector is {detector!r:.60}: pass load_detector(…, probe)"
        raise ParameterError(msg)
    first, step = detector_axes(scan)
    return BlockPeaks(detector, first, step)


def peak_shapes(max_peaks: int) -> dict[str, tuple[int, ...]]:
    """Shape of each Bragg variable behind the scan's dimensions."""
    return {
        BRAGG_Q.name: (max_peaks, 2),
        BRAGG_COVARIANCE.name: (max_peaks, 3),
        BRAGG_INTENSITY.name: (max_peaks,),
        BRAGG_SCORE.name: (max_peaks,),
        BRAGG_STRUCTURE_FACTOR.name: (max_peaks,),
        BRAGG_PROBABILITY.name: (max_peaks,),
        PATTERN_STATUS.name: (),
    }


def find_bragg_vectors(scan: xr.Dataset, detector: Detector) -> xr.Dataset:
    """Disks of every pattern, lazily: one task a block, nothing of its size is kept.

    Parameters
    ----------
    scan : xarray.Dataset
        With ``pattern`` (scan_y, scan_x, q_y, q_x), counts.
    detector : DiskDetector
        From `load_detector`, or any object with ``max_peaks`` and ``__call__``.

    Returns
    -------
    xarray.Dataset
        ``bragg_q`` (scan_y, scan_x, peak, component), ``bragg_covariance``,
        ``bragg_intensity``, ``bragg_score``, ``bragg_structure_factor``,
        ``bragg_probability`` (scan_y, scan_x, peak), brightest first, NaN = none, or
        not known to the detector; ``pattern_status`` (scan_y, scan_x), why disks are
        missing (`PatternStatus`).

    Raises
    ------
    SchemaError
        If `scan` lacks ``pattern``, its q coordinates are not evenly spaced, or its pixels
        are not square.
    """
    work = block_peaks(scan, detector)
    scan = scan.assign_attrs(calibration=calibration_of(scan).to_dict())
    arrays = map_patterns(work, scan[PATTERN.name], peak_shapes(detector.max_peaks))
    return label_peaks(arrays, scan)


def label_peaks(arrays: dict[str, Any], scan: xr.Dataset) -> xr.Dataset:
    """Give the arrays of `peak_shapes` their names, coordinates and units."""
    variables = {v.name: (v.dims, arrays[v.name]) for v in BRAGG_VARIABLES}
    coordinates: dict[str, Any] = {n: scan[n] for n in SCAN if n in scan}
    coordinates |= {COMPONENT: list(COMPONENTS), PAIR: list(PAIRS)}
    bragg = xr.Dataset(variables, coordinates)
    bragg[PATTERN_STATUS.name] = bragg[PATTERN_STATUS.name].astype(np.uint8)
    for key in ("calibration", "source"):
        if key in scan.attrs:
            bragg.attrs[key] = scan.attrs[key]
    return annotate(bragg, *BRAGG_VARIABLES, q_units=q_units(scan))


def bragg_vector_map(
    bragg: xr.Dataset,
    *,
    step: float,
    extent: float,
) -> xr.DataArray:
    """Histogram of all Bragg vectors of a scan, lazily, as a tree reduction.

    Parameters
    ----------
    bragg : xarray.Dataset
        With ``bragg_q`` and ``bragg_intensity``, relative to the origin.
    step : float
        Width of a bin, in the unit of ``bragg_q``.
    extent : float
        Largest |q_y|, |q_x| of the map.

    Returns
    -------
    xarray.DataArray
        (q_y, q_x), the sum of √intensity of the vectors.

    Raises
    ------
    ParameterError
        If `step` or `extent` is not positive.
    """
    validate(bragg, BRAGG_Q, BRAGG_INTENSITY)
    if not (step > 0 and extent > step):
        msg = f"step must be positive and extent larger, got {step!r} and {extent!r}"
        raise ParameterError(msg)
    half = int(np.ceil(extent / step))
    shape = (2 * half + 1, 2 * half + 1)
    position = bragg[BRAGG_Q.name].data
    weights = np.sqrt(bragg[BRAGG_INTENSITY.name].data)
    if isinstance(position, da.Array):
        parts = da.blockwise(
            _histogram_block,
            "ijyx",
            position,
            "ijpc",
            weights,
            "ijp",
            new_axes={"y": shape[0], "x": shape[1]},
            adjust_chunks={"i": 1, "j": 1},
            concatenate=True,
            shape=shape,
            step=step,
            dtype=np.float64,
        )
        histogram = parts.sum(axis=(0, 1), split_every=4)  # maps at once, not 16
    else:
        histogram = bragg_histogram(position, weights, shape, step)
    axis = (np.arange(shape[0]) - half) * step
    return xr.DataArray(
        histogram,
        dims=Q,
        coords={name: (name, axis, {"units": q_units(bragg)}) for name in Q},
        name="bragg_vector_map",
        attrs={"units": "√counts", "long_name": "Bragg-vector map"},
    )


def _histogram_block(
    position: Array, weight: Array, shape: tuple[int, int], step: float
) -> Array:
    return bragg_histogram(position, weight, shape, step)[None, None]


def to_table(bragg: xr.Dataset) -> dict[str, Array]:
    """Lay the Bragg vectors out as one row a disk, for those who want a table.

    Parameters
    ----------
    bragg : xarray.Dataset
        From `find_bragg_vectors`; it is computed.

    Returns
    -------
    dict of str to numpy.ndarray
        Columns ``scan_y``, ``scan_x`` (indices), ``q_y``, ``q_x``, ``intensity``,
        ``score``.
    """
    validate(bragg, BRAGG_Q, BRAGG_INTENSITY, BRAGG_SCORE)
    position = np.asarray(bragg[BRAGG_Q.name])
    found = np.isfinite(position[..., 0])
    row, column, _ = np.nonzero(found)
    return {
        "scan_y": row,
        "scan_x": column,
        "q_y": position[found][:, 0],
        "q_x": position[found][:, 1],
        "intensity": np.asarray(bragg[BRAGG_INTENSITY.name])[found],
        "score": np.asarray(bragg[BRAGG_SCORE.name])[found],
    }
