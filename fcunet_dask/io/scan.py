"""Any file to a scan in the words of `fcunet_dask.schema`, without reading patterns."""

import warnings
from dataclasses import replace
from pathlib import Path

import xarray as xr

from fcunet_dask import schema
from fcunet_dask._axes import calibration_of, rescaled
from fcunet_dask._places import located, place
from fcunet_dask._source import lazy
from fcunet_dask.calibration import Calibration
from fcunet_dask.errors import ParameterError, ReaderError
from fcunet_dask.io.raw import (
    Coords,
    Layout,
    RawScan,
    arrange,
    choose_blocks,
    scan_source,
)
from fcunet_dask.io.readers import read_raw
from fcunet_dask.io.units import calibrate


def open_scan(
    path: str | Path,
    *,
    calibration: Calibration | None = None,
    dataset: str | None = None,
    scan_shape: tuple[int, int] | None = None,
    blocks: tuple[int, int] | None = None,
) -> xr.Dataset:
    """Open a 4D-STEM scan of any known format without reading its patterns.

    Parameters
    ----------
    path : str or Path
        The native store, or the URL of one in an object store (``s3://bucket/scan.zarr``,
        extra ``s3``), a py4DSTEM, EMD, HyperSpy, Dectris, NeXus or other HDF5
        file, a .npy or .npz file, or what RosettaSciIO reads (DM3, DM4, MIB, EMPAD,
        BLO, TVIPS, MRC, Velox and more; extra ``io``).
    calibration : Calibration, optional
        Its values, where not None, win over those of the file.
    dataset : str, optional
        Which array, where a file holds several.
    scan_shape : tuple of int, optional
        Rows and columns of the scan, where a file has its frames in one row. By
        default they are one row, (1, n); a single pattern is a scan of (1, 1).
    blocks : tuple of int, optional
        Rows and columns that a task reads. By default whole shards of the native
        store, and elsewhere about 32 MiB, in whole chunks of the file. Patterns are
        never split.

    Returns
    -------
    xarray.Dataset
        ``pattern`` (scan_y, scan_x, q_y, q_x), counts, lazy, in the dtype of the file
        and native byte order (64-bit reals become float32); ``probe`` and ``mask``
        (q_y, q_x) where the file has them; coordinates scan_y and scan_x in nm, q_y
        and q_x in 1/Å, or all in px where a size is not known, falling along axes that
        the file gives a negative step; attributes ``calibration`` and ``source``.

    Raises
    ------
    ReaderError
        If the file is missing, damaged, incomplete, ambiguous or no scan; the message
        names the file, the reason and the remedy.
    CalibrationError
        If the file's pixel sizes contradict each other.
    MissingDependencyError
        If the format needs an extra that is not installed.
    ParameterError
        If `blocks` or `scan_shape` is not a pair of positive integers.

    Warns
    -----
    UserWarning
        If a file gives its detector pixels as an angle, and no voltage.

    Notes
    -----
    Values are not looked at: NaN and negative counts pass here, and are dealt with by
    the detector, which reports the patterns that it could not use.
    """
    _refuse_no_pair("blocks", blocks)
    _refuse_no_pair("scan_shape", scan_shape)
    location = located(path)
    raw = read_raw(location, dataset)
    layout = arrange(raw, scan_shape)
    known = _calibration(raw, layout, calibration)
    source, dtype = scan_source(raw, layout)
    block = blocks or choose_blocks(layout, dtype.itemsize)
    pattern = lazy(source, layout.shape, dtype, (*block, *layout.shape[2:]))
    scan = xr.Dataset({"pattern": ((*schema.SCAN, *schema.Q), pattern)})
    for name, values in (("probe", raw.probe), ("mask", raw.mask)):
        if values is not None:
            scan[name] = (schema.Q, values)
    scan.attrs = {**raw.attrs, "source": _provenance(location, raw)}
    coords = _coords(raw, layout, known) | _kept(raw.coords, calibration)
    return _labelled(scan, known, coords)


def _kept(coords: Coords, explicit: Calibration | None) -> Coords:
    """Coordinates of the store, with the steps that the caller gives."""
    given = explicit or Calibration()
    steps = dict.fromkeys(schema.SCAN, (given.scan_step, given.scan_units))
    steps |= dict.fromkeys(schema.Q, (given.q_step, given.q_units))
    kept = dict(coords)
    for name, (axis, _) in coords.items():
        step, units = steps[name]
        if step is not None:
            kept[name] = rescaled(axis, step), units
    return kept


def _coords(raw: RawScan, layout: Layout, calibration: Calibration) -> Coords:
    """Coordinates along the axes of a file, each in its direction and of its step."""
    axes = [raw.axes[axis] for axis in layout.axes] if raw.axes else []
    names = (*schema.SCAN, *schema.Q)
    if len(axes) == 3 and layout.shape[0] > 1:
        axes = axes[1:]  # a row of frames that was wrapped
    coords: Coords = {}
    for axis, name in zip(reversed(axes), reversed(names), strict=False):
        size = layout.shape[names.index(name)]
        if name in schema.Q:
            sign = 1.0 if axis.nm else axis.direction  # files write −1 nm for no size
            coords[name] = sign * calibration.q_axis(size), calibration.q_units
        else:
            own = replace(calibration, scan_step=calibration.scan_step or axis.nm)
            coords[name] = axis.direction * own.scan_axis(size), own.scan_units
    return coords


def _labelled(scan: xr.Dataset, calibration: Calibration, kept: Coords) -> xr.Dataset:
    for dims, axis, units in (
        (schema.SCAN, calibration.scan_axis, calibration.scan_units),
        (schema.Q, calibration.q_axis, calibration.q_units),
    ):
        for name in dims:
            values, unit = kept.get(name, (None, ""))
            if values is None or unit not in (units, "nm", "1/Å"):
                values, unit = axis(scan.sizes[name]), units
            scan = scan.assign_coords({name: (name, values, {"units": unit})})
    scan.attrs["calibration"] = calibration.to_dict()
    scan.attrs["calibration"] = calibration_of(scan).to_dict()
    found = [v for v in (schema.PATTERN, schema.PROBE, schema.MASK) if v.name in scan]
    return schema.annotate(scan, *found)


def _calibration(
    raw: RawScan, layout: Layout, explicit: Calibration | None
) -> Calibration:
    if not raw.axes:
        return calibrate((), (), raw.known, explicit)
    *scan, q_y, q_x = (raw.axes[axis] for axis in layout.axes)
    if explicit is None and len(scan) < 2 and (q_y.is_length and q_x.is_length):
        msg = (
            f"{raw.source.path}: pixels of {q_x.scale:g} {q_x.units} are those of an "
            "image, not of a diffraction pattern; if it is one, pass calibration="
        )
        raise ReaderError(msg)
    sizes = [raw.shape[axis] for axis in layout.axes[:-2]]
    steps = [axis for axis, size in zip(scan, sizes, strict=True) if size > 1]
    found = calibrate(steps, (q_y, q_x), raw.known, explicit)
    if found.q_step is None and q_x.is_angle:
        msg = (
            f"{raw.source.path}: pixels of {abs(q_x.scale):g} {q_x.units}, but the voltage "
            "is not known, so that scattering vectors are in px: pass "
            "calibration=Calibration(voltage=…), --voltage"
        )
        warnings.warn(msg, UserWarning, stacklevel=3)
    return found


def _provenance(location: str, raw: RawScan) -> dict[str, object]:
    """Where the patterns are from, and by what they are known again."""
    return {
        "path": location,
        "reader": raw.reader,
        "dataset": raw.dataset,
        **(_version(location) if raw.digest is None else {"digest": raw.digest}),
    }


def _version(location: str) -> dict[str, object]:
    """Size and time of a file; of a Zarr group those of its description."""
    folder = place(location)
    for key in ("zarr.json", ".zattrs", ".zgroup"):
        found = folder.stamp(key)
        if found is not None:
            return {"size": len(folder.read(key)), "mtime_ns": found.changed}
    info = Path(location).stat()
    return {"size": info.st_size, "mtime_ns": info.st_mtime_ns}


def _refuse_no_pair(name: str, pair: tuple[int, int] | None) -> None:
    if pair is not None and min(pair) < 1:
        msg = f"{name} must be two positive integers (rows, columns), got {pair!r}"
        raise ParameterError(msg)
