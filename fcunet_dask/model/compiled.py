"""One compiled function from patterns to peaks, on whatever backend Keras runs."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import keras
import numpy as np
from keras import ops

from fcunet_dask.model.heads import extract_peaks
from fcunet_dask.model.layers import ProbeCorrelation
from fcunet_dask.types import Array

Peaks = Callable[[Array, Array, Array], Array]
"""(n, rows, columns) patterns, (rows, columns) probe and mask → (n, most, fields)."""

_MIRRORS: Final = ((1,), (2,), (1, 2))
"""Axes along which a pattern is flipped."""
_PIXELS: Final = 2**16
"""Of a batch on a CPU: what stays in the caches."""
_PIXELS_GPU: Final = 2**22


def compiled_peaks(
    network: keras.Model, most: int, least: float, *, mirrored: bool = False
) -> Peaks:
    """Compile network and `extract_peaks` into one function on host arrays.

    Batches have one size, so that nothing is compiled twice; the last is filled up.

    Parameters
    ----------
    network : keras.Model
        From `build_network`, with its weights.
    most, least : int, float
        As those of `extract_peaks`.
    mirrored : bool
        Whether the network looks at four mirror images, of which the mean counts.

    Returns
    -------
    callable
        See `Peaks`; the last column is the likeness to the probe, NaN where the
        network does not measure it.
    """
    look: Callable[[Any], Any] = partial(_with_likeness(network), training=False)
    if mirrored:
        look = _mirrored(look)
    return _in_batches(lambda inputs: extract_peaks(look(inputs), most, least))


def compiled_images(network: keras.Model) -> Peaks:
    """Compile a network into a function from patterns to structure-factor images.

    Parameters
    ----------
    network : keras.Model
        From `build_network`, with its weights.

    Returns
    -------
    callable
        (n, rows, columns) patterns, (rows, columns) probe and mask → (n, rows,
        columns), |V_g| relative to the strongest.
    """

    def images(inputs: Any) -> Any:
        root = network(inputs, training=False)[..., 1]
        return ops.square(ops.maximum(root, 0.0))

    return _in_batches(images)


def _in_batches(function: Callable[[Any], Any]) -> Peaks:
    """Compile a function of (pattern, probe, mask), and give it batches of one size.

    A batch is sent before the results of the one before are fetched, so that a GPU
    computes while the host fills and fetches.
    """
    run = _compiled(function)
    pixels = _PIXELS_GPU if _has_gpu() else _PIXELS

    def batched(patterns: Array, probe: Array, mask: Array) -> Array:
        n, rows, columns = patterns.shape
        batch = int(np.clip(pixels // (rows * columns), 1, 1024))
        fixed = [np.asarray(a, np.float32)[None, ..., None] for a in (probe, mask)]
        found, before = [], None
        for i in range(0, n, batch):
            part = np.zeros((batch, rows, columns, 1), np.float32)
            part[: n - i, ..., 0] = patterns[i : i + batch]
            ahead = run(part, *fixed)  # returns at once: the device has it to do
            if before is not None:
                found.append(np.asarray(before))
            before = ahead
        return np.concatenate([*found, np.asarray(before)])[:n]

    return batched


def _mirrored(look: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Average what is seen in a pattern and in its mirror images, on their places."""

    def mean(inputs: Any) -> Any:
        pattern, probe, mask = inputs
        total = look(inputs)
        channels = ops.shape(total)[-1]
        for axes in _MIRRORS:
            # the middle of the probe stays on the pixel of no shift, size // 2
            turned = ops.roll(ops.flip(probe, axes), len(axes) * (1,), axes)
            seen = look([ops.flip(pattern, axes), turned, ops.flip(mask, axes)])
            offsets = [-1.0 if axis in axes else 1.0 for axis in (1, 2)]
            sign = ops.convert_to_tensor([1.0, 1.0, *offsets] + [1.0] * (channels - 4))
            total = total + ops.flip(seen, axes) * sign
        return total / (1 + len(_MIRRORS))

    return mean


def _with_likeness(network: keras.Model) -> keras.Model:
    """Add the likeness to the probe as a further channel of the output."""
    for layer in network.layers:
        if isinstance(layer, ProbeCorrelation):
            likeness = layer.output[..., 1:2] / 3.0
            output = keras.layers.Concatenate()([network.output, likeness])
            return keras.Model(network.inputs, output)
    return network


def _compiled(function: Callable[[Any], Any]) -> Callable[..., Any]:
    def apply(pattern: Any, probe: Any, mask: Any) -> Any:
        n = ops.shape(pattern)[0]
        mask = ops.broadcast_to(mask, (n, *ops.shape(mask)[1:]))
        probe = ops.broadcast_to(probe, (n, *ops.shape(probe)[1:]))
        return function([pattern * mask, probe, mask])

    backend = keras.backend.backend()
    if backend == "jax":
        import jax  # noqa: PLC0415  (the backend in use)

        return jax.jit(apply)
    if backend == "tensorflow":
        import tensorflow  # noqa: PLC0415  (the backend in use)

        traced = tensorflow.function(apply, jit_compile=True)

        def of_this_shape(*arrays: Array) -> Any:
            given = [tensorflow.convert_to_tensor(a) for a in arrays]
            shapes = [tensorflow.TensorSpec(a.shape, a.dtype) for a in given]
            return traced.get_concrete_function(*shapes)(*given)

        return of_this_shape
    import torch  # noqa: PLC0415  (the backend in use)

    def without_gradients(*arrays: Array) -> Array:
        with torch.no_grad():
            result = apply(*(ops.convert_to_tensor(a) for a in arrays))
            return ops.convert_to_numpy(result)

    return without_gradients


def _has_gpu() -> bool:
    """Whether the backend in use computes on a GPU."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax  # noqa: PLC0415  (the backend in use)

        return bool(jax.default_backend() != "cpu")
    if backend == "tensorflow":
        import tensorflow  # noqa: PLC0415  (the backend in use)

        return bool(tensorflow.config.list_physical_devices("GPU"))
    import torch  # noqa: PLC0415  (the backend in use)

    return bool(torch.cuda.is_available())
