"""One process at a time owns a store: a key names it, a heartbeat says it lives."""

import json
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

from fcunet_dask._commit.files import find_json, writing
from fcunet_dask._places import Place, Stamp, age, failures
from fcunet_dask.errors import StoreInUseError

HEARTBEAT_S: Final = 20.0
STALE_S: Final = 300.0
OWNER: Final = "marks/owner.json"
_PAUSE_S: Final = 0.05
"""Before asking again who was quicker."""


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
                time.sleep(_PAUSE_S)
        return cls(place, claim)

    def release(self) -> None:
        """Give the store free."""
        self._stop.set()
        self._thread.join()
        with suppress(FileNotFoundError):
            if self._place.read(OWNER) == self._claim:
                self._place.delete(OWNER)

    def holds(self) -> bool:
        """Whether the store is still owned by this process.

        Only the claim of another takes it away; one that is gone is made again.
        """
        if not self._lost:
            try:
                self._lost = self._place.read(OWNER) != self._claim
            except FileNotFoundError:
                return self._place.create(OWNER, self._claim)
        return not self._lost

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            with suppress(*failures()):
                seen = self._place.stamp(OWNER)
                if self.holds() and seen is not None:
                    self._place.renew(OWNER, self._claim, seen)
                if self._lost:
                    return


def is_owned(place: Place) -> bool:
    """Whether a living process owns the store at `place`, or is about to make one."""
    seen = place.stamp(OWNER)
    return seen is not None and _lives(find_json(place, OWNER) or {}, age(seen))


def _where() -> dict[str, str | int | None]:
    """Name what gives processes their numbers: the host, and in a container more."""
    try:
        numbers = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        numbers = None
    return {"host": socket.gethostname(), "pid_namespace": numbers}


def _refuse_living(place: Place, seen: Stamp) -> None:
    owner: dict[str, Any] = {}
    try:
        owner = json.loads(place.read(OWNER))
    except FileNotFoundError:  # released meanwhile
        return
    except ValueError:
        pass
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
