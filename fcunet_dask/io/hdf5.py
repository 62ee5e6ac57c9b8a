"""HDF5 files: py4DSTEM and other EMD, HyperSpy, Dectris, NeXus, and any other."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np

from fcunet_dask._source import (
    BlockSource,
    H5Source,
    Slices,
    kept_open_h5,
    open_h5,
    reading,
    stamp,
)
from fcunet_dask.calibration import Calibration
from fcunet_dask.errors import MissingDependencyError, ReaderError
from fcunet_dask.io.outside import own
from fcunet_dask.io.raw import RawScan
from fcunet_dask.io.units import Axis, kilovolt, metadata
from fcunet_dask.types import Array

_DECTRIS: Final = "entry/data"
_FRAMES: Final = re.compile(r"data(_\d{6})?")


def read_hdf5(path: Path, dataset: str | None) -> RawScan:
    """Open the scan of an HDF5 file, and what the file says of its pixels.

    Raises
    ------
    ReaderError
        If the file is damaged, or no dataset, or more than one, may be the scan.
    MissingDependencyError
        If the data is compressed by a filter that is not installed.
    """
    try:
        with open_h5(path) as file:
            if dataset is None and _is_dectris(file):
                return _dectris(path, file)
            name = _chosen(path, file, dataset)
            return _raw_scan(path, own(path, file[name]))
    except ReaderError:
        raise
    except (OSError, KeyError, RuntimeError) as error:
        msg = f"{path}: no whole HDF5 file ({error}); copy it again"
        raise ReaderError(msg) from error


def _raw_scan(path: Path, data: h5py.Dataset) -> RawScan:
    _refuse_missing_filter(path, data)
    attrs = _metadata_of(path, data)
    return RawScan(
        source=H5Source(str(path), data.name.strip("/")),
        shape=data.shape,
        dtype=data.dtype,
        reader="hdf5",
        dataset=data.name.strip("/"),
        chunks=data.chunks,
        axes=_axes(path, data),
        known=attrs,
    )


# --- which dataset -------------------------------------------------------------------
def _chosen(path: Path, file: h5py.File, dataset: str | None) -> str:
    arrays = _arrays(file)
    if dataset is not None:
        if dataset.strip("/") in arrays:
            return dataset
        msg = f"{path} has no dataset {dataset!r}; it has {_listing(arrays)}"
        raise ReaderError(msg)
    scans = [n for n, d in arrays.items() if d.ndim > 3 and min(d.shape[-2:]) > 1]
    cubes = [n for n in scans if n.endswith("datacube/data")]
    patterns = [n for n in arrays if re.fullmatch(r"Experiments/[^/]+/data", n)]
    for found in (cubes, scans, patterns):
        if len(found) == 1:
            if found is scans or _plausible(arrays[found[0]]):
                return found[0]
        elif found:
            break
    several = {n: arrays[n] for n in scans}
    what = f"{len(several)} datasets have" if several else "no dataset has"
    listing = _listing(several or arrays)
    msg = f"{path}: {what} four axes; pass dataset= one of {listing}"
    raise ReaderError(msg)


def _plausible(data: h5py.Dataset) -> bool:
    """Whether the last two axes are those of a detector, as far as HyperSpy tells."""
    flags = [
        bool(data.parent[f"axis-{i}"].attrs.get("navigate"))
        for i in range(data.ndim)
        if f"axis-{i}" in data.parent
    ]
    return data.ndim > 1 and not any(flags[-2:])


def _arrays(file: h5py.File) -> dict[str, h5py.Dataset]:
    found: dict[str, h5py.Dataset] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim > 1 and item.dtype.kind != "O":
            found[name] = item

    file.visititems(visit)
    return found


def _listing(arrays: dict[str, h5py.Dataset]) -> str:
    shown = [f"{n} {d.shape}" for n, d in sorted(arrays.items())][:12]
    return "; ".join(shown) or "(none: it has no array with two axes or more)"


def _refuse_missing_filter(path: Path, data: h5py.Dataset) -> None:
    properties = data.id.get_create_plist()
    for index in range(properties.get_nfilters()):
        code, _, _, name = properties.get_filter(index)
        if not h5py.h5z.filter_avail(code):
            msg = (
                f"{path}: {data.name} is compressed by filter {code} "
                f"({name.decode() or 'unnamed'}); pip install 'fcunet-dask[io]'"
            )
            raise MissingDependencyError(msg)


# --- what the file says of its pixels ------------------------------------------------
def _axes(path: Path, data: h5py.Dataset) -> tuple[Axis, ...]:
    group = data.parent
    for first in (0, 1):
        dims = [f"dim{i + first}" for i in range(data.ndim)]
        if all(isinstance(group.get(d), h5py.Dataset) for d in dims):
            return tuple(_dim(own(path, group[d])) for d in dims)
    steps = [group.get(f"axis-{i}") for i in range(data.ndim)]
    if all(isinstance(s, h5py.Group) for s in steps):
        known = [own(path, s).attrs for s in steps]
        return tuple(Axis.of(k.get("scale"), k.get("units")) for k in known)
    return ()


def _dim(values: h5py.Dataset) -> Axis:
    """Return the axis that EMD gives as the values at its first points, or at all."""
    if values.dtype.kind not in "fiu" or values.size < 2:
        return Axis()
    return Axis.of(values[1] - values[0], values.attrs.get("units"))


def _metadata_of(path: Path, data: h5py.Dataset) -> Calibration:
    for folder, read in (
        ("/metadatabundle/calibration", _py4dstem),
        ("/metadata/Acquisition_instrument/TEM", _hyperspy),
    ):
        root: h5py.Group = data.parent
        while True:
            group = root.get(folder.strip("/"))
            if isinstance(group, h5py.Group):
                return read(path, own(path, group))
            if root.name == "/":
                break
            root = root.parent
    return Calibration()


def _hyperspy(path: Path, group: h5py.Group) -> Calibration:
    del path  # attributes lie where their group does
    return metadata(dict(group.attrs))


def _py4dstem(path: Path, group: h5py.Group) -> Calibration:
    """Read py4DSTEM's calibration; its x is our y, so its angles change sign."""
    values = {
        name: own(path, item)[()]
        for name, item in group.items()
        if isinstance(item, h5py.Dataset)
    }
    q = Axis.of(values.get("Q_pixel_size"), values.get("Q_pixel_units"))
    r = Axis.of(values.get("R_pixel_size"), values.get("R_pixel_units"))
    if bool(values.get("QR_flip", False)):
        msg = (
            f"{path}: py4DSTEM notes that the detector is transposed "
            "(QR_flip); transpose q_y and q_x before strain is computed, and save anew"
        )
        raise ReaderError(msg)
    rotation = values.get("QR_rotation_degrees")
    if rotation is None:
        rotation = math.degrees(Axis.of(values.get("QR_rotation"), "").scale)
    return Calibration(
        q_step=q.inverse_angstrom(None),
        scan_step=r.nm,
        scan_rotation=-Axis.of(rotation, "").scale,
    )


# --- Dectris: frames in a row of files, named by a master file -----------------------
def _is_dectris(file: h5py.File) -> bool:
    group = file.get(_DECTRIS)
    return isinstance(group, h5py.Group) and any(map(_FRAMES.fullmatch, group))


def _dectris(path: Path, file: h5py.File) -> RawScan:
    parts = _parts(path, file)
    for part in parts:
        _refuse_missing_filter(path, part)
    shape = (sum(len(p) for p in parts), *parts[0].shape[1:])
    source: BlockSource = DectrisSource(str(path))
    detector = _get(path, file, "entry/instrument/detector/detectorSpecific")
    bad = detector("pixel_mask")
    energy = detector("photon_energy")
    scan_shape, voltage = _stem_metadata(path)
    return RawScan(
        source=source,
        shape=shape,
        dtype=parts[0].dtype,
        reader="dectris",
        dataset=_DECTRIS,
        chunks=parts[0].chunks,
        known=Calibration(voltage=voltage or kilovolt(energy)),
        scan_shape=scan_shape if math.prod(scan_shape or ()) == shape[0] else None,
        mask=_good(bad, shape[1:]),
    )


def _good(bad: Array | None, shape: tuple[int, ...]) -> Array | None:
    """Return where pixels measure; a binned pixel does where all of its pixels do."""
    if bad is None or any(n % m for n, m in zip(bad.shape, shape, strict=True)):
        return None
    rows, columns = (n // m for n, m in zip(bad.shape, shape, strict=True))
    bins = bad.reshape(shape[0], rows, shape[1], columns)
    return np.asarray((bins == 0).all(axis=(1, 3)))


def _get(path: Path, file: h5py.File, folder: str) -> Callable[[str], Any]:
    group = file.get(folder, {})
    return lambda name: own(path, group[name])[()] if name in group else None


def _parts(path: Path, file: h5py.File) -> list[h5py.Dataset]:
    group = file[_DECTRIS]
    parts = []
    for name in sorted(filter(_FRAMES.fullmatch, group)):
        if name not in group:
            other = group.get(name, getlink=True).filename
            msg = f"{path} names the file {other}, which is not beside it; copy it too"
            raise ReaderError(msg)
        parts.append(own(path, group[name]))
    return parts


def _stem_metadata(path: Path) -> tuple[tuple[int, int] | None, float | None]:
    """Return scan shape and voltage (kV) from the file beside the master file."""
    beside = path.with_name(path.name.replace("_master", ""))
    if beside == path or not beside.exists():
        return None, None
    with open_h5(beside) as file:
        group = file.get("STEM Metadata")
        if group is None:
            return None, None
        attrs = {name: np.ravel(value)[0] for name, value in group.attrs.items()}
    rows, columns = (int(attrs.get(f"NumPixels{axis}", 0)) for axis in "YX")
    return (rows, columns), kilovolt(attrs.get("High Tension"))


@dataclass(frozen=True, slots=True)
class DectrisSource:
    """The frames of a Dectris master file, across the files that it names."""

    path: str

    def read(self, slices: Slices) -> Array:
        """Return the box `slices` of (frame, q_y, q_x)."""
        with reading(self.path, slices):
            frames, *q = slices
            found, start = [], 0
            for part in _open_parts(self.path, stamp(self.path)):
                low = max(frames.start - start, 0)
                high = min(frames.stop - start, len(part))
                if low < high:
                    found.append(part[(slice(low, high), *q)])
                start += len(part)
            return np.concatenate(found)


@lru_cache(16)
def _open_parts(path: str, changed: int) -> list[h5py.Dataset]:
    return _parts(Path(path), kept_open_h5(path, changed))
