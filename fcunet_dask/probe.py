"""The probe: its image, centre, radius and edge, measured or made."""

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import xarray as xr
from scipy.ndimage import binary_opening

from fcunet_dask._axes import calibration_of
from fcunet_dask._source import source_of
from fcunet_dask.errors import AnalysisError, ParameterError
from fcunet_dask.kernels.aperture import disk_image
from fcunet_dask.kernels.camera import CameraNoise
from fcunet_dask.kernels.disk_statistics import DiskStatistics, fit_statistics
from fcunet_dask.kernels.gain import counts_per_electron, single_electron
from fcunet_dask.kernels.masks import find_bad_pixels, odd_counts
from fcunet_dask.kernels.noise import shared_gain
from fcunet_dask.kernels.probe import (
    ROUND,
    DiskShape,
    measure_disk,
    search_radius,
)
from fcunet_dask.kernels.readout import HIDDEN, dark_level, readout_noise
from fcunet_dask.kernels.saturation import (
    Saturation,
    beside_saturation,
    find_saturation,
)
from fcunet_dask.schema import MASK, PATTERN, PROBE, SCAN, Q, validate
from fcunet_dask.types import Array

_SAMPLE = 36
_STRUCTURE = 0.3
_LEAST_DISKS = 3
_MOVED, _OTHER = 1.08, 1.15
"""Ratios to the radius of a semi-angle: of a fit that begins there and has come to the end
of its reach, and of disks that are not those of the semi-angle."""
_EMPTY = 0.1
"""Share of the pixels of a probe's image that surely lie beside it."""
_SATURATED = 0.05
"""Share of a probe's pixels at the top of the range that no noise explains."""


def measure_probe(
    scan: xr.Dataset,
    find_disks: Callable[..., tuple[Array, Array]] | None = None,
    *,
    vacuum: xr.DataArray | Array | None = None,
    region: tuple[slice, slice] | None = None,
    semiangle: float | None = None,
) -> xr.Dataset:
    """Measure the probe of a scan, from the best there is to measure it with.

    In this order: `vacuum`; `region`; a ``probe`` that came with the scan; `semiangle`
    or that of the calibration, unless the disks have another radius by more than 15 %;
    else the disks of the scan themselves.

    Parameters
    ----------
    scan : xarray.Dataset
        With ``pattern`` (scan_y, scan_x, q_y, q_x), counts; up to 36 patterns are read.
    find_disks : callable, optional
        (patterns, mask, radius, camera) → pattern index (m,) and position (m, 2), px, of
        some disks, on which the probe is refined.
    vacuum : array, optional
        (..., q_y, q_x), counts: patterns without a specimen; summed.
    region : (slice, slice), optional
        Rows and columns of the scan that are vacuum; summed.
    semiangle : float, optional
        Convergence semi-angle, mrad, for a made probe (needs voltage and q_step).

    Returns
    -------
    xarray.Dataset
        ``probe`` (q_y, q_x), ``mask`` (q_y, q_x), True where the detector measures.
        Attributes, px: ``radius``, ``radius_std``, ``edge``, ``edge_std``,
        ``center`` (y, x; of a measured probe), ``center_std``; ``structure``, the
        standard deviation of the disks' fillings relative to their mean; ``gain``,
        ``readout`` and ``dark``, counts: of an electron, the noise of a pixel without any,
        and what it reads; ``saturation``, what saturated pixels read, counts, 0 = none
        is, with ``saturated_patterns`` and ``saturated_pixels``, the shares of the sample
        that are; ``patterned``, whether the aperture is not a plain disk;
        ``origin``, where all this comes from.

    Raises
    ------
    ParameterError
        If the semi-angle is given without voltage and q_step.
    AnalysisError
        If no disk is found, or the probe is saturated or does not fit into the pattern.
    """
    validate(scan, PATTERN)
    patterns, mask, camera, saturation = _seen(scan)
    image, origin = _measured_image(scan, mask, vacuum, region)
    if image is not None and camera.dark:
        image = image - np.quantile(image[mask], _EMPTY)
    shape = None if image is None else measure_disk(image, mask)
    if shape is not None and not np.isfinite(shape.radius):
        msg = f"no disk in the probe ({origin}): it has no counts"
        raise AnalysisError(msg)
    electrons = patterns / camera.gain + camera.floor
    if shape is not None:
        known = shape.radius, shape.edge, shape.radius_std, shape.edge_std
        start = _statistics(known, camera)
    else:
        radius, origin = _first_radius(scan, electrons, mask, semiangle)
        start = _unmeasured(radius, camera)
    _check_size(start.radius, patterns.shape[1:])

    sample = patterns, mask, find_disks, shape is None
    statistics = _fitted(start, *sample)
    if origin == "semiangle" and _differ(statistics.radius, start.radius, _MOVED):
        seen = search_radius(electrons, mask)
        believed = not _differ(seen, start.radius, _OTHER)
        nearer = statistics.radius if believed else seen
        statistics = _fitted(_unmeasured(nearer, camera), *sample)
        if _differ(statistics.radius, start.radius, _OTHER):
            origin = f"disks of the scan; semiangle says {start.radius:.2f} px"
    said = {"dark": camera.dark, **_saturation_attrs(saturation)}
    return _probe_dataset(scan, image, mask, shape, statistics, origin, said)


def sample_patterns(scan: xr.Dataset) -> Array:
    """Up to 36 patterns from all over the scan, (n, rows, columns)."""
    pattern = scan[PATTERN.name]
    rows, columns = pattern.shape[:2]
    side = int(np.sqrt(_SAMPLE))
    ny = min(rows, max(side, _SAMPLE // max(columns, 1)))
    nx = min(columns, max(side, _SAMPLE // max(rows, 1)))
    picks_y = np.unique(((np.arange(ny) + 0.5) * rows / ny).astype(int))
    picks_x = np.unique(((np.arange(nx) + 0.5) * columns / nx).astype(int))
    source = source_of(pattern.data)
    if source is None:
        block = pattern.isel(scan_y=picks_y, scan_x=picks_x).values
        return np.asarray(block.reshape(-1, *pattern.shape[2:]))
    whole = (slice(0, pattern.shape[2]), slice(0, pattern.shape[3]))
    found = [
        source.read((slice(y, y + 1), slice(x, x + 1), *whole))[0, 0]
        for y in picks_y.tolist()
        for x in picks_x.tolist()
    ]
    return np.stack(found)


def _seen(scan: xr.Dataset) -> tuple[Array, Array, CameraNoise, Saturation]:
    """Sample of the patterns without dark level, pixels that measure, and noise."""
    patterns = sample_patterns(scan)
    mask = np.ones(patterns.shape[1:], bool)
    if MASK.name in scan:
        mask = np.asarray(validate(scan, MASK)[MASK.name])
    fluctuates = np.ones_like(mask)
    mask, gain = _mask_and_gain(patterns, mask, fluctuates)
    saturation = find_saturation(patterns, mask)
    if saturation.level:
        fluctuates = ~beside_saturation(patterns, saturation)
        mask, gain = _mask_and_gain(patterns, mask, fluctuates)
    if patterns.dtype.kind == "f":
        patterns = np.where(np.isfinite(patterns), patterns, 0)
    dark = dark_level(patterns, mask & fluctuates)
    if dark:
        patterns = CameraNoise(dark=dark).undarkened(patterns)
        mask, gain = _mask_and_gain(patterns, mask, fluctuates)
    noisy = mask & fluctuates
    readout, beside = readout_noise(patterns, noisy, integrates=bool(dark))
    if single_electron(patterns, noisy):
        readout = 0.0
    if readout or dark:
        shared = shared_gain(patterns, noisy, readout, beside)
        hidden = readout > HIDDEN * beside
        gain = gain if hidden and not shared else max(beside, shared)
    camera = CameraNoise(gain, readout, dark, saturation.level)
    return patterns, mask, camera, saturation


def _saturation_attrs(found: Saturation) -> dict[str, float]:
    """Return what is said of saturation in the attributes of a probe."""
    return {
        "saturation": found.level,
        "saturated_patterns": found.patterns,
        "saturated_pixels": found.pixels,
    }


def _mask_and_gain(
    patterns: Array, given: Array, fluctuates: Array
) -> tuple[Array, float]:
    """Pixels that measure, and counts of an electron.

    Each needs the other: hot pixels, smooth but for themselves, look like the noise of a
    high gain. The first guess is that of the least count, under which more pixels seem
    hot than are.
    """
    positive = patterns[np.isfinite(patterns) & (patterns > 0)]
    least = float(positive.min()) if positive.size else 1.0
    good = given & fluctuates & ~find_bad_pixels(patterns, least)
    gain = counts_per_electron(patterns, good)
    return given & ~find_bad_pixels(patterns, gain), gain


def _measured_image(
    scan: xr.Dataset,
    mask: Array,
    vacuum: Any,
    region: tuple[slice, slice] | None,
) -> tuple[Array | None, str]:
    """Sum of vacuum patterns, if there are any, and where it is from."""
    if vacuum is not None:
        frames = vacuum
        if not isinstance(vacuum, xr.DataArray):
            frames = xr.DataArray(np.asarray(vacuum))
        expected = scan[PATTERN.name].shape[2:]
        if frames.shape[-2:] != expected:
            msg = f"the vacuum probe has shape {frames.shape[-2:]}, the patterns {expected}"
            raise ParameterError(msg)
        return _summed(frames, mask, "vacuum scan"), "vacuum scan"
    if region is not None:
        chosen = scan[PATTERN.name].isel(scan_y=region[0], scan_x=region[1])
        if 0 in chosen.shape:
            msg = f"the region {region} holds no position of the scan"
            raise ParameterError(msg)
        return _summed(chosen, mask, "region"), "region"
    if PROBE.name in scan:
        image = np.asarray(validate(scan, PROBE)[PROBE.name], float)
        _refuse_saturated(image, mask, "file")
        return image, "file"
    return None, ""


def _summed(frames: xr.DataArray, mask: Array, origin: str) -> Array:
    """Sum of frames (..., q_y, q_x) in one pass, none of which may be saturated."""
    over = frames.dims[:-2]
    sums = {"sum": frames.sum(over, dtype=float), "most": frames.max(over)}
    both = xr.Dataset(sums).compute()
    _refuse_saturated(both["most"].to_numpy(), mask, origin)
    return both["sum"].to_numpy()


def _refuse_saturated(brightest: Array, mask: Array, origin: str) -> None:
    """Refuse a disk that is cut off at the most that 8, 10, 12, … bits can hold.

    Its edge would seem to lie farther out than it does. Single pixels at the top, and
    those that do not measure, are not the disk's.
    """
    seen = np.where(mask, brightest, 0)
    top = float(seen.max())
    bits = np.log2(max(top, 0) + 1)
    if not (np.isfinite(bits) and bits >= 8 and bits == np.rint(bits)):
        return
    cut = int(binary_opening(seen == top, np.ones((2, 2))).sum())
    if cut > _SATURATED * (seen > 0.5 * top).sum():
        msg = (
            f"the probe ({origin}) is saturated: {cut} pixels hold {top:.0f}, the most "
            f"of {bits:.0f} bits. Record it with less dose, or drop it from the scan: "
            "the disks of the scan are then measured instead"
        )
        raise AnalysisError(msg)


def _first_radius(
    scan: xr.Dataset, patterns: Array, mask: Array, semiangle: float | None
) -> tuple[float, str]:
    calibration = calibration_of(scan)
    if semiangle is not None:
        calibration = replace(calibration, semiangle=semiangle)
        if calibration.probe_radius is None:
            msg = "a semiangle needs voltage and q_step: pass them in the calibration"
            raise ParameterError(msg)
    if calibration.probe_radius is not None:
        return calibration.probe_radius, "semiangle"
    radius = search_radius(patterns, mask)
    if not np.isfinite(radius):
        msg = (
            f"no disks found in the scan: {_nothing_found(scan)}nothing in its patterns "
            "looks like the image of a round aperture; pass a vacuum probe or a semiangle"
        )
        raise AnalysisError(msg)
    return radius, "disks of the scan"


def _nothing_found(scan: xr.Dataset) -> str:
    """Say what is wrong with the patterns of a scan, if anything obviously is."""
    pattern = scan[PATTERN.name]
    words = odd_counts(sample_patterns(scan))
    positions, pixels = pattern.shape[:2], pattern.shape[2:]
    if min(positions) > max(pixels):
        words.append(
            f"patterns have {pixels[0]} × {pixels[1]} px, at {positions[0]} × "
            f"{positions[1]} positions: if scan and detector are exchanged, "
            f"transpose the array to {', '.join((*SCAN, *Q))}"
        )
    return "".join(f"{said}; " for said in words)


def _unmeasured(radius: float, camera: CameraNoise) -> DiskStatistics:
    """Return what is expected of disks of which no more than about a radius is known."""
    nan = float("nan")
    return _statistics((radius, 0.5, nan, nan), camera)


def _statistics(
    shape: tuple[float, float, float, float], camera: CameraNoise
) -> DiskStatistics:
    """Return a radius, an edge and their errors, and nothing known of the fillings."""
    level = camera.saturation and camera.saturation - camera.dark
    return DiskStatistics(*shape, _STRUCTURE, camera.gain, camera.readout, level)


def _fitted(
    start: DiskStatistics,
    patterns: Array,
    mask: Array,
    find_disks: Callable[..., tuple[Array, Array]] | None,
    fit_shape: bool,
) -> DiskStatistics:
    """Ask the disks of the scan, beginning with `start`; which it is if they are few."""
    if find_disks is None:
        return start
    index, position = find_disks(patterns, mask, start.radius, start.camera)
    if len(index) < _LEAST_DISKS:
        return start
    return fit_statistics(patterns, mask, index, position, start, fit_shape=fit_shape)


def _differ(radius: float, other: float, ratio: float) -> bool:
    """Whether one radius is more than `ratio` times the other; never if unknown, NaN."""
    return bool(abs(np.log(radius / other)) > np.log(ratio))


def _check_size(radius: float, shape: tuple[int, ...]) -> None:
    if 2 * radius + 4 > min(shape):
        msg = (
            f"the probe's disk (radius {radius:.1f} px) does not fit into patterns of "
            f"{shape[0]} × {shape[1]} px: check semiangle, voltage and q_step"
        )
        raise AnalysisError(msg)


def _probe_dataset(
    scan: xr.Dataset,
    image: Array | None,
    mask: Array,
    shape: DiskShape | None,
    statistics: DiskStatistics,
    origin: str,
    said: dict[str, float],
) -> xr.Dataset:
    size = mask.shape
    center, center_std = (size[0] / 2 - 0.5, size[1] / 2 - 0.5), float("nan")
    patterned = False
    if shape is not None:
        center, center_std = shape.center, shape.center_std
        patterned = shape.likeness < ROUND
    if image is None:
        image = disk_image(size, center, statistics.radius, statistics.edge)
    attrs: dict[str, Any] = {
        **asdict(statistics),
        **said,
        "center": list(center),
        "center_std": center_std,
        "patterned": int(patterned),
        "origin": origin,
        "bad_pixels": int((~mask).sum()),
    }
    coordinates = {name: scan[name] for name in Q if name in scan.coords}
    return xr.Dataset({"probe": (Q, image), "mask": (Q, mask)}, coordinates, attrs)
