"""What must not become of a source: replaced while open, or the place of its results."""

import os
from pathlib import Path
from typing import Any

from fcunet_dask._places import is_url
from fcunet_dask._source import OPENED, stamp, unread, unread_paths
from fcunet_dask.errors import ReaderError, StoreError


def refuse_replaced(array: Any) -> None:
    """Refuse an array whose file is another one than when it was opened.

    Raises
    ------
    ReaderError
        If it was changed, replaced or removed.
    """
    for name, source in unread(array).items():
        if stamp(source.path) != OPENED[name]:
            msg = (
                f"{source.path}: the file was changed or replaced since the scan was "
                "opened: open it again, once it is whole"
            )
            raise ReaderError(msg)


def refuse_within(out: str | Path, array: Any) -> None:
    """Refuse an output that is, or lies in, what `array` will be read from.

    Raises
    ------
    StoreError
        If so: what is written there would change the scan, or make it unreadable.
    """
    target = _resolved(out)
    for path in unread_paths(array):
        source = _resolved(path)
        if target == source:
            msg = f"{out} is the source itself; choose another name"
            raise StoreError(msg)
        if target.startswith(f"{source}/"):
            msg = f"{out} lies in {path}, the scan itself; choose a name outside of it"
            raise StoreError(msg)


def _resolved(where: str | Path) -> str:
    return str(where).rstrip("/") if is_url(where) else os.path.realpath(where)
