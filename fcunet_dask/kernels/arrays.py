"""NumPy or CuPy, chosen by the array at hand."""

import sys
from types import ModuleType
from typing import Any

import numpy as np
import scipy.fft
import scipy.special

from fcunet_dask.types import Array


def namespace(array: Any) -> ModuleType:
    """Return the module whose functions take `array`: ``numpy`` or ``cupy``."""
    cupy = sys.modules.get("cupy")
    if cupy is not None and isinstance(array, cupy.ndarray):
        module: ModuleType = cupy
        return module
    return np


def fft_module(array: Any) -> ModuleType:
    """Return the FFT module for `array`; both keep float32 in single precision."""
    if namespace(array) is np:
        return scipy.fft
    from cupyx.scipy import fft  # noqa: PLC0415 - exists only beside a GPU

    module: ModuleType = fft
    return module


def special_module(array: Any) -> ModuleType:
    """Return the module of special functions for `array`."""
    if namespace(array) is np:
        return scipy.special
    from cupyx.scipy import special  # noqa: PLC0415 - exists only beside a GPU

    module: ModuleType = special
    return module


def to_host(array: Any) -> Array:
    """Return `array` as a NumPy array, copied from the device where needed."""
    if isinstance(array, np.ndarray):
        return array
    return np.asarray(array.get() if hasattr(array, "get") else array)
