"""What a file format has to provide, and which formats are known."""

from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

import h5py

from fcunet_dask._places import is_url
from fcunet_dask._source import open_h5
from fcunet_dask.errors import ReaderError
from fcunet_dask.io.detectors import SUFFIXES, read_detector
from fcunet_dask.io.hdf5 import read_hdf5
from fcunet_dask.io.numpy import read_npy, read_npz
from fcunet_dask.io.raw import RawScan
from fcunet_dask.io.zarr import read_zarr


class Reader(Protocol):
    """Open one file format lazily; write nothing, read no patterns."""

    def __call__(self, path: Path, dataset: str | None) -> RawScan:
        """Return the scan at `path`, or its array `dataset` where it holds several."""
        ...


READERS: Final[dict[str, Reader]] = {
    ".npy": read_npy,
    ".npz": read_npz,
    **dict.fromkeys(SUFFIXES, read_detector),
}
"""Readers by suffix; folders are Zarr, and HDF5 is known by its first bytes."""

_BY_DETECTOR: Final = (".app5",)
_REMEDY: Final = {
    ".hdr": "this is the header of a .mib file: open that",
    ".raw": "these are bare numbers: open the .xml file beside them",
    ".bin": "these are bare numbers: save them with numpy.save, and open the .npy",
    ".seq": "convert it with the software of the camera to MRC, HDF5 or TIFF",
    ".h5": "it is no HDF5 file",
}


def read_raw(location: str, dataset: str | None) -> RawScan:
    """Open what is at `location` with the reader that knows it.

    Parameters
    ----------
    location : str
        Path of a file, or of the folder of a Zarr group, or the URL of one.
    dataset : str or None
        Which array, where a file holds several.

    Returns
    -------
    RawScan
        Lazily.

    Raises
    ------
    ReaderError
        If there is nothing, or no reader knows it.
    """
    path = Path(location)
    if is_url(location) or path.is_dir():
        return read_zarr(location, dataset)
    if not path.exists():
        msg = f"{path}: no such file or folder"
        raise ReaderError(msg)
    return _reader_for(path)(path, dataset)


def _reader_for(path: Path) -> Reader:
    suffix = path.suffix.lower()
    if h5py.is_hdf5(path) and not _needs_detector_reader(path, suffix):
        return read_hdf5
    if suffix in READERS:
        return READERS[suffix]
    remedy = _REMEDY.get(suffix, f"known are HDF5, Zarr and {', '.join(READERS)}")
    msg = f"{path}: no reader for this format; {remedy}"
    raise ReaderError(msg)


def _needs_detector_reader(path: Path, suffix: str) -> bool:
    if suffix in _BY_DETECTOR:
        return True
    if suffix != ".emd":
        return False
    with suppress(OSError), open_h5(path) as file:
        return "Data/Image" in file or "Data/SpectrumStream" in file
    return False
