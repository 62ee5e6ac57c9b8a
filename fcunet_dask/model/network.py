"""The two members of the family: the published network, mended, and ours."""

from collections.abc import Callable
from inspect import signature
from typing import Any, Final

import keras
from keras import layers, ops

from fcunet_dask.errors import ParameterError
from fcunet_dask.model.layers import (
    ComplexConcatenate,
    ComplexConv2D,
    DepthToSpace,
    InverseFourier,
    ProbeCorrelation,
    ProbeSpectrum,
    RootIntensity,
    SpaceToDepth,
    SpectralGate,
)

HEADS: Final = ("heat", "structure_factor", "offset_y", "offset_x", "log_deviation")
"""Channels of the output: a spot of unit height at every disk; √(|V_g|/max) around it;
distance from the pixel to the disk, px; log of the standard deviation of that, px."""

_MOMENTUM: Final = 0.98


def fcunet(
    filters: tuple[int, ...] = (24, 48, 96),
    gates: tuple[int, ...] = (8, 16, 16),
    depth: int = 1,
    late_gates: tuple[int, ...] = (),
) -> keras.Model:
    """Build ours: complex gates in Fourier space, and a small U-Net in q-space.

    Parameters
    ----------
    filters : tuple of int
        Channels of the levels, finest (half the pixels of the pattern) first.
    gates : tuple of int
        Complex channels of the `SpectralGate` of each level.
    depth : int
        Residual blocks of the deepest level and of each on the way up.
    late_gates : tuple of int
        Complex channels of a further gate before each residual block of each level on
        the way up, finest first, where what passes is no longer counts but disks; none
        if empty.

    Returns
    -------
    keras.Model
        [pattern, probe, mask] (n, rows, columns, 1), counts, counts (middle at
        ``size // 2``) and 1 = measures → (n, rows, columns, `HEADS`). Sides must be
        multiples of ``2 ** len(filters)``.

    Raises
    ------
    ParameterError
        If there is not one gate for each level.
    """
    if not filters or len(gates) != len(filters):
        msg = f"gates must have one number for each of filters {filters}, got {gates}"
        raise ParameterError(msg)
    if late_gates and len(late_gates) != len(filters) - 1:
        msg = (
            f"late_gates must have one number for each of filters {filters} but the "
            f"last, got {late_gates}"
        )
        raise ParameterError(msg)
    pattern, probe, mask = _inputs()
    image = RootIntensity()([pattern, mask])
    maps = ProbeCorrelation()([image, probe])
    image = SpaceToDepth()(layers.Concatenate()([maps, mask]))
    skips = []
    for width, gate in zip(filters, gates, strict=True):
        image = _convolved(image, width)
        gated = layers.BatchNormalization(momentum=_MOMENTUM)(SpectralGate(gate)(image))
        image = _convolved(layers.Concatenate()([image, gated]), width)
        skips.append(image)
        image = layers.MaxPooling2D()(image)
    image = _deepened(skips.pop(), filters[-1], depth)
    late = late_gates or (0,) * (len(filters) - 1)
    for width, gate in zip(filters[-2::-1], late[::-1], strict=True):
        image = layers.Conv2D(width, 1, use_bias=False)(image)
        image = layers.UpSampling2D()(image)
        image = _convolved(layers.Concatenate()([skips.pop(), image]), width)
        image = _deepened(image, width, depth, gate)
    image = layers.Conv2D(4 * len(HEADS), 3, padding="same", dtype="float32")(image)
    output = DepthToSpace(dtype="float32")(image)
    return keras.Model([pattern, probe, mask], output, name="fcunet")


def fcunet_paper(filters: int = 8, depth: int = 1, levels: int = 5) -> keras.Model:
    """Build the published network, its defects mended: a complex U-Net over spectra.

    Complex convolutions over the Fourier plane of FFT(pattern) · conj(FFT(probe)), an
    inverse transform, a real head. Mended: skips pair real with real and imaginary
    with imaginary, the decoder has the depth of the encoder at any size, no dropout at
    inference, no penalty on biases. Its heads are ours, so that both can be judged.

    Parameters
    ----------
    filters : int
        Complex channels of the finest level; they double down to 256.
    depth : int
        Convolutions in each block.
    levels : int
        Halvings of the spectrum.

    Returns
    -------
    keras.Model
        As of `fcunet`; sides must be multiples of ``2 ** levels``. What it has learnt
        about frequencies holds for the size it was trained at.
    """
    pattern, probe, mask = _inputs()
    spectrum = ProbeSpectrum()([layers.Multiply()([pattern, mask]), probe])
    spectrum = _complex_block(spectrum, filters, depth)
    skips = []
    for level in range(levels):
        spectrum = _complex_block(spectrum, min(filters << level, 256), depth)
        skips.append(spectrum)
        spectrum = layers.MaxPooling2D()(spectrum)
    for level in range(levels)[::-1]:
        spectrum = _complex_block(spectrum, min(filters << (level + 1), 256), depth)
        spectrum = layers.UpSampling2D()(spectrum)
        spectrum = ComplexConcatenate()([skips.pop(), spectrum])
    image = InverseFourier()(_complex_block(spectrum, filters, depth))
    image = layers.BatchNormalization(momentum=_MOMENTUM)(image)
    for _ in range(depth):
        image = _convolved(image, filters)
    output = layers.Conv2D(len(HEADS), 3, padding="same", dtype="float32")(image)
    return keras.Model([pattern, probe, mask], output, name="fcunet_paper")


ARCHITECTURES: Final[dict[str, Callable[..., keras.Model]]] = {
    "fcunet": fcunet,
    "fcunet_paper": fcunet_paper,
}


def build_network(name: str, **options: Any) -> keras.Model:
    """Return an untrained network by its name.

    Raises
    ------
    ParameterError
        If there is no such network, or it has no such option.
    """
    if name not in ARCHITECTURES:
        msg = f"no network {name!r}; there are {sorted(ARCHITECTURES)}"
        raise ParameterError(msg)
    known = signature(ARCHITECTURES[name]).parameters
    unknown = sorted(set(options) - set(known))
    if unknown:
        msg = f"network {name!r} has no {', '.join(unknown)}; it has {sorted(known)}"
        raise ParameterError(msg)
    return ARCHITECTURES[name](**options)


def _inputs() -> tuple[Any, Any, Any]:
    names = ("pattern", "probe", "mask")
    pattern, probe, mask = (layers.Input((None, None, 1), name=n) for n in names)
    return pattern, probe, mask


def _convolved(image: Any, width: int) -> Any:
    """3 × 3 convolution, normalisation, ReLU."""
    image = layers.Conv2D(width, 3, padding="same", use_bias=False)(image)
    image = layers.BatchNormalization(momentum=_MOMENTUM)(image)
    return layers.Activation("relu")(image)


def _deepened(image: Any, width: int, depth: int, gate: int = 0) -> Any:
    """Residual blocks, a gate before each, that begin as none (Goyal et al. 2017)."""
    for _ in range(depth):
        if gate:
            gated = layers.Conv2D(width, 1, use_bias=False)(SpectralGate(gate)(image))
            image = _changed(image, gated)
        change = layers.Conv2D(width, 3, padding="same", use_bias=False)(
            _convolved(image, width)
        )
        image = _changed(image, change)
    return image


def _changed(image: Any, change: Any) -> Any:
    """Add a change, which begins as none."""
    norm = layers.BatchNormalization(momentum=_MOMENTUM, gamma_initializer="zeros")
    return layers.Add()([image, norm(change)])


def _complex_block(image: Any, width: int, depth: int) -> Any:
    image = layers.BatchNormalization(momentum=_MOMENTUM)(image)
    for _ in range(depth):
        image = ComplexConv2D(width)(image)
        image = layers.BatchNormalization(momentum=_MOMENTUM)(image)
        image = layers.Activation("relu")(image)
    return image


def parameters(network: keras.Model) -> int:
    """Return the number of weights that are learnt."""
    return int(sum(ops.size(w) for w in network.trainable_weights))
