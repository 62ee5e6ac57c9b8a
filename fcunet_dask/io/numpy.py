"""Arrays that NumPy saved: .npy and .npz."""

import math
import threading
import zipfile
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from fcunet_dask._source import NpySource, Slices, bounded, reading, stamp
from fcunet_dask.errors import ReaderError
from fcunet_dask.io.raw import RawScan
from fcunet_dask.types import Array


def read_npy(path: Path, dataset: str | None) -> RawScan:
    """Open a .npy file, mapped into memory.

    Raises
    ------
    ReaderError
        If the file is truncated, or `dataset` is given: it holds one array.
    """
    if dataset is not None:
        msg = f"{path} holds one array and no dataset {dataset!r}"
        raise ReaderError(msg)
    try:
        array = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        msg = f"{path}: no whole array of numbers ({error})"
        raise ReaderError(msg) from error
    return RawScan(
        source=NpySource(str(path)),
        shape=array.shape,
        dtype=array.dtype,
        reader="npy",
    )


def read_npz(path: Path, dataset: str | None) -> RawScan:
    """Open an array of a .npz file: the only one with four axes or more.

    Raises
    ------
    ReaderError
        If the file is damaged, or no array, or more than one, may be the scan.
    """
    try:
        headers = _headers(path)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        msg = f"{path}: no whole .npz file ({error})"
        raise ReaderError(msg) from error
    name = dataset if dataset in headers else _only(path, dataset, headers)
    shape, dtype = headers[name]
    chunks = (1, *shape[1:]) if len(shape) > 2 else None
    source = NpzSource(str(path), name)
    return RawScan(
        source=source,
        shape=shape,
        dtype=dtype,
        reader="npz",
        dataset=name,
        chunks=chunks,
    )


Header = tuple[tuple[int, ...], np.dtype[Any]]


def _only(path: Path, dataset: str | None, headers: dict[str, Header]) -> str:
    found = {name: shape for name, (shape, _) in headers.items()}
    scans = [name for name, shape in found.items() if len(shape) > 3]
    if len(found) == 1:
        scans = list(found)
    if dataset is None and len(scans) == 1:
        return scans[0]
    what = "no array" if dataset is None else f"no array {dataset!r}"
    if dataset is None and len(scans) > 1:
        what = f"{len(scans)} arrays"
    msg = f"{path}: {what} with four axes in {found}; pass dataset= one of them"
    raise ReaderError(msg)


def _headers(path: Path) -> dict[str, Header]:
    headers = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            if member.endswith(".npy"):
                with archive.open(member) as stream:
                    headers[member.removesuffix(".npy")] = _header(stream)
    return headers


def _header(stream: Any) -> Header:
    version = np.lib.format.read_magic(stream)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        msg = f"version {version} of the .npy format is not known"
        raise ValueError(msg)
    shape, fortran, dtype = read(stream)
    if fortran and len(shape) > 1:
        msg = "an array is in Fortran order; save it anew in C order"
        raise ValueError(msg)
    return shape, dtype


@dataclass(frozen=True, slots=True)
class NpzSource:
    """An array of a .npz file, compressed or not, read as a stream.

    Whole rows read in order cost one pass over the file; a step back starts it again.
    """

    path: str
    name: str

    def read(self, slices: Slices) -> Array:
        """Return the box `slices`."""
        with reading(self.path, slices):
            member = _open(self.path, self.name, stamp(self.path))
            rows, *rest = bounded(slices, member.shape)
            return member.rows(rows)[(slice(None), *rest)].copy()


class _Member:
    """The stream of one array, with the place it has come to."""

    def __init__(self, path: str, name: str) -> None:
        self._lock = threading.Lock()
        with ExitStack() as stack:
            archive = stack.enter_context(zipfile.ZipFile(path))
            self._stream = stack.enter_context(archive.open(f"{name}.npy"))
            self.shape, self.dtype = _header(self._stream)
            self._start = self._stream.tell()
            self._open = stack.pop_all()

    def rows(self, part: slice) -> Array:
        """Return rows `part` of the first axis, whole."""
        size = math.prod(self.shape[1:]) * self.dtype.itemsize
        count = part.stop - part.start
        with self._lock:
            self._stream.seek(self._start + part.start * size)
            data = self._stream.read(count * size)
        return np.frombuffer(data, self.dtype).reshape(count, *self.shape[1:])


@lru_cache(2)
def _open(path: str, name: str, changed: int) -> _Member:
    del changed  # part of the key
    return _Member(path, name)
