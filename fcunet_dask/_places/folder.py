"""A folder of a file system as a place."""

import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fcunet_dask._places.base import Stamp, age, in_order

PARTIAL: Final = ".partial"
ABANDONED_S: Final = 300.0
"""Age of a file that says whose turn it is, s, from which on nobody's is."""

_LEFTOVER: Final = re.compile(r".*\.([0-9a-f]{32}|\d+-\d+)" + re.escape(PARTIAL))
"""Scratch files of this package and of Zarr, with a random word or a stamp."""


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
        """Replace the file; of those who saw the same, one at a time may look and do so."""
        target = self.path / key
        turn = target.with_name(f"{target.name}.{seen.version}{PARTIAL}")
        if not _begin(turn):
            return False
        try:
            if _stamp(target) != seen:
                return False
            self.write(key, data)
        finally:
            turn.unlink(missing_ok=True)
        return True

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

    def clear(self, keys: Iterable[str] | None = None) -> None:
        """Delete files, by default all, and empty folders."""
        for key in in_order(self.keys("", partial=True) if keys is None else keys):
            self.delete(key)
        for folder, _, _ in os.walk(self.path, topdown=False):
            with suppress(OSError):
                Path(folder).rmdir()

    def drop_partial(self) -> None:
        """Delete the scratch files of interrupted writers."""
        for key in list(self.keys("", partial=True)):
            if _LEFTOVER.fullmatch(key):
                self.delete(key)

    def free_bytes(self) -> int | None:
        """Return the free space of the disk."""
        # os.path: a name that cannot be is not there, either
        there = next(p for p in (self.path, *self.path.parents) if os.path.exists(p))  # noqa: PTH110
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


def _begin(turn: Path) -> bool:
    """Make a file that is not there; delete one that a killed process left."""
    try:
        turn.touch(exist_ok=False)
    except FileExistsError:
        there = _stamp(turn)
        if there is not None and age(there) > ABANDONED_S:
            turn.unlink(missing_ok=True)
        return False
    except FileNotFoundError:
        return False
    return True
