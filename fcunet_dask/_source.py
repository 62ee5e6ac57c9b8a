"""Where patterns come from: each task reads its own block, from the file itself.

A source is a few words (path, name) that travel in the graph; the file is opened where
the block is read, once per process, and opened anew when it was replaced.
"""

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Protocol, cast

import dask.array as da
import h5py
import numpy as np
import zarr
from dask.blockwise import Blockwise
from dask.tokenize import tokenize

from fcunet_dask._places import Place, Stamp, is_url, place
from fcunet_dask.errors import FcunetError, ReaderError
from fcunet_dask.types import Array

Slices = tuple[slice, ...]

_OPEN_FILES: Final = 16


class BlockSource(Protocol):
    """Reads any box of one array of a file; small enough to travel with each task."""

    @property
    def path(self) -> str:
        """The file."""
        ...

    def read(self, slices: Slices) -> Array:
        """Return the box ``slices`` (no steps; ``slice(None)`` is a whole axis)."""
        ...


_SOURCES: dict[str, BlockSource] = {}
OPENED: dict[str, int] = {}
"""Stamps of their files when they were opened."""


def remember(array: da.Array, source: BlockSource) -> None:
    """Note that `array`, whole and unchanged, can be read through `source`."""
    _SOURCES[array.name] = source
    OPENED[array.name] = stamp(source.path)


def source_of(array: Any) -> BlockSource | None:
    """Return the source of `array`; None where it is derived, in memory, or of none."""
    return unread(array).get(getattr(array, "name", ""))


def unread_paths(array: Any) -> set[str]:
    """Return the files that `array` will be read from when it is computed."""
    return {source.path for source in unread(array).values()}


def unread(array: Any) -> dict[str, BlockSource]:
    """Return the sources in the graph of `array`: what is persisted is none any more."""
    layers = getattr(getattr(array, "dask", None), "layers", {})
    return {
        name: _SOURCES[name]
        for name, layer in layers.items()
        if name in _SOURCES and isinstance(layer, Blockwise)
    }


def lazy(
    source: BlockSource,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    chunks: tuple[int, ...],
) -> da.Array:
    """Return a Dask array whose tasks read their blocks through `source`.

    Parameters
    ----------
    source : BlockSource
        Of an array of this shape and dtype.
    shape : tuple of int
        Of the array.
    dtype : numpy.dtype
        Of the array.
    chunks : tuple of int
        Shape of a block; blocks at the end may be smaller.

    Returns
    -------
    dask.array.Array
        One task per block and no open file in the graph; known to `source_of`.
    """
    token = tokenize(source, stamp(source.path), shape, str(dtype), chunks)
    array = da.from_array(
        _Sliceable(source, shape, np.dtype(dtype)),
        chunks=chunks,
        name=f"read-{token}",
        asarray=False,
        fancy=False,
        inline_array=True,
        meta=np.empty((0,) * len(shape), dtype),
    )
    remember(array, source)
    return cast(da.Array, array)


def stamp(path: str) -> int:
    """Return the time of the last change of `path`, ns; it keys every open file."""
    if is_url(path):
        return _metadata(place(path))[1].changed
    try:
        return Path(path).stat().st_mtime_ns
    except OSError as error:
        msg = f"{path}: {error.strerror or error}; was it moved or unmounted?"
        raise ReaderError(msg) from error


@dataclass(frozen=True, slots=True)
class ZarrSource:
    """An array of a Zarr group.

    Parameters
    ----------
    path : str
        Folder of the group, or its URL.
    name : str
        The array.
    strict : bool
        Whether a chunk without a file is damage (stores that this package wrote hold
        every chunk) or means the fill value, as in Zarr at large.
    """

    path: str
    name: str
    strict: bool = True

    def read(self, slices: Slices) -> Array:
        """Return the box `slices`; raise ReaderError where a chunk is damaged."""
        with reading(self.path, slices):
            folder = place(f"{self.path}/{self.name}")
            array = _open_zarr(folder.name, _metadata(folder)[1].version)
            if self.strict:
                _refuse_missing(array, folder, slices)
            return np.asarray(array[slices])


@dataclass(frozen=True, slots=True)
class H5Source:
    """A dataset of an HDF5 file, opened without a lock."""

    path: str
    name: str

    def read(self, slices: Slices) -> Array:
        """Return the box `slices`; raise ReaderError where it cannot be read."""
        with reading(self.path, slices):
            file = kept_open_h5(self.path, stamp(self.path))
            return np.asarray(file[self.name][slices])


@dataclass(frozen=True, slots=True)
class NpySource:
    """A .npy file.

    It is mapped for one read at a time: pages of a file that stays mapped count as
    memory of the process, and a worker would seem to grow by all it ever read.
    """

    path: str

    def read(self, slices: Slices) -> Array:
        """Return a copy of the box `slices`."""
        with reading(self.path, slices):
            return np.array(np.load(self.path, mmap_mode="r")[slices])


@dataclass(frozen=True, slots=True)
class RawSource:
    """A file of numbers and nothing else, mapped for one read at a time.

    Parameters
    ----------
    path : str
        The file.
    dtype : str
        As NumPy writes it, with the byte order.
    stored : tuple of int
        Shape of the whole file.
    shape : tuple of int
        Of the part that is data, from the first number on.
    """

    path: str
    dtype: str
    stored: tuple[int, ...]
    shape: tuple[int, ...]

    def read(self, slices: Slices) -> Array:
        """Return a copy of the box `slices`."""
        with reading(self.path, slices):
            raw = np.memmap(self.path, self.dtype, "r", shape=self.stored)
            return np.array(raw[bounded(slices, self.shape)])


@dataclass(frozen=True, slots=True)
class ScanSource:
    """A scan as (scan_y, scan_x, q_y, q_x), whatever the axes of the file.

    Parameters
    ----------
    base : BlockSource
        The array as the file has it.
    axes : tuple of int
        Axes of the file that are (scan_y, scan_x, q_y, q_x), (frame, q_y, q_x) or
        (q_y, q_x); the others have length one.
    ndim : int
        Number of axes of the file.
    width : int
        Length of scan_x, by which frames are wrapped into rows.
    dtype : str
        Of what is returned, in native byte order.
    """

    base: BlockSource
    axes: tuple[int, ...]
    ndim: int
    width: int
    dtype: str

    @property
    def path(self) -> str:
        """The file."""
        return self.base.path

    def read(self, slices: Slices) -> Array:
        """Return the box `slices` of the scan."""
        rows, columns, *q = slices
        scan = rows.stop - rows.start, columns.stop - columns.start
        if len(self.axes) == 4:
            block = self._box(slices)
        elif len(self.axes) == 2:
            block = self._box(tuple(q))
        elif scan[1] == self.width:
            frames = slice(rows.start * self.width, rows.stop * self.width)
            block = self._box((frames, *q))
        else:
            starts = (y * self.width for y in range(rows.start, rows.stop))
            parts = [slice(s + columns.start, s + columns.stop) for s in starts]
            block = np.concatenate([self._box((part, *q)) for part in parts])
        block = block.reshape(*scan, *block.shape[-2:])
        return np.ascontiguousarray(block, dtype=self.dtype)

    def _box(self, kept: Slices) -> Array:
        box = [slice(0, 1)] * self.ndim
        for axis, part in zip(self.axes, kept, strict=True):
            box[axis] = part
        return self.base.read(tuple(box))


@dataclass(frozen=True, slots=True)
class _Sliceable:
    """What Dask slices: it turns keys with integers and steps into boxes."""

    source: BlockSource
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, key: Any) -> Array:
        keys = key if isinstance(key, tuple) else (key,)
        keys += (slice(None),) * (self.ndim - len(keys))
        box: list[slice] = []
        rest: list[int | slice] = []
        for part, size in zip(keys, self.shape, strict=True):
            if not isinstance(part, slice):
                index = range(size)[part]
                box.append(slice(index, index + 1))
                rest.append(0)
                continue
            wanted = range(size)[part]
            low, high = min(wanted, default=0), max(wanted, default=-1)
            box.append(slice(low, high + 1))
            rest.append(slice(None, None, wanted.step))
        return self.source.read(tuple(box))[tuple(rest)]


def bounded(slices: Slices, shape: tuple[int, ...]) -> Slices:
    """Return `slices` with start and stop given, for an array of this shape."""
    bounds = (s.indices(n)[:2] for s, n in zip(slices, shape, strict=True))
    return tuple(slice(*pair) for pair in bounds)


@contextmanager
def reading(path: str, slices: Slices) -> Iterator[None]:
    """Turn whatever a library raises at a damaged file into a ReaderError."""
    try:
        yield
    except (FcunetError, MemoryError):
        raise
    except Exception as error:
        box = ", ".join(f"{s.start}:{s.stop}" for s in slices)
        msg = (
            f"{path}: [{box}] cannot be read ({type(error).__name__}: {error}); the "
            "file is damaged or incomplete: copy or convert it again"
        )
        raise ReaderError(msg) from error


def open_h5(path: str | Path) -> h5py.File:
    """Return `path` open for reading, without a lock, and with every known filter."""
    with suppress(ImportError):
        import hdf5plugin  # noqa: F401, PLC0415 - registers its filters
    try:
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        if "locking flag" not in str(error):
            raise
        # this process already holds the file open with HDF5's own locking
        return h5py.File(path, "r")


@lru_cache(_OPEN_FILES)
def kept_open_h5(path: str, changed: int) -> h5py.File:
    """Return `path` open, once per process and version of the file."""
    del changed  # part of the key
    return open_h5(path)


def _metadata(folder: Place) -> tuple[str, Stamp]:
    """Return the key of the description of a Zarr group or array, and its version."""
    for key in ("zarr.json", ".zarray", ".zgroup"):
        found = folder.stamp(key)
        if found is not None:
            return key, found
    msg = f"{folder.name}: no such Zarr group or array; was it moved or unmounted?"
    raise ReaderError(msg)


@lru_cache(_OPEN_FILES)
def _open_zarr(folder: str, version: str) -> zarr.Array[Any]:
    del version  # part of the key
    return zarr.open_array(place(folder).zarr(), mode="r")


def _refuse_missing(array: zarr.Array[Any], folder: Place, slices: Slices) -> None:
    outer = array.shards or array.chunks
    spans = (
        range(s.start // n, math.ceil(s.stop / n))
        for s, n in zip(bounded(slices, array.shape), outer, strict=True)
    )
    for index in itertools.product(*spans):
        key = array.metadata.encode_chunk_key(index)
        if not folder.size(key):
            msg = (
                f"{folder.name}: chunk {key} is missing or empty; the store is damaged: "
                "copy it again, or convert the scan again"
            )
            raise ReaderError(msg)
