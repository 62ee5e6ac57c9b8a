"""One process at a time owns a store: a key names it, a heartbeat says it lives."""

import json
import os
import socket
import threading
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

from fcunet_dask._commit.files import writing
from fcunet_dask._places import Place, Stamp, age, failures
from fcunet_dask.errors import StoreError, StoreInUseError

HEARTBEAT_S: Final = 20.0
STALE_S: Final = 300.0
OWNER: Final = "marks/owner.json"


class Owner:
    """The claim of this process on a store, renewed by a thread until released."""

    def __init__(self, place: Place, claim: bytes) -> None:
        self._place, self._claim = place, claim
        self._stop = threading.Event()
        self._lost = False
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    @classmethod
    def take(cls, place: Place) -> Self:
        """Claim the store at `place`.

        Raises
        ------
        StoreInUseError
            If a living process owns it.
        StoreError
            If the place cannot tell the first of two.
        """
        words = {**_where(), "pid": os.getpid(), "claim": uuid.uuid4().hex}
        claim = json.dumps(words).encode()
        with writing(place.name, len(claim)):
            while not place.create(OWNER, claim):
                seen = place.stamp(OWNER)
                if seen is None:
                    continue
                _refuse_living(place, seen)
                if place.swap(OWNER, claim, seen):
                    break
            if place.create(OWNER, claim):
                msg = (
                    f"{place.name}: this object store overwrites what it was asked to "
                    "create: two runs could write at once; use one that knows "
                    "conditional writes (If-None-Match), or a local disk"
                )
                raise StoreError(msg)
        return cls(place, claim)

    def release(self) -> None:
        """Give the store free."""
        self._stop.set()
        self._thread.join()
        if self.holds():
            self._place.delete(OWNER)

    def holds(self) -> bool:
        """Whether the store is still owned by this process."""
        if self._lost:
            return False
        try:
            return self._place.read(OWNER) == self._claim
        except FileNotFoundError:
            return False

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            with suppress(*failures()):
                seen = self._place.stamp(OWNER)
                self._lost = not self.holds() or seen is None
                if seen is None or self._lost:
                    return
                self._place.renew(OWNER, self._claim, seen)


def _where() -> dict[str, str | int | None]:
    """Name what gives processes their numbers: the host, and in a container more."""
    try:
        numbers = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        numbers = None
    return {"host": socket.gethostname(), "pid_namespace": numbers}


def _refuse_living(place: Place, seen: Stamp) -> None:
    owner: dict[str, Any] = {}
    with suppress(ValueError, FileNotFoundError):
        owner = json.loads(place.read(OWNER))
    silent = age(seen)
    if _lives(owner, silent):
        msg = (
            f"{place.name} is being written by process {owner.get('pid')} on "
            f"{owner.get('host')} (last sign {silent:.0f} s ago); wait for it, or write "
            f"elsewhere"
        )
        raise StoreInUseError(msg)


def _lives(owner: dict[str, Any], silent: float) -> bool:
    if silent > STALE_S:
        return False
    if any(owner.get(word) != here for word, here in _where().items()):
        return True
    try:
        os.kill(int(owner["pid"]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
