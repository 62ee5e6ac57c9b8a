"""One compiled function from patterns to peaks, on whatever backend Keras runs."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import keras
import numpy as np
from keras import ops

from fcunet_dask.kernels.arrays import namespace
from fcunet_dask.model.backend import compiled, has_gpu
from fcunet_dask.model.batches import Batches
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
"""On a GPU whose free memory is not known, as CuPy is not there."""
_BYTES: Final = 1024
"""Memory of a GPU for each pixel of a batch."""


def compiled_peaks(
    network: keras.Model, most: int, least: float, *, mirrored: bool = False
) -> Peaks:
    """Compile network and `extract_peaks` into one function.

    The batches of a call have one size, and few calls have others, so that little is
    compiled twice; the last is filled up.
    Patterns may be CuPy's; peaks are on the host.

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
    """Compile a function of (pattern, probe, mask), and give it batches of one size."""
    run = compiled(function)
    batches = Batches(_PIXELS_GPU, _BYTES) if has_gpu() else Batches(_PIXELS, 0)

    def batched(patterns: Array, probe: Array, mask: Array) -> Array:
        fixed = [np.asarray(a, np.float32)[None, ..., None] for a in (probe, mask)]

        def send(part: Array, size: int) -> Any:
            xp = namespace(part)
            filled = xp.zeros((size, *part.shape[1:], 1), xp.float32)
            filled[: len(part), ..., 0] = part
            return run(filled, *fixed), filled  # kept: the backend may read it yet

        return batches(patterns, send, lambda sent: ops.convert_to_numpy(sent[0]))

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
