"""Where stores lie: a folder, or a prefix of an object store; nothing else touches either.

Both are seen as keys (``marks/0/3.json``) with bytes. Everything that the commit protocol
needs of a place is here: a value is put in place at once, or not at all; a key can be
created by one of many; it can be replaced by whoever saw it last.
"""

import glob
import re
import sys
from os import PathLike
from pathlib import Path
from typing import Final

from fcunet_dask._places.base import Place, Stamp, age
from fcunet_dask._places.folder import FolderPlace
from fcunet_dask._places.objects import ObjectPlace, matching_urls
from fcunet_dask.errors import ParameterError, ReaderError

__all__ = [
    "FolderPlace",
    "ObjectPlace",
    "Place",
    "Stamp",
    "age",
    "failures",
    "is_url",
    "located",
    "matching",
    "place",
]

_WAS_URL: Final = re.compile(r"[a-z][a-z0-9+.]+:/(?!/)")
"""More than one letter, so no drive."""


def is_url(where: object) -> bool:
    """Whether `where` is in an object store (``s3://bucket/prefix``)."""
    return "://" in str(where)


def located(where: object) -> str:
    """Return `where` as an absolute path, or as the URL it is.

    Raises
    ------
    ParameterError
        If it is no path, or a URL that was made one.
    """
    if not isinstance(where, (str, PathLike)):
        msg = f"expected a path or a URL, got {type(where).__name__}: {where!r:.60}"
        raise ParameterError(msg)
    if isinstance(where, Path) and _WAS_URL.match(str(where)):
        msg = (
            f"{where}: a pathlib.Path has lost a slash of the URL: pass it as a string"
        )
        raise ParameterError(msg)
    if is_url(where):
        return str(where).rstrip("/")
    return str(Path(where).absolute())


def place(where: str | Path) -> Place:
    """Return the folder or prefix `where`; nothing is read or made.

    Raises
    ------
    MissingDependencyError
        If it is a URL and obstore is not installed.
    """
    if is_url(where):
        return ObjectPlace(str(where).rstrip("/"))
    return FolderPlace(Path(where))


def matching(pattern: str) -> list[str]:
    """Return the paths or URLs that a pattern stands for, sorted.

    Parameters
    ----------
    pattern : str
        As a shell takes it: ``raw/*.zarr``, ``s3://bucket/raw/*.zarr``. A URL without
        wildcards stands for itself.

    Raises
    ------
    ReaderError
        If the object store does not list what it has.
    MissingDependencyError
        If it is a URL and obstore is not installed.
    """
    if not is_url(pattern):
        return sorted(glob.glob(pattern))  # noqa: PTH207 - absolute patterns too
    try:
        return sorted(matching_urls(pattern))
    except failures() as error:
        reason = str(error).partition("\n")[0]
        msg = f"{pattern} cannot be listed ({reason}): check the name and the keys"
        raise ReaderError(msg) from error


def failures(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """Return what places raise where the disk or the network fails, and `others`.

    To be asked when it has been raised: obstore is imported when it is needed.
    """
    known: list[type[Exception]] = [OSError, *others]
    if "obstore" in sys.modules:
        known.append(sys.modules["obstore"].exceptions.BaseError)
    return tuple(known)
