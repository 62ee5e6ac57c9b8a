"""The backend of Keras: how it compiles, where it computes, how arrays come to it."""

import logging
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

import keras
import numpy as np
from keras import ops

from fcunet_dask.kernels.arrays import namespace
from fcunet_dask.model.device import gpu
from fcunet_dask.types import Array

_LOG = logging.getLogger(__name__)


def compiled(function: Callable[[Any], Any]) -> Callable[..., Any]:
    """Compile a function of (pattern, probe, mask), with the backend in use.

    Parameters
    ----------
    function : callable
        Of a list of three tensors (n, rows, columns, 1).

    Returns
    -------
    callable
        Of a pattern (n, rows, columns, 1), and of a probe and a mask (1, rows, columns,
        1), NumPy's or CuPy's. It returns before all is computed, where the backend does.
    """

    def apply(pattern: Any, probe: Any, mask: Any) -> Any:
        n = ops.shape(pattern)[0]
        mask = ops.broadcast_to(mask, (n, *ops.shape(mask)[1:]))
        probe = ops.broadcast_to(probe, (n, *ops.shape(probe)[1:]))
        return function([pattern * mask, probe, mask])

    run: Callable[..., Any]
    backend = keras.backend.backend()
    if backend == "jax":
        import jax  # noqa: PLC0415  (the backend in use)

        run = jax.jit(apply)
    elif backend == "tensorflow":
        run = _of_each_shape(apply)
    else:
        import torch  # noqa: PLC0415  (the backend in use)

        run = torch.no_grad()(apply)
    return lambda *arrays: run(*(tensor(a) for a in arrays))


def _of_each_shape(apply: Callable[..., Any]) -> Callable[..., Any]:
    """Compile with TensorFlow, for each shape of its arguments."""
    import tensorflow  # noqa: PLC0415  (the backend in use)

    traced = tensorflow.function(apply, jit_compile=True)

    def of_this_shape(*given: Any) -> Any:
        shapes = [tensorflow.TensorSpec(a.shape, a.dtype) for a in given]
        return traced.get_concrete_function(*shapes)(*given)

    return of_this_shape


def tensor(array: Array) -> Any:
    """Return an array as a tensor of the backend.

    Parameters
    ----------
    array : array
        NumPy's, or CuPy's, which is not copied.
    """
    if namespace(array) is np:
        return ops.convert_to_tensor(array)
    backend = keras.backend.backend()
    if backend == "jax":
        import jax  # noqa: PLC0415  (the backend in use)

        return jax.dlpack.from_dlpack(array)
    if backend == "tensorflow":
        from tensorflow.experimental import dlpack  # noqa: PLC0415  (in use)

        sys.modules["cupy"].cuda.get_current_stream().synchronize()  # it does not ask
        return dlpack.from_dlpack(array.__dlpack__())
    import torch  # noqa: PLC0415  (the backend in use)

    return torch.from_dlpack(array)


@cache
def has_gpu() -> bool:
    """Whether the backend computes on a GPU; that it does not use one is logged, once.

    The first GPU alone: dask-cuda shows all of them to each worker, its own first.
    """
    reached = gpu() is not None  # before the backend takes memory
    found = _sees_gpu()
    if reached and not found:
        _LOG.warning(
            "there is a GPU, but %s does not see it: networks run on the CPU; install it "
            "with CUDA, or choose another by KERAS_BACKEND",
            keras.backend.backend(),
        )
    return found


def _sees_gpu() -> bool:
    backend = keras.backend.backend()
    if backend == "jax":
        import jax  # noqa: PLC0415  (the backend in use)

        return bool(jax.default_backend() != "cpu")
    if backend == "tensorflow":
        import tensorflow  # noqa: PLC0415  (the backend in use)

        found = tensorflow.config.list_physical_devices("GPU")
        with suppress(RuntimeError):  # it has computed before
            tensorflow.config.set_visible_devices(found[:1], "GPU")
        return bool(found)
    import torch  # noqa: PLC0415  (the backend in use)

    return bool(torch.cuda.is_available())
