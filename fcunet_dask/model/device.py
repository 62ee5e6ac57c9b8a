"""The GPU of a process, where CuPy reaches one; else all is computed on the host."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Any, Final

import numpy as np

from fcunet_dask.kernels.arrays import namespace
from fcunet_dask.types import Array

_LOG = logging.getLogger(__name__)
_DRIVER: Final = Path("/dev/nvidiactl")
_TURN: Final = Lock()
_OUT_OF_MEMORY: Final = ("OutOfMemoryError", "ResourceExhaustedError")
"""What CuPy, PyTorch and TensorFlow raise; the first is a MemoryError, too."""
_TOLD: Final = ("RESOURCE_EXHAUSTED", "out of memory", "ALLOC_FAILED")
"""How JAX, CUDA and its libraries say it."""


@cache
def gpu() -> ModuleType | None:
    """Return CuPy where it reaches a GPU, else None; why not is logged, once.

    ``CUDA_VISIBLE_DEVICES=-1`` hides every GPU.
    """
    missing: Any
    try:
        import cupy  # noqa: PLC0415 - an extra

        if cupy.cuda.runtime.getDeviceCount():
            module: ModuleType = cupy
            return module
        missing = "CuPy sees none"
    except ImportError as error:
        missing = f"{error}: pip install 'fcunet-dask[gpu]'"
    except RuntimeError as error:
        missing = f"CuPy sees none: {error}"
    level = logging.WARNING if _DRIVER.exists() else logging.DEBUG
    _LOG.log(level, "no GPU for patterns (%s): they stay on the CPU", missing)
    return None


def uploaded(patterns: Array) -> Array:
    """Return patterns in the memory of the GPU, where there is one.

    The copy does not wait for what the GPU computes meanwhile for other threads.

    Parameters
    ----------
    patterns : array
        (n, rows, columns), NumPy or CuPy.

    Returns
    -------
    array
        The same, CuPy's if there is a GPU.
    """
    cupy = gpu()
    if cupy is None or not isinstance(patterns, np.ndarray):
        return patterns
    patterns = patterns.astype(patterns.dtype.newbyteorder("="), copy=False)
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        there: Array = cupy.asarray(patterns)
    stream.synchronize()
    return there


@contextmanager
def turn(patterns: Array) -> Iterator[None]:
    """Compute on the GPU, one thread of the process at a time.

    So the free memory is that of the thread that asks; the others read, upload and
    write meanwhile. On the host threads do not wait.

    Parameters
    ----------
    patterns : array
        What is computed with.
    """
    if namespace(patterns) is np:
        yield
        return
    with _TURN:
        yield


def free_bytes() -> int:
    """Return what a batch may take of the GPU's memory: half of what is free; 0 without."""
    cupy = gpu()
    if cupy is None:
        return 0
    free = int(cupy.cuda.Device().mem_info[0])
    return (free + int(cupy.get_default_memory_pool().free_bytes())) // 2


def of_memory(error: BaseException) -> bool:
    """Whether memory, of host or device, ran out."""
    if isinstance(error, MemoryError) or type(error).__name__ in _OUT_OF_MEMORY:
        return True
    return isinstance(error, RuntimeError) and any(t in str(error) for t in _TOLD)


def release() -> None:
    """Give back what CuPy keeps of the GPU's memory for itself."""
    cupy = gpu()
    if cupy is not None:
        cupy.get_default_memory_pool().free_all_blocks()
