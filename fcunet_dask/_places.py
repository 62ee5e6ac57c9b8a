"""Where stores lie: a folder, or a prefix of an object store; nothing else touches either.

Both are seen as keys (``marks/0/3.json``) with bytes. Everything that the commit protocol
needs of a place is here: a value is put in place at once, or not at all; a key can be
created by one of many; it can be replaced by whoever saw it last.
"""

import os
import shutil
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from fcunet_dask.errors import MissingDependencyError, StoreError

PARTIAL = ".partial"


@dataclass(frozen=True, slots=True)
class Stamp:
    """A version of a key: which, and when it was written, ns since 1970."""

    version: str
    changed: int


class Place(Protocol):
    """What a store needs of where it lies."""

    @property
    def name(self) -> str:
        """The path or URL."""

    def read(self, key: str) -> bytes:
        """Return the bytes at `key`; raise FileNotFoundError where there are none."""

    def write(self, key: str, data: bytes) -> None:
        """Put `data` at `key`: a reader sees all of it, or what was there before."""

    def create(self, key: str, data: bytes) -> bool:
        """Put `data` at `key` unless there is something; only one of many succeeds."""

    def swap(self, key: str, data: bytes, seen: Stamp) -> bool:
        """Put `data` at `key` if it is still what was `seen`."""

    def renew(self, key: str, data: bytes, seen: Stamp) -> None:
        """Make `key`, which holds `data` and was `seen`, look freshly written."""

    def stamp(self, key: str) -> Stamp | None:
        """Return the version of what is at `key`; None where there is nothing."""

    def size(self, key: str) -> int:
        """Return the bytes at `key`; 0 where there is nothing."""

    def delete(self, key: str) -> None:
        """Delete `key`, if it is there."""

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield every key below `prefix`."""

    def empty(self) -> bool:
        """Whether there is nothing at all."""

    def children(self) -> set[str]:
        """Return the names of the places directly below."""

    def clear(self, keep: str = "") -> None:
        """Delete everything, except the key `keep`."""

    def drop_partial(self) -> None:
        """Delete what interrupted writers left behind."""

    def free_bytes(self) -> int | None:
        """Return how much can still be written; None where nobody knows."""

    def zarr(self, path: str = "") -> Any:
        """Return what `zarr` opens for the group or array at `path`."""

    def below(self, path: str) -> "Place":
        """Return the place `path` below this one."""


def is_url(where: str | Path) -> bool:
    """Whether `where` is in an object store (``s3://bucket/prefix``)."""
    return "://" in str(where)


def located(where: str | Path) -> str:
    """Return `where` as an absolute path, or as the URL it is."""
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


def failures() -> tuple[type[Exception], ...]:
    """Return what places raise where the disk or the network fails."""
    known: list[type[Exception]] = [OSError]
    if "obstore" in sys.modules:
        known.append(sys.modules["obstore"].exceptions.BaseError)
    return tuple(known)


@dataclass(frozen=True, slots=True)
class FolderPlace:
    """A folder of a file system."""

    path: Path

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    def read(self, key: str) -> bytes:
        """Return the bytes of a file."""
        return (self.path / key).read_bytes()

    def write(self, key: str, data: bytes) -> None:
        """Write beside the file, and rename."""
        scratch = self._scratch(key, data)
        try:
            scratch.replace(self.path / key)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise

    def create(self, key: str, data: bytes) -> bool:
        """Open the file for the first time: of many, the system lets one."""
        target = self.path / key
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = target.open("xb")
        except FileExistsError:
            return False
        try:
            with file:
                file.write(data)
        except BaseException:
            target.unlink()
            raise
        return True

    def swap(self, key: str, data: bytes, seen: Stamp) -> bool:
        """Take the file away, look whether it is the one, and create it anew."""
        target = self.path / key
        aside = target.with_name(f"{target.name}.{uuid.uuid4().hex}{PARTIAL}")
        try:
            target.rename(aside)
        except FileNotFoundError:
            return False
        ours = _stamp(aside) == seen
        content = data if ours else aside.read_bytes()
        aside.unlink()
        return self.create(key, content) and ours

    def renew(self, key: str, data: bytes, seen: Stamp) -> None:
        """Set the time of the file."""
        del data, seen
        os.utime(self.path / key)

    def stamp(self, key: str) -> Stamp | None:
        """Return inode and time of a file."""
        return _stamp(self.path / key)

    def size(self, key: str) -> int:
        """Return the length of a file."""
        try:
            return (self.path / key).stat().st_size
        except FileNotFoundError:
            return 0

    def delete(self, key: str) -> None:
        """Delete a file."""
        (self.path / key).unlink(missing_ok=True)

    def keys(self, prefix: str, *, partial: bool = False) -> Iterator[str]:
        """Yield the files below a folder; those half written only where asked for."""
        for folder, _, files in os.walk(self.path / prefix):
            inside = Path(folder).relative_to(self.path)
            for name in files:
                if partial or not name.endswith(PARTIAL):
                    yield str(inside / name)

    def empty(self) -> bool:
        """Whether there is no file in the folder, nor one in its place."""
        return not self.path.is_file() and next(self.keys(""), None) is None

    def children(self) -> set[str]:
        """Return the folders in this one."""
        return {child.name for child in self.path.iterdir() if child.is_dir()}

    def clear(self, keep: str = "") -> None:
        """Delete the files of the folder, its description first, and empty folders."""
        self.delete("zarr.json")
        for key in list(self.keys("", partial=True)):
            if key != keep:
                self.delete(key)
        for folder, _, _ in os.walk(self.path, topdown=False):
            with suppress(OSError):
                Path(folder).rmdir()

    def drop_partial(self) -> None:
        """Delete the scratch files of interrupted writers."""
        for leftover in self.path.rglob(f"*{PARTIAL}"):
            if leftover.is_dir():
                shutil.rmtree(leftover)
            else:
                leftover.unlink(missing_ok=True)

    def free_bytes(self) -> int | None:
        """Return the free space of the disk."""
        there = next(p for p in (self.path, *self.path.parents) if p.exists())
        return shutil.disk_usage(there).free

    def zarr(self, path: str = "") -> Any:
        """Return the path itself."""
        return self.path / path if path else self.path

    def below(self, path: str) -> "FolderPlace":
        """Return a folder in this one."""
        return FolderPlace(self.path / path)

    def _scratch(self, key: str, data: bytes) -> Path:
        target = self.path / key
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = target.with_name(f"{target.name}.{uuid.uuid4().hex}{PARTIAL}")
        try:
            scratch.write_bytes(data)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise
        return scratch


def _stamp(path: Path) -> Stamp | None:
    try:
        info = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return Stamp(f"{info.st_ino}-{info.st_mtime_ns}", info.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class ObjectPlace:
    """A prefix of an object store: S3, or whatever obstore speaks to.

    Keys and secrets are those of the environment (``AWS_…``), of each worker its own.
    """

    url: str

    @property
    def name(self) -> str:
        """The URL."""
        return self.url

    def read(self, key: str) -> bytes:
        """Return the bytes of an object."""
        return bytes(_obstore().get(_bucket(self.url), key).bytes())

    def write(self, key: str, data: bytes) -> None:
        """Put an object: stores show the whole of it or nothing."""
        _obstore().put(_bucket(self.url), key, data)

    def create(self, key: str, data: bytes) -> bool:
        """Put an object on the condition that there is none."""
        module = _obstore()
        try:
            module.put(_bucket(self.url), key, data, mode="create")
        except module.exceptions.AlreadyExistsError:
            return False
        except module.exceptions.NotSupportedError as error:
            msg = f"{self.url}: this object store cannot create on condition ({error})"
            raise StoreError(msg) from error
        return True

    def swap(self, key: str, data: bytes, seen: Stamp) -> bool:
        """Put an object on the condition that it is what was seen."""
        module = _obstore()
        known = module.exceptions
        try:
            module.put(_bucket(self.url), key, data, mode={"e_tag": seen.version})
        except (known.PreconditionError, FileNotFoundError):
            return False
        return True

    def renew(self, key: str, data: bytes, seen: Stamp) -> None:
        """Put the object again, if it is still the same."""
        self.swap(key, data, seen)

    def stamp(self, key: str) -> Stamp | None:
        """Return entity tag and time of an object."""
        try:
            info = _obstore().head(_bucket(self.url), key)
        except FileNotFoundError:
            return None
        return Stamp(info["e_tag"], int(info["last_modified"].timestamp() * 1e9))

    def size(self, key: str) -> int:
        """Return the length of an object."""
        try:
            return int(_obstore().head(_bucket(self.url), key)["size"])
        except FileNotFoundError:
            return 0

    def delete(self, key: str) -> None:
        """Delete an object."""
        with suppress(FileNotFoundError):
            _obstore().delete(_bucket(self.url), key)

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the objects below a prefix."""
        for page in _obstore().list(_bucket(self.url), prefix or None):
            for item in page:
                yield str(item["path"])

    def empty(self) -> bool:
        """Whether there is no object below the prefix."""
        return next(self.keys(""), None) is None

    def children(self) -> set[str]:
        """Return the first parts of the keys, from a listing with a delimiter."""
        found = _obstore().list_with_delimiter(_bucket(self.url))
        return {str(name).rstrip("/") for name in found["common_prefixes"]}

    def clear(self, keep: str = "") -> None:
        """Delete all objects, the description of the group first."""
        self.delete("zarr.json")
        for key in list(self.keys("")):
            if key != keep:
                self.delete(key)

    def drop_partial(self) -> None:
        """Nothing is left behind: an object is whole or is not."""

    def free_bytes(self) -> int | None:
        """Return None: object stores do not say."""
        return None

    def zarr(self, path: str = "") -> Any:
        """Return a Zarr store."""
        from zarr.storage import ObjectStore  # noqa: PLC0415 - exists with obstore only

        return ObjectStore(_bucket(f"{self.url}/{path}" if path else self.url))

    def below(self, path: str) -> "ObjectPlace":
        """Return a prefix in this one."""
        return ObjectPlace(f"{self.url}/{path}")


def _obstore() -> Any:
    try:
        import obstore  # noqa: PLC0415 - optional
        import obstore.exceptions  # noqa: PLC0415
    except ImportError as error:
        msg = "URLs of object stores need obstore: pip install 'fcunet-dask[s3]'"
        raise MissingDependencyError(msg) from error
    return obstore


@lru_cache(64)
def _bucket(url: str) -> Any:
    _obstore()
    from obstore.store import from_url  # noqa: PLC0415 - optional

    return from_url(url)


def age(stamp: Stamp) -> float:
    """Return how long ago a key was written, s, by this machine's clock."""
    return time.time() - stamp.changed / 1e9
