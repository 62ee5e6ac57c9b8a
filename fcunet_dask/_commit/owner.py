"""One process at a time owns a store: a file names it, a heartbeat says it lives."""

import json
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

from fcunet_dask._commit.files import read_json, writing
from fcunet_dask.errors import StoreError

HEARTBEAT_S: Final = 20.0
STALE_S: Final = 300.0


class Owner:
    """The claim of this process on a store, renewed by a thread until released."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    @classmethod
    def take(cls, folder: Path) -> Self:
        """Claim the store whose marks are in `folder`.

        Raises
        ------
        StoreError
            If a living process owns it.
        """
        path = folder / "owner.json"
        with writing(folder, 100):
            folder.mkdir(exist_ok=True)
            while not _claim(path):
                _refuse_living(path)
                aside = path.with_name(f"owner.{uuid.uuid4().hex}.partial")
                with suppress(FileNotFoundError):
                    path.rename(aside)
                    aside.unlink()
        return cls(path)

    def release(self) -> None:
        """Give the store free."""
        self._stop.set()
        self._thread.join()
        self._path.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            with suppress(OSError):
                os.utime(self._path)


def _claim(path: Path) -> bool:
    """Make the file, unless there is one."""
    try:
        file = path.open("x", encoding="utf-8")
    except FileExistsError:
        return False
    try:
        with file:
            json.dump({"host": socket.gethostname(), "pid": os.getpid()}, file)
    except BaseException:
        path.unlink()
        raise
    return True


def _refuse_living(path: Path) -> None:
    try:
        owner = read_json(path)
        age = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return
    except ValueError:
        owner, age = {}, time.time() - path.stat().st_mtime
    if _lives(owner, age):
        msg = (
            f"{path.parent.parent} is being written by process {owner.get('pid')} on "
            f"{owner.get('host')} (last sign {age:.0f} s ago); wait for it, or write "
            f"elsewhere"
        )
        raise StoreError(msg)


def _lives(owner: dict[str, Any], age: float) -> bool:
    if age > STALE_S:
        return False
    if owner.get("host") != socket.gethostname():
        return True
    try:
        os.kill(int(owner["pid"]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
