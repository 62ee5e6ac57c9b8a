"""What all tasks of a band have in common, on its way to the workers."""

import platform
from typing import Any

import cloudpickle

from fcunet_dask.errors import StoreError


class Shared:
    """What all tasks of a band have in common; it travels once.

    As bytes that a task opens: a worker that cannot, because it does not see the store,
    would otherwise lose its scheduler, and the next one after it.
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
                self.opened = cloudpickle.loads(self.closed)
            except Exception as error:
                msg = (
                    f"{error} (seen from a worker on {platform.node()}): choose an output "
                    "and a scan that all workers see, and give them the same packages"
                )
                raise StoreError(msg) from error
        return self.opened

    def __getstate__(self) -> bytes:
        return self.closed or cloudpickle.dumps(self.opened)

    def __setstate__(self, closed: bytes) -> None:
        self.opened, self.closed = None, closed
