"""What all tasks of a band have in common, on its way to the workers."""

import platform
from functools import lru_cache
from threading import Lock
from typing import Any, Final

import cloudpickle

from fcunet_dask.errors import StoreError

_ONE_AT_A_TIME: Final = Lock()
_SMALL: Final = 2**20
"""Bytes up to which what was opened is kept for the tasks to come."""


@lru_cache(2)
def _opened(closed: bytes) -> Any:
    """Open it once in a process: a survey has two runs there."""
    return cloudpickle.loads(closed)


class Shared:
    """What all tasks of a band have in common.

    It travels as bytes that a task opens: a worker that cannot, because it does not see
    the store, would otherwise lose its scheduler, and the next one after it.
    """

    def __init__(self, function: Any, store: Any) -> None:
        self.opened: tuple[Any, Any] | None = (function, store)
        self.closed = b""

    def open(self) -> tuple[Any, Any]:
        """Return function and store.

        Raises
        ------
        StoreError
            If they cannot be opened here.
        """
        if self.opened is None:
            try:
                small = len(self.closed) <= _SMALL
                with _ONE_AT_A_TIME:
                    self.opened = (_opened if small else cloudpickle.loads)(self.closed)
            except Exception as error:
                msg = (
                    f"{error} (seen from a worker on {platform.node()}): choose an output "
                    "and a scan that all workers see, and give them the same packages"
                )
                raise StoreError(msg) from error
        return self.opened

    def nbytes(self) -> int:
        """Return how many bytes travel."""
        return len(self.__getstate__())

    def __getstate__(self) -> bytes:
        return self.closed or cloudpickle.dumps(self.opened)

    def __setstate__(self, closed: bytes) -> None:
        self.opened, self.closed = None, closed
