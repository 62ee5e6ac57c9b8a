"""What an HDF5 file takes from other files: those beside it are its own, no others are.

A file may name any other by a link, as the source of a virtual dataset, or as the place of
its values. Detectors name the files beside their master file; a stranger's file that
names others would have them read, and copied into results.
"""

import os
import re
from pathlib import Path
from typing import Any, Final

import h5py

from fcunet_dask._source import open_h5
from fcunet_dask.errors import ReaderError

_COUNTED: Final = re.compile(r"%\d*b")
"""What HDF5 replaces by a number in the names of sources."""


def own(path: Path, item: Any) -> Any:
    """Return `item`, a group or dataset that was found through `path`.

    Raises
    ------
    ReaderError
        If it, or what it is made of, lies in a file outside of the folder of `path`, or
        in one that is no HDF5 file.
    """
    _own(path, item, set())
    return item


def refuse_links(path: Path) -> None:
    """Refuse a file with links to others, or with anything that is not its own.

    For files that another library opens.

    Raises
    ------
    ReaderError
        If there is one.
    """
    links: list[tuple[str, Any]] = []
    with open_h5(path) as file:
        file.visititems_links(lambda *found: links.append(found))
        for name, link in links:
            if isinstance(link, h5py.ExternalLink):
                raise _foreign(path, name, link.filename)
            if isinstance(link, h5py.HardLink):
                own(path, file[name])


def _own(path: Path, item: Any, seen: set[tuple[str, str]]) -> None:
    where = item.file.filename
    if not _beside(path, where):
        raise _foreign(path, item.name, where)
    if not isinstance(item, h5py.Dataset) or (where, item.name) in seen:
        return
    seen.add((where, item.name))
    if item.external:
        msg = (
            f"{path}: the values of {item.name} lie in {item.external[0][0]}, which is no "
            "HDF5 file: any file could be read so, and none is; write the values into "
            "the HDF5 file"
        )
        raise ReaderError(msg)
    sources = item.virtual_sources() if item.is_virtual else []
    for file, name in sorted({(s.file_name, s.dset_name) for s in sources}):
        if file == ".":
            _own(path, item.file[name], seen)
        else:
            _own_source(path, Path(where), (file, name), seen)


def _own_source(
    path: Path, virtual: Path, source: tuple[str, str], seen: set[tuple[str, str]]
) -> None:
    """Look at a source of a dataset in the file `virtual`."""
    if any(map(_COUNTED.search, source)):
        msg = f"{path}: {source[0]} counts the sources of a virtual dataset; name each"
        raise ReaderError(msg)
    file, name = (text.replace("%%", "%") for text in source)
    if Path(file).is_absolute() and not Path(file).exists():
        file = Path(file).name  # HDF5 looks beside, too: the files were moved
    places = [folder / file for folder in _folders(virtual)]
    found = next((place for place in places if place.exists()), places[0])
    if not _beside(path, found):
        raise _foreign(path, "a virtual dataset", file)
    if not found.exists():
        msg = f"{path} names the file {file}, which is not beside it; copy it too"
        raise ReaderError(msg)
    with open_h5(found) as opened:
        if name not in opened:
            msg = f"{path} names {name} of {file}, which is not there; copy it again"
            raise ReaderError(msg)
        _own(path, opened[name], seen)


def _folders(path: Path) -> tuple[Path, Path]:
    """Return the folder of a file, and that of the file that a link stands for."""
    return Path(os.path.abspath(path)).parent, path.resolve().parent  # noqa: PTH100


def _beside(path: Path, other: str | Path) -> bool:
    there = Path(os.path.abspath(other))  # noqa: PTH100 - by name: `..`, not links
    return any(map(there.is_relative_to, _folders(path)))


def _foreign(path: Path, what: str, file: str | Path) -> ReaderError:
    return ReaderError(
        f"{path}: {what} is taken from {file}, outside of its folder: a file may name "
        "those beside it only; copy that one there, or open it by itself; where a copy is "
        "beside already, the name leads to the one outside: move that away"
    )
