"""Fourier transforms of images (..., rows, columns), as pairs of real tensors.

Keras has no complex tensors in layers, weights or mixed precision; two real ones do.
"""

from typing import Any, NamedTuple

from keras import ops


class Complex(NamedTuple):
    """Real and imaginary part."""

    real: Any
    imaginary: Any


def forward(image: Any) -> Complex:
    """Spectrum of a real image."""
    return Complex(*ops.fft2((image, ops.zeros_like(image))))


def inverse(spectrum: Complex) -> Any:
    """Real part of the image of a spectrum."""
    return ops.ifft2(tuple(spectrum))[0]


def conjugate_product(a: Complex, b: Complex) -> Complex:
    """Return a · conj(b), the spectrum of the correlation of their images."""
    return Complex(
        a.real * b.real + a.imaginary * b.imaginary,
        a.imaginary * b.real - a.real * b.imaginary,
    )


def wrapped(image: Any) -> Any:
    """Move the middle of the last two axes to pixel (0, 0)."""
    rows, columns = image.shape[-2:]
    return ops.roll(image, (-(rows // 2), -(columns // 2)), axis=(-2, -1))


def centred(image: Any) -> Any:
    """Move pixel (0, 0) of the last two axes to the middle."""
    rows, columns = image.shape[-2:]
    return ops.roll(image, (rows // 2, columns // 2), axis=(-2, -1))
