"""Patterns in batches: one is computed while the one before is fetched."""

import logging
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

from fcunet_dask.model.device import free_bytes, of_memory, release
from fcunet_dask.types import Array

_LOG = logging.getLogger(__name__)
_MOST: Final = 1024
"""Patterns of a batch."""


class Batches:
    """Sizes of batches: from the free memory of the GPU, halved where it ran out.

    A size is found once for each shape of patterns, so that nothing is compiled again.

    Parameters
    ----------
    pixels : int
        Of a batch where `each` is 0, or CuPy reaches no GPU to say what is free.
    each : int
        Bytes of the GPU's memory that a pixel takes; 0 where another computes.
    """

    def __init__(self, pixels: int, each: int) -> None:
        self._pixels, self._each = pixels, each
        self._sizes: dict[tuple[int, ...], int] = {}

    def __call__(
        self,
        patterns: Array,
        send: Callable[[Array, int], Any],
        fetch: Callable[[Any], Array],
    ) -> Array:
        """Compute with all patterns, batch after batch.

        Parameters
        ----------
        patterns : array
            (n, rows, columns), n > 0.
        send : callable
            Begins with a batch, which may be shorter than the size that is given beside.
        fetch : callable
            Waits for what `send` returned, and returns a row for each pattern.

        Returns
        -------
        array
            (n, …).

        Raises
        ------
        MemoryError
            If there is not enough for a single pattern; it is that of the backend.
        """
        found: list[Array] = []
        first = 0
        while first < len(patterns):
            size = self._size(patterns)
            try:
                for part in _one_ahead(patterns[first:], size, send, fetch):
                    found.append(part)
                    first += len(part)
            except Exception as error:
                if not of_memory(error) or size == 1:
                    raise
                self._sizes[patterns.shape[1:]] = size // 2
                _LOG.warning("out of memory with %d patterns: now %d", size, size // 2)
            if first < len(patterns):  # outside of the handler, which keeps arrays
                release()
        return np.concatenate(found)

    def _size(self, patterns: Array) -> int:
        """Patterns of a batch: not many more than there are, as it is filled up."""
        n, *shape = patterns.shape
        if tuple(shape) not in self._sizes:
            self._sizes[tuple(shape)] = self._largest(shape[0] * shape[1])
        size = self._sizes[tuple(shape)]
        return min(size, 1 << (n - 1).bit_length())

    def _largest(self, pixels: int) -> int:
        """Patterns of so many pixels that have room, of a GPU a power of two."""
        free = free_bytes() // self._each if self._each else 0
        size = int(np.clip((free or self._pixels) // pixels, 1, _MOST))
        return 1 << (size.bit_length() - 1) if free else size


def _one_ahead(
    patterns: Array,
    size: int,
    send: Callable[[Array, int], Any],
    fetch: Callable[[Any], Array],
) -> Iterator[Array]:
    """Send a batch before the results of the one before are fetched."""
    before: tuple[Any, int] | None = None
    for i in range(0, len(patterns), size):
        part = patterns[i : i + size]
        ahead = send(part, size), len(part)
        if before is not None:
            yield fetch(before[0])[: before[1]]
        before = ahead
    if before is not None:
        yield fetch(before[0])[: before[1]]
