"""What stores write beside arrays: JSON, checksums, and words for a disk that is full."""

import errno
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast

import numpy as np

from fcunet_dask._places import Place, failures, place
from fcunet_dask.errors import FcunetError, StoreError
from fcunet_dask.types import Array

_GROUP: Final = "zarr.json"


def read_json(where: Place, key: str) -> dict[str, Any]:
    """Return the object in a JSON file."""
    return cast(dict[str, Any], json.loads(where.read(key)))


def find_json(where: Place, key: str) -> dict[str, Any] | None:
    """Return the object in a JSON file; None where there is none, or half of one."""
    try:
        return read_json(where, key)
    except (FileNotFoundError, ValueError):
        return None


def write_json(where: Place, key: str, values: Mapping[str, Any]) -> None:
    """Put a JSON file in place at once: a reader sees all of it or none."""
    where.write(key, json.dumps(values, sort_keys=True).encode())


def read_attrs(where: Place) -> dict[str, Any]:
    """Return the attributes of a Zarr v3 group; empty where there is none.

    Raises
    ------
    StoreError
        If there is one that cannot be read: it is not to be taken for none.
    """
    try:
        if where.stamp(_GROUP) is None:
            return {}
        return cast(dict[str, Any], read_json(where, _GROUP).get("attributes", {}))
    except FileNotFoundError:
        return {}
    except failures(ValueError, AttributeError) as error:
        reason = str(error).partition("\n")[0]
        msg = (
            f"{where.name}/{_GROUP} cannot be read ({reason}): try again; if it is "
            "damaged, choose another name"
        )
        raise StoreError(msg) from error


def checksum(block: Array) -> str:
    """Return a 128-bit BLAKE2b of the values of `block`, in hexadecimal."""
    data = np.ascontiguousarray(block)
    return hashlib.blake2b(data.view(np.uint8).data, digest_size=16).hexdigest()


@contextmanager
def writing(path: str | Path, nbytes: int) -> Iterator[None]:
    """Turn a full disk, or any other failure to write, into a StoreError."""
    try:
        yield
    except FcunetError:
        raise
    except failures() as error:
        number = getattr(error, "errno", None)
        if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise full_disk(path, nbytes) from error
        reason = str(error).partition("\n")[0]
        msg = f"{path}: cannot be written ({reason})"
        raise StoreError(msg) from error


def full_disk(path: str | Path, nbytes: int) -> StoreError:
    """Return the error of a place without room for `nbytes`."""
    free = place(path).free_bytes() or 0
    return StoreError(
        f"{path}: the disk is full: up to {nbytes:,} bytes were to be written, "
        f"{free:,} are free; make room and run again: what is done is kept"
    )
