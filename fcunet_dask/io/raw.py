"""What a reader hands over, and how it becomes a scan with four axes."""

import math
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from fcunet_dask._source import BlockSource, ScanSource
from fcunet_dask.calibration import Calibration
from fcunet_dask.errors import ReaderError
from fcunet_dask.io.units import Axis
from fcunet_dask.types import Array

BLOCK_BYTES: Final = 32 * 2**20

Pair = tuple[int, int]
Coords = dict[str, tuple[Array, str]]
"""Coordinates and their units, by the names of the axes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawScan:
    """One array of patterns as a file has it; none of them is read.

    Parameters
    ----------
    source : BlockSource
        Reads the array, in the axes of the file.
    shape : tuple of int
        Of the array; the last two axes are those of the detector.
    dtype : numpy.dtype
        Of the array, in the byte order of the file.
    reader : str
        Name of the format.
    dataset : str
        Which array of the file, where it holds several.
    chunks : tuple of int or None
        What the file stores at a time.
    axes : tuple of Axis
        As many as `shape`, or none.
    known : Calibration
        From the metadata of the file.
    scan_shape : tuple of int or None
        From the metadata of the file, where its frames are in one row.
    probe, mask : numpy.ndarray or None
        (q_y, q_x).
    coords : Coords
        As the native store has them.
    attrs : dict
        Plain JSON to keep with the scan.
    digest : str or None
        Of the content, where the file tells.
    """

    source: BlockSource
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    reader: str
    dataset: str = ""
    chunks: tuple[int, ...] | None = None
    axes: tuple[Axis, ...] = ()
    known: Calibration = field(default_factory=Calibration)
    scan_shape: Pair | None = None
    probe: Array | None = None
    mask: Array | None = None
    coords: Coords = field(default_factory=dict)
    attrs: dict[str, Any] = field(default_factory=dict)
    digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where the axes of a scan are in a file.

    Parameters
    ----------
    axes : tuple of int
        Axes of the file that are (scan_y, scan_x, q_y, q_x), (frame, q_y, q_x) or
        (q_y, q_x).
    shape : tuple of int
        Of the scan.
    chunk : tuple of int
        Rows and columns of the scan that the file stores at a time.
    """

    axes: tuple[int, ...]
    shape: tuple[int, int, int, int]
    chunk: Pair


def arrange(raw: RawScan, scan_shape: Pair | None) -> Layout:
    """Find the four axes of a scan among those of the file.

    Parameters
    ----------
    raw : RawScan
        With two axes (one pattern) or more; beyond four, the others have length one.
    scan_shape : tuple of int or None
        Rows and columns into which a row of frames is wrapped.

    Returns
    -------
    Layout
        Of the scan.

    Raises
    ------
    ReaderError
        If there are more axes than four, or the frames do not fill `scan_shape`.
    """
    ndim = len(raw.shape)
    scan_axes = _scan_axes(raw)
    lengths = tuple(raw.shape[axis] for axis in scan_axes)
    wanted = scan_shape or (raw.scan_shape if len(lengths) == 1 else None)
    if wanted is not None and len(lengths) == 2 and 1 in lengths and wanted != lengths:
        scan_axes = (scan_axes[int(np.argmax(lengths))],)
        lengths = (max(lengths),)
    scan = wanted or {0: (1, 1), 1: (1, *lengths), 2: lengths}[len(lengths)]
    if math.prod(scan) != math.prod(lengths) or (len(lengths) == 2 and scan != lengths):
        msg = (
            f"{raw.source.path}: the file holds a scan of {lengths}, which is not "
            f"scan_shape={scan}"
        )
        raise ReaderError(msg)
    chunk = tuple((raw.chunks or raw.shape)[axis] for axis in scan_axes)
    if raw.chunks is None or len(chunk) == 0:
        chunk = (1, 1)
    elif len(chunk) == 1:
        chunk = (1, min(chunk[0], scan[1]))
    return Layout(
        axes=(*scan_axes, ndim - 2, ndim - 1),
        shape=(scan[0], scan[1], raw.shape[-2], raw.shape[-1]),
        chunk=(chunk[0], chunk[1]),
    )


def _scan_axes(raw: RawScan) -> tuple[int, ...]:
    axes = list(range(len(raw.shape) - 2))
    for axis in reversed(axes.copy()):
        if len(axes) > 2 and raw.shape[axis] == 1:
            axes.remove(axis)
    if len(raw.shape) < 2 or len(axes) > 2 or 0 in raw.shape:
        msg = (
            f"{raw.source.path}: an array of shape {raw.shape} is no scan; needed: "
            "(scan_y, scan_x, q_y, q_x), (frame, q_y, q_x) or (q_y, q_x)"
        )
        raise ReaderError(msg)
    return tuple(axes)


def scan_source(raw: RawScan, layout: Layout) -> tuple[BlockSource, np.dtype[Any]]:
    """Return a source of the scan in four axes, and its dtype in native byte order.

    Raises
    ------
    ReaderError
        If the values are no real numbers.
    """
    dtype = _native(raw)
    if layout.shape == raw.shape and dtype == raw.dtype:
        return raw.source, dtype
    width = layout.shape[1]
    source = ScanSource(raw.source, layout.axes, len(raw.shape), width, dtype.str)
    return source, dtype


def _native(raw: RawScan) -> np.dtype[Any]:
    if raw.dtype.kind == "b":
        return np.dtype(np.uint8)
    if raw.dtype.kind == "f":
        return np.dtype(np.float32)
    if raw.dtype.kind in "iu":
        return raw.dtype.newbyteorder("=")
    msg = (
        f"{raw.source.path}: values of type {raw.dtype} are no counts; needed: "
        "integers or real numbers"
    )
    raise ReaderError(msg)


def choose_blocks(layout: Layout, itemsize: int) -> Pair:
    """Return rows and columns of a block: whole chunks of the file, about 32 MiB.

    Parameters
    ----------
    layout : Layout
        Of the scan.
    itemsize : int
        Bytes of a pixel.

    Returns
    -------
    tuple of int
        At least one chunk of the file, even where that is more than 32 MiB.
    """
    rows, columns, *q = layout.shape
    chunk_y, chunk_x = layout.chunk
    n = max(1, BLOCK_BYTES // (math.prod(q) * itemsize * chunk_y * chunk_x))
    across = math.ceil(columns / chunk_x)
    if n < across:
        return min(chunk_y, rows), min(n * chunk_x, columns)
    return min(n // across * chunk_y, rows), columns
