"""The GPU of a process, where CuPy reaches one; else all is computed on the host."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Lock
from types import ModuleType
from typing import Final

import numpy as np

from fcunet_dask.kernels.arrays import namespace
from fcunet_dask.types import Array

_LOG = logging.getLogger(__name__)
_DRIVER: Final = Path("/dev/nvidiactl")
_TURN: Final = Lock()
_OUT_OF_MEMORY: Final = ("OutOfMemoryError", "ResourceExhaustedError")
"""What CuPy, PyTorch and TensorFlow raise; the first is a MemoryError, too."""
_TOLD: Final = (
    "RESOURCE_EXHAUSTED", "out of memory", "ALLOC_FAILED", "CUBLAS_STATUS_NOT_INITIALIZED"
)  # fmt: skip
"""How JAX, CUDA, TensorFlow (in an ``InternalError``) and CUDA's libraries say it."""


@cache
def gpu() -> ModuleType | None:
    """Return CuPy where it computes on a GPU, else None; why not is logged, once.

    ``CUDA_VISIBLE_DEVICES=-1`` hides every GPU. Backends of Keras that are not loaded yet
    are told to take no more of its memory than they need.
    """
    try:
        import cupy  # noqa: PLC0415 - an extra

        float(cupy.ones(1).sum())  # compiles: a driver alone does not do it
    except Exception as error:  # noqa: BLE001 - whatever is missing or broken
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "all") in {"", "-1"}
        there = _DRIVER.exists() and not hidden
        _LOG.log(
            logging.WARNING if there else logging.DEBUG,
            "no GPU for patterns, they stay on the CPU: CuPy (pip install "
            "'fcunet-dask[gpu]') says %s: %s",
            type(error).__name__,
            error,
        )
        return None
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    module: ModuleType = cupy
    return module


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
    """Return what a batch may take of the GPU's memory: half of what is free; 0 without.

    What CuPy keeps for itself is given back before.
    """
    cupy = gpu()
    if cupy is None:
        return 0
    release()
    return int(cupy.cuda.Device().mem_info[0]) // 2


def of_memory(error: BaseException) -> bool:
    """Whether memory, of host or device, ran out."""
    name = type(error).__name__
    if isinstance(error, MemoryError) or name in _OUT_OF_MEMORY:
        return True
    may_say_so = isinstance(error, RuntimeError) or name == "InternalError"
    return may_say_so and any(words in str(error) for words in _TOLD)


def release() -> None:
    """Give back what CuPy and PyTorch keep of the GPU's memory for themselves."""
    cupy, torch = gpu(), sys.modules.get("torch")
    if cupy is not None:
        cupy.fft.config.get_plan_cache().clear()
        cupy.get_default_memory_pool().free_all_blocks()
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
