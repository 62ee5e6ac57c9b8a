"""The one place where stores touch the file system."""

import errno
import hashlib
import json
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np

from fcunet_dask.errors import StoreError
from fcunet_dask.types import Array


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file."""
    return cast(dict[str, Any], json.loads(path.read_text(encoding="utf-8")))


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Put a JSON file in place at once: a reader sees all of it or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    try:
        scratch.write_text(json.dumps(values, sort_keys=True), encoding="utf-8")
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def read_attrs(path: Path) -> dict[str, Any]:
    """Return the attributes of a Zarr v3 group; empty where there is none."""
    try:
        return cast(dict[str, Any], read_json(path / "zarr.json")["attributes"])
    except (OSError, ValueError, KeyError):
        return {}


def checksum(block: Array) -> str:
    """Return a 128-bit BLAKE2b of the values of `block`, in hexadecimal."""
    data = np.ascontiguousarray(block)
    return hashlib.blake2b(data.view(np.uint8).data, digest_size=16).hexdigest()


def remove(path: Path) -> None:
    """Delete a file or folder; a folder is out of the way at once."""
    if not path.is_dir():
        path.unlink(missing_ok=True)
        return
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.removed")
    path.rename(aside)
    shutil.rmtree(aside)


def drop_partial(folder: Path) -> None:
    """Delete what an interrupted writer left behind."""
    for leftover in folder.rglob("*.partial"):
        remove(leftover)


@contextmanager
def writing(path: Path, nbytes: int) -> Iterator[None]:
    """Turn a full disk, or any other failure to write, into a StoreError."""
    try:
        yield
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(path).free
            msg = (
                f"{path}: the disk is full: up to {nbytes:,} bytes were to be written, "
                f"{free:,} are free; make room and run again: what is done is kept"
            )
        else:
            msg = f"{path}: cannot be written ({error})"
        raise StoreError(msg) from error
