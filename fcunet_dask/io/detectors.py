"""Files of cameras and microscopes, through RosettaSciIO.

RosettaSciIO is GPL-3: an optional extra, imported where it is used and nowhere else.
"""

import importlib
import inspect
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, cast
from xml.etree import ElementTree

import dask
import dask.array as da
import h5py
import numpy as np

from fcunet_dask._source import RawSource, Slices, reading, stamp
from fcunet_dask.errors import MissingDependencyError, ReaderError
from fcunet_dask.io.outside import refuse_links
from fcunet_dask.io.raw import RawScan
from fcunet_dask.io.units import Axis, metadata
from fcunet_dask.types import Array

SUFFIXES: Final = {
    ".dm3": "digitalmicrograph",
    ".dm4": "digitalmicrograph",
    ".mib": "quantumdetector",
    ".xml": "empad",
    ".blo": "blockfile",
    ".tvips": "tvips",
    ".ser": "tia",
    ".emi": "tia",
    ".mrc": "mrc",
    ".app5": "topspin",
    ".prz": "pantarhei",
    ".rpl": "ripple",
    ".emd": "emd",
    ".tif": "tiff",
    ".tiff": "tiff",
}
"""Module of RosettaSciIO by suffix."""

_COMPRESSED: Final = (".app5", ".emd", ".prz", ".tif", ".tiff")
_CHUNK_BYTES: Final = 4 * 2**20
_EMPAD_ROWS: Final = 130


def read_detector(path: Path, dataset: str | None) -> RawScan:
    """Open a file by RosettaSciIO: its only scan, or the one with the most axes.

    Parameters
    ----------
    path : Path
        Of a suffix in `SUFFIXES`.
    dataset : str, optional
        Number of the signal in the file, from 0.

    Returns
    -------
    RawScan
        Read through RosettaSciIO wherever a block is needed.

    Raises
    ------
    ReaderError
        If the file is damaged, is an image, is refused by RosettaSciIO, or is an HDF5
        file that names others.
    MissingDependencyError
        If RosettaSciIO is not installed.
    """
    if h5py.is_hdf5(path):
        refuse_links(path)
    signals = _signals(str(path), stamp(str(path)))
    index = _chosen(path, dataset, signals)
    signal = signals[index]
    data = signal["data"]
    if path.suffix.lower() == ".xml":
        return _empad(path, signal)
    _refuse_short(path, data)
    return RawScan(
        source=DetectorSource(str(path), index),
        shape=data.shape,
        dtype=data.dtype,
        reader=f"rosettasciio.{SUFFIXES[path.suffix.lower()]}",
        dataset=str(index) if len(signals) > 1 else "",
        chunks=getattr(data, "chunksize", None),
        axes=_axes(signal),
        known=metadata(_microscope(signal)),
    )


def _axes(signal: dict[str, Any]) -> tuple[Axis, ...]:
    return tuple(Axis.of(a.get("scale"), a.get("units")) for a in signal["axes"])


def _chosen(path: Path, dataset: str | None, signals: list[dict[str, Any]]) -> int:
    shapes = [s["data"].shape for s in signals]
    if dataset is not None and dataset in map(str, range(len(shapes))):
        return int(dataset)
    most = max((len(s) for s in shapes), default=0)
    found = [i for i, shape in enumerate(shapes) if len(shape) == most]
    if dataset is None and len(found) == 1:
        return found[0]
    listing = "; ".join(f"{i}: {shape}" for i, shape in enumerate(shapes))
    msg = f"{path} holds {len(shapes)} signals; pass dataset= the number of one: "
    raise ReaderError(msg + listing)


def _microscope(signal: dict[str, Any]) -> dict[str, Any]:
    instrument = signal["metadata"].get("Acquisition_instrument") or {}
    return dict(instrument.get("TEM") or {})


def _refuse_short(path: Path, data: Array) -> None:
    """Refuse a file that holds fewer bytes, with those beside it, than its header."""
    if path.suffix.lower() in _COMPRESSED:
        return
    stem = path.stem.removesuffix("_000")
    family = (p for p in path.parent.iterdir() if p.name.startswith(stem))
    held = sum(p.stat().st_size for p in family if p.is_file())
    if data.nbytes > held:
        msg = (
            f"{path}: its header promises {data.shape} {data.dtype}, {data.nbytes:,} "
            f"bytes, but the file holds {held:,}; it is truncated, or of another kind"
        )
        raise ReaderError(msg)


def _empad(path: Path, signal: dict[str, Any]) -> RawScan:
    """Return the scan of the raw file that an EMPAD header names.

    The last two rows of its frames are no data. The step of its detector is the
    header's angle; its ``calibrated_pixelsize``, which RosettaSciIO takes for that, is
    a fixed part of the field of view.
    """
    header = ElementTree.parse(path).getroot()
    element = header.find(".//raw_file")
    name = "" if element is None else element.get("filename", "")
    raw = path.with_name(name.replace("\\", "/").rpartition("/")[2])
    shape = signal["data"].shape
    stored = (*shape[:-2], _EMPAD_ROWS, shape[-1])
    expected = 4 * math.prod(stored)
    if not raw.is_file():
        msg = f"{path} names the file {raw.name!r}, which is not beside it; copy it too"
        raise ReaderError(msg)
    if raw.stat().st_size < expected:
        msg = (
            f"{raw} holds {raw.stat().st_size:,} bytes, {expected:,} are needed for "
            f"{shape}; it is truncated: copy it again"
        )
        raise ReaderError(msg)
    angle = header.findtext(".//calibrated_diffraction_angle")
    return RawScan(
        source=RawSource(str(raw), "<f4", stored, shape),
        shape=shape,
        dtype=np.dtype("<f4"),
        reader="rosettasciio.empad",
        axes=(*_axes(signal)[:-2], Axis.of(angle, "rad"), Axis.of(angle, "rad")),
        known=metadata({"beam_energy": header.findtext(".//source.get_voltage")}),
    )


@dataclass(frozen=True, slots=True)
class DetectorSource:
    """One signal of a file, through RosettaSciIO.

    Parameters
    ----------
    path : str
        The file.
    index : int
        Of the signal.
    """

    path: str
    index: int

    def read(self, slices: Slices) -> Array:
        """Return the box `slices` of the signal."""
        with reading(self.path, slices):
            box = _signals(self.path, stamp(self.path))[self.index]["data"][slices]
            if isinstance(box, da.Array):
                box = box.compute(scheduler="synchronous")
            return np.array(box)


@lru_cache(16)
def _signals(path: str, changed: int) -> list[dict[str, Any]]:
    """Return the signals of a file, their data lazy wherever the format allows."""
    del changed  # part of the key
    read = _file_reader(Path(path))
    try:
        with _quiet(), dask.config.set({"array.chunk-size": _CHUNK_BYTES}):
            signals = read(path, lazy=True)
            if len(signals) == 1 and "chunks" in inspect.signature(read).parameters:
                signals = _in_whole_patterns(path, read, signals)
    except MemoryError:
        raise
    except Exception as error:
        msg = f"{path}: RosettaSciIO refuses it ({type(error).__name__}: {error})"
        raise ReaderError(msg) from error
    return cast(list[dict[str, Any]], signals)


@contextmanager
def _quiet() -> Iterator[None]:
    """Be silent about files that RosettaSciIO leaves to the garbage collector."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        yield


def _in_whole_patterns(
    path: str, read: Callable[..., Any], signals: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    chunks = _chunks(signals[0]["data"])
    for wanted in (chunks, (1, *chunks), (1, 1, *chunks)):
        # some formats count axes of length one, which they then drop
        with suppress(ValueError):
            return cast(list[dict[str, Any]], read(path, lazy=True, chunks=wanted))
    return signals


def _file_reader(path: Path) -> Callable[..., Any]:
    name = SUFFIXES[path.suffix.lower()]
    try:
        module = importlib.import_module(f"rsciio.{name}")
    except ImportError as error:
        msg = f"{path} needs RosettaSciIO ({error}); pip install 'fcunet-dask[io]'"
        raise MissingDependencyError(msg) from error
    return cast(Callable[..., Any], module.file_reader)


def _chunks(data: Array) -> tuple[int, ...]:
    """Return chunks of whole patterns, of about 4 MiB, along the last scan axis."""
    *scan, rows, columns = data.shape
    if not scan:
        return (rows, columns)
    n = max(1, _CHUNK_BYTES // (rows * columns * data.dtype.itemsize))
    return (*(1 for _ in scan[:-1]), min(n, scan[-1]), rows, columns)
