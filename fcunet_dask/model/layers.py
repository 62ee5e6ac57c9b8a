"""Layers of the networks, in `keras.ops` alone: the same on every backend.

Images are (batch, rows, columns, channels). A complex image is two halves of its
channels, [real… imaginary…]; spectra are kept in float32, whatever the policy.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from fcunet_dask.model.fourier import (
    Complex,
    centred,
    conjugate_product,
    forward,
    inverse,
    wrapped,
)

register = keras.saving.register_keras_serializable(package="fcunet_dask")
WINDOW = 1.35
"""Radius of the window of local normalisation over that of the disk."""


class _Float32(keras.layers.Layer):
    """A layer that computes in float32 under any policy."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})


@register
class RootIntensity(_Float32):
    """Counts → √counts, of zero mean and unit deviation over the pixels that measure.

    Poisson noise gets the same width everywhere, and the dose drops out exactly.
    """

    def call(self, inputs: list[Any]) -> Any:
        """Pattern and mask (n, rows, columns, 1) → the same."""
        pattern, mask = inputs
        root = ops.sqrt(ops.maximum(ops.cast(pattern, "float32"), 0.0)) * mask
        count = ops.maximum(_sum(mask), 1.0)
        mean = _sum(root) / count
        rest = (root - mean) * mask
        deviation = ops.sqrt(_sum(rest * rest) / count)
        return rest / ops.maximum(deviation, 1e-6 * mean + 1e-12)

    def compute_output_shape(self, shapes: Any) -> Any:
        """Return the shape of the pattern."""
        return shapes[0]


@register
class ProbeCorrelation(_Float32):
    """Fourier-space matched filter: pattern · conj(probe), plain and normalised.

    Channels: the pattern; 3 × its locally normalised correlation with √probe (Pearson's
    r in a window around the disk); its correlation with √probe, unit deviation.
    """

    def call(self, inputs: list[Any]) -> Any:
        """Pattern (of `RootIntensity`) and probe, (n, rows, columns, 1) → 3 channels."""
        image, probe = (ops.squeeze(ops.cast(i, "float32"), -1) for i in inputs)
        template, window = _template(probe)
        spectrum = forward(image)
        matched = inverse(conjugate_product(spectrum, forward(wrapped(template))))
        window_ft = forward(wrapped(window))
        mean = inverse(conjugate_product(spectrum, window_ft))
        square = inverse(conjugate_product(forward(image * image), window_ft))
        variance = ops.maximum(square - mean * mean, 0.0)
        typical = ops.mean(variance, axis=(1, 2), keepdims=True)
        normal = matched * ops.rsqrt(variance + 0.05 * typical + 1e-6)
        spread = ops.sqrt(ops.mean(matched * matched, axis=(1, 2), keepdims=True))
        return ops.stack([image, 3.0 * normal, matched / (spread + 1e-6)], axis=-1)

    def compute_output_shape(self, shapes: Any) -> Any:
        """Return the shape of the pattern with 3 channels."""
        return (*shapes[0][:-1], 3)


@register
class SpectralGate(_Float32):
    """Complex gates on the spectra of learned mixtures: a generalised matched filter.

    z = FFT(mix(x)); z σ(a log(|z|²/⟨|z|²⟩ + ε) + b) keeps phases; mixed again after the
    inverse. Equivariant to (cyclic) shifts; sharp peaks of the spectrum, the period of
    a lattice, can pass while the rest is dropped.

    Parameters
    ----------
    channels : int
        Complex channels; the output has twice as many.
    """

    def __init__(self, channels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channels = channels

    def build(self, shape: Any) -> None:
        """Make the weights."""
        n = self.channels
        glorot = keras.initializers.GlorotUniform
        self.into = self.add_weight(
            name="into", shape=(shape[-1], 2 * n), initializer=glorot()
        )
        self.slope = self.add_weight(name="slope", shape=(n,), initializer="ones")
        self.level = self.add_weight(
            name="level",
            shape=(n,),
            initializer=keras.initializers.RandomUniform(-2.0, 0.5),
        )
        self.out_of = self.add_weight(
            name="out_of", shape=(2 * n, 2 * n), initializer=glorot()
        )

    def call(self, image: Any) -> Any:
        """Return 2 × `channels` gated mixtures of `image`."""
        n = self.channels
        mixed = ops.matmul(ops.cast(image, "float32"), self.into)
        mixed = mixed - ops.mean(mixed, axis=(1, 2), keepdims=True)
        mixed = ops.transpose(mixed, (0, 3, 1, 2))
        real, imaginary = ops.fft2((mixed[:, :n], mixed[:, n:]))
        power = real * real + imaginary * imaginary
        power = power / (ops.mean(power, axis=(2, 3), keepdims=True) + 1e-8)
        slope = ops.reshape(self.slope, (1, n, 1, 1))
        level = ops.reshape(self.level, (1, n, 1, 1))
        gate = ops.sigmoid(slope * ops.log(power + 1e-4) + level)
        real, imaginary = ops.ifft2((real * gate, imaginary * gate))
        gated = ops.transpose(ops.concatenate([real, imaginary], 1), (0, 2, 3, 1))
        return ops.matmul(gated, self.out_of)

    def compute_output_shape(self, shape: Any) -> Any:
        """Return the shape of `image` with 2 × `channels`."""
        return (*shape[:-1], 2 * self.channels)

    def get_config(self) -> dict[str, Any]:
        """Return what makes the layer again."""
        return {**super().get_config(), "channels": self.channels}


@register
class SpaceToDepth(keras.layers.Layer):
    """(n, 2r, 2c, k) → (n, r, c, 4k): half the pixels, nothing lost."""

    def call(self, image: Any) -> Any:
        """Fold each 2 × 2 pixels into channels."""
        n, rows, columns, k = ops.shape(image)
        image = ops.reshape(image, (n, rows // 2, 2, columns // 2, 2, k))
        image = ops.transpose(image, (0, 1, 3, 2, 4, 5))
        return ops.reshape(image, (n, rows // 2, columns // 2, 4 * k))

    def compute_output_shape(self, shape: Any) -> Any:
        """Return half the sides and four times the channels."""
        return (shape[0], _half(shape[1]), _half(shape[2]), 4 * shape[3])


@register
class DepthToSpace(keras.layers.Layer):
    """(n, r, c, 4k) → (n, 2r, 2c, k): the inverse of `SpaceToDepth`."""

    def call(self, image: Any) -> Any:
        """Unfold channels into 2 × 2 pixels."""
        n, rows, columns, k = ops.shape(image)
        image = ops.reshape(image, (n, rows, columns, 2, 2, k // 4))
        image = ops.transpose(image, (0, 1, 3, 2, 4, 5))
        return ops.reshape(image, (n, 2 * rows, 2 * columns, k // 4))

    def compute_output_shape(self, shape: Any) -> Any:
        """Return twice the sides and a quarter of the channels."""
        return (shape[0], _twice(shape[1]), _twice(shape[2]), shape[3] // 4)


def _half(size: int | None) -> int | None:
    return None if size is None else size // 2


def _twice(size: int | None) -> int | None:
    return None if size is None else size * 2


def _sum(image: Any) -> Any:
    return ops.sum(image, axis=(1, 2), keepdims=True)


def _template(probe: Any) -> tuple[Any, Any]:
    """√probe with zero mean and unit deviation in a round window, and the window."""
    rows, columns = probe.shape[1], probe.shape[2]
    y, x = np.arange(rows) - rows // 2, np.arange(columns) - columns // 2
    square = np.asarray(y[:, None] ** 2 + x**2, np.float32)
    top = ops.max(probe, axis=(1, 2), keepdims=True)
    bright = ops.maximum(probe - 0.15 * top, 0.0)
    radius = ops.sqrt(2.0 * _sum(bright * square) / (_sum(bright) + 1e-12))
    window = ops.sigmoid((WINDOW * radius + 0.5 - np.sqrt(square)) / 0.5)
    window = window / _sum(window)
    root = ops.sqrt(ops.maximum(probe, 0.0))
    rest = root - _sum(root * window)
    scale = ops.sqrt(_sum(rest * rest * window) + 1e-12)
    return rest * window / scale, window


@register
class ProbeSpectrum(_Float32):
    """FFT(pattern) · conj(FFT(probe)), zero frequency in the middle, unit norm.

    The input of the published network (npj Comput. Mater. 8, 254 (2022)).
    """

    def call(self, inputs: list[Any]) -> Any:
        """Pattern and probe (n, rows, columns, 1) → complex (n, rows, columns, 2)."""
        image, probe = (ops.squeeze(ops.cast(i, "float32"), -1) for i in inputs)
        spectra = conjugate_product(forward(wrapped(image)), forward(wrapped(probe)))
        real, imaginary = (centred(part) for part in spectra)
        norm = ops.sum(real**2 + imaginary**2, axis=(1, 2), keepdims=True)
        norm = ops.rsqrt(norm + 1e-30)
        return ops.stack([real * norm, imaginary * norm], axis=-1)

    def compute_output_shape(self, shapes: Any) -> Any:
        """Return the shape of the pattern with 2 channels."""
        return (*shapes[0][:-1], 2)


@register
class InverseFourier(_Float32):
    """Spectra with zero frequency in the middle → the real part of their images."""

    def call(self, spectra: Any) -> Any:
        """Complex (n, rows, columns, 2k) → real (n, rows, columns, k)."""
        n = spectra.shape[-1] // 2
        spectra = ops.transpose(ops.cast(spectra, "float32"), (0, 3, 1, 2))
        spectra = wrapped(spectra)
        image = inverse(Complex(spectra[:, :n], spectra[:, n:]))
        size = image.shape[-1] * image.shape[-2]
        return ops.transpose(centred(image), (0, 2, 3, 1)) * float(np.sqrt(size))

    def compute_output_shape(self, shape: Any) -> Any:
        """Return the shape with half the channels."""
        return (*shape[:-1], shape[-1] // 2)


@register
class ComplexConv2D(keras.layers.Layer):
    """Convolution of complex images with complex kernels, y = x * (A + iB) + c.

    Parameters
    ----------
    filters : int
        Complex channels of the output.
    size : int
        Rows and columns of the kernel.
    """

    def __init__(self, filters: int, size: int = 3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters, self.size = filters, size

    def build(self, shape: Any) -> None:
        """Make the weights: real (size, size, channels, [A…, B…]) and a bias."""
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.size, self.size, shape[-1] // 2, 2 * self.filters),
            initializer=keras.initializers.VarianceScaling(1.0, "fan_in"),
        )
        self.bias = self.add_weight(
            name="bias", shape=(2 * self.filters,), initializer="zeros"
        )

    def call(self, image: Any) -> Any:
        """Convolve, zeros outside."""
        kernel = ops.cast(self.kernel, self.compute_dtype)
        real, imaginary = kernel[..., : self.filters], kernel[..., self.filters :]
        whole = ops.concatenate(
            [
                ops.concatenate([real, -imaginary], axis=2),
                ops.concatenate([imaginary, real], axis=2),
            ],
            axis=3,
        )
        bias = ops.cast(self.bias, self.compute_dtype)
        return ops.conv(image, whole, padding="same") + bias

    def compute_output_shape(self, shape: Any) -> Any:
        """Return the shape with 2 × `filters` channels."""
        return (*shape[:-1], 2 * self.filters)

    def get_config(self) -> dict[str, Any]:
        """Return what makes the layer again."""
        return {**super().get_config(), "filters": self.filters, "size": self.size}


@register
class ComplexConcatenate(keras.layers.Layer):
    """Stack complex images: real with real, imaginary with imaginary."""

    def call(self, images: list[Any]) -> Any:
        """Return one complex image with the channels of all."""
        halves = [ops.split(image, 2, axis=-1) for image in images]
        real, imaginary = zip(*halves, strict=True)
        return ops.concatenate([*real, *imaginary], axis=-1)

    def compute_output_shape(self, shapes: Any) -> Any:
        """Return the shape with all channels."""
        return (*shapes[0][:-1], sum(s[-1] for s in shapes))
