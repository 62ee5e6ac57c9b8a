"""What a store needs of where it lies."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

_GROUP: Final = "zarr.json"


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
        """Put `data` at `key` unless there is something; only one of many succeeds.

        Raises
        ------
        StoreError
            If the place cannot tell the first of two; nothing is left there.
        """

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

    def clear(self, keys: Iterable[str] | None = None) -> None:
        """Delete `keys`, or everything: the group's description first, arrays' last."""

    def drop_partial(self) -> None:
        """Delete what interrupted writers left behind."""

    def free_bytes(self) -> int | None:
        """Return how much can still be written; None where nobody knows."""

    def zarr(self, path: str = "") -> Any:
        """Return what `zarr` opens for the group or array at `path`."""

    def below(self, path: str) -> "Place":
        """Return the place `path` below this one."""


def in_order(keys: Iterable[str]) -> list[str]:
    """Sort keys for deletion: a kill in between leaves no group, and no nameless chunk."""
    return sorted(keys, key=lambda key: (key != _GROUP, key.endswith(_GROUP)))


def age(stamp: Stamp) -> float:
    """Return how long ago a key was written, s, by this machine's clock."""
    return time.time() - stamp.changed / 1e9
