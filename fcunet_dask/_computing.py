"""How a process computes blocks: one thread of BLAS, and memory that it keeps."""

import ctypes
import os
from contextlib import AbstractContextManager, suppress
from functools import cache
from typing import Any, Final

from threadpoolctl import threadpool_limits

_OF_NANNIES: Final = "65536"
"""What Dask's nannies set ``MALLOC_TRIM_THRESHOLD_`` to."""
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # malloc.h
_LARGEST: Final = 32 * 2**20
"""Bytes up to which freed memory may be kept for the next array: glibc's own limit."""


def computing() -> AbstractContextManager[Any]:
    """Return the context in which a block is computed.

    Matrices are small: more threads of BLAS would wait for one another.
    """
    _keep_memory()
    return threadpool_limits(1)


@cache
def _keep_memory() -> None:
    """Undo what Dask's nannies tell the allocator, once in a process.

    Their limit makes glibc ask the system for every array of more than 128 KiB anew,
    which then takes longer than to compute it. The limits set here are those that
    glibc, left alone, adapts itself to. Another value than Dask's is somebody's wish.
    """
    if os.environ.get("MALLOC_TRIM_THRESHOLD_") != _OF_NANNIES:
        return
    with suppress(OSError, AttributeError):  # no glibc
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, _LARGEST)
        mallopt(_TRIM_THRESHOLD, 2 * _LARGEST)
