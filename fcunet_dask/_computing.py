"""How a process computes blocks: one thread of BLAS, and memory that it keeps."""

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, lru_cache
from typing import Any, Final

from threadpoolctl import OpenBLASController, ThreadpoolController

_OF_NANNIES: Final = "65536"
"""What Dask's nannies set ``MALLOC_TRIM_THRESHOLD_`` to."""
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # malloc.h
_LARGEST: Final = 32 * 2**20
"""Bytes up to which freed memory may be kept for the next array: glibc's own limit."""


@contextmanager
def computing() -> Iterator[None]:
    """Compute a block in this context.

    Matrices are small: more threads of BLAS would wait for one another. Products split
    over threads may also round differently; blocks are to have the same bytes on any
    number of workers.
    """
    _keep_memory()
    libraries = _libraries(len(sys.modules))
    with (
        _blas.one_thread(libraries),
        libraries.select(user_api="openmp").limit(limits=1),
    ):
        yield


class _Blas:
    """Its threads are the process's: the first that computes limits them.

    The last that ends takes that back; those of OpenMP are each thread's own.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = 0
        self.restore: Callable[[], Any] = int

    @contextmanager
    def one_thread(self, libraries: ThreadpoolController) -> Iterator[None]:
        blas = libraries.select(user_api="blas")
        with self.lock, _control():
            limits = blas.limit(limits=1)
            if not self.inside:
                self.restore = limits.restore_original_limits
            self.inside += 1
        try:
            yield
        finally:
            with self.lock, _control():
                self.inside -= 1
                if not self.inside:
                    self.restore()


_blas: Final = _Blas()


@contextmanager
def _control() -> Iterator[None]:
    """Let this thread limit OpenBLAS: else only the one that did so first may."""
    OpenBLASController.clear_controlling_thread(force=True)
    try:
        yield
    finally:
        OpenBLASController.clear_controlling_thread(force=True)


@lru_cache(maxsize=1)
def _libraries(modules: int) -> ThreadpoolController:
    """Look for libraries with threads: 2 ms, so not again until one may be new."""
    return ThreadpoolController()


@cache
def _keep_memory() -> None:
    """Undo what Dask's nannies tell the allocator, once in a process.

    Their limit makes glibc ask the system for every array of more than 128 KiB anew,
    which then takes longer than to compute it. The limits set here are those that
    glibc, left alone, adapts itself to. Another value than Dask's is somebody's wish.
    """
    wanted = os.environ.get("MALLOC_TRIM_THRESHOLD_")
    if wanted != _OF_NANNIES or not sys.platform.startswith("linux"):
        return
    with suppress(OSError, AttributeError):  # no glibc
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, _LARGEST)
        mallopt(_TRIM_THRESHOLD, 2 * _LARGEST)
