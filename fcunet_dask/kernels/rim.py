"""Where the rim of a disk is: its position from the outline alone, whatever fills it.

The maximum over c of Σ x(q) (−∇²T)(q − c), the correlation of the gradients of pattern
and aperture: fillings that vary slowly drop out.
"""

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import scipy.ndimage

from fcunet_dask.kernels.aperture import disk_image
from fcunet_dask.kernels.arrays import namespace
from fcunet_dask.kernels.camera import COUNTING, CameraNoise
from fcunet_dask.kernels.maxima import parabola_offsets
from fcunet_dask.types import Array

REACH: Final = 2
"""Farthest pixel that is looked at, from the one that is started from, px."""
_SIDE: Final = 2 * REACH + 1
_BLUR: Final = 0.5
"""σ of the Gaussian before the Laplacian, px."""


@dataclass(frozen=True, slots=True)
class Rim:
    """Kernels that find the rim of a disk at each pixel in reach.

    Attributes
    ----------
    half : int
        Half width of the square window around a disk, px.
    kernels : array
        float32 ((2 half + 1)², (2 `REACH` + 1)²).
    squares : array
        float32 ((2 half + 1)², 2): squared slopes of the middle kernel along y and x.
    """

    half: int
    kernels: Array
    squares: Array

    def on_device_of(self, array: Any) -> "Rim":
        """Return the kernels on the device of `array`."""
        xp = namespace(array)
        return replace(
            self, kernels=xp.asarray(self.kernels), squares=xp.asarray(self.squares)
        )


def disk_rim(
    radius: float,
    edge: float,
    image: Array | None = None,
    center: tuple[float, float] = (0.0, 0.0),
) -> Rim:
    """Return the kernels of a disk.

    Parameters
    ----------
    radius, edge : float
        Of the aperture and of its edge, px.
    image, center : numpy.ndarray, (float, float)
        The probe itself, plateau 1, and its centre, where it is not a round disk.
    """
    half = int(np.ceil(radius + 2.5)) + REACH
    wide = half + REACH
    size = 2 * wide + 1
    if image is None:
        aperture = disk_image((size, size), (wide, wide), radius, max(edge, 0.3))
    else:
        axes = [np.arange(-wide, wide + 1) + c for c in center]
        grid = np.meshgrid(*axes, indexing="ij")
        aperture = np.clip(scipy.ndimage.map_coordinates(image, grid, order=1), 0, None)
    kernel = -scipy.ndimage.laplace(scipy.ndimage.gaussian_filter(aperture, _BLUR))
    kernel /= np.clip(kernel, 0, None).sum()
    shifts = [divmod(k, _SIDE) for k in range(_SIDE**2)]
    kernels = [_cut(kernel, half, row, column) for row, column in shifts]
    slopes = [_cut(slope, half, REACH, REACH) ** 2 for slope in np.gradient(kernel)]
    return Rim(
        half,
        np.stack(kernels, axis=1).astype(np.float32),
        np.stack(slopes, axis=1).astype(np.float32),
    )


def _cut(kernel: Array, half: int, row: int, column: int) -> Array:
    """Window of a kernel that is moved by (row, column) − `REACH`, flat."""
    first, n = (2 * REACH - row, 2 * REACH - column), 2 * half + 1
    return kernel[first[0] : first[0] + n, first[1] : first[1] + n].ravel()


def rim_positions(
    patterns: Array,
    padded_mask: Array,
    image: Array,
    position: Array,
    rim: Rim,
    camera: CameraNoise = COUNTING,
) -> tuple[Array, Array]:
    """Find the rims nearest to some positions.

    Parameters
    ----------
    patterns : array
        (n, rows, columns), counts.
    padded_mask : array
        float32, 1 = measures, from `pad_mask` with the half width of `rim`.
    image : array
        int (m,): the pattern each disk is in.
    position : array
        float (m, 2) as (y, x), px.
    rim : Rim
        On the same device.
    camera : CameraNoise
        Of the patterns.

    Returns
    -------
    found : array
        float64 (m, 2) as (y, x), px.
    variance : array
        float64 (m, 2): of the noise, px²; infinite where there is no maximum
        within 1.5 px of the pixel of the position, or the camera does not measure all
        around it. It is
        J / H² with J = Σ (∂K)² Var x and H the curvature of the maximum.
    """
    xp = namespace(patterns)
    pixel = xp.rint(position).astype(xp.int64)
    counts = _squares(patterns, image, pixel, rim.half).astype(xp.float32)
    shifted = pixel + rim.half
    kept = _squares(padded_mask[None], xp.zeros_like(image), shifted, rim.half)
    finite = xp.isfinite(counts)
    counts = camera.undarkened(xp.where(finite, counts, 0))
    m = len(position)
    scores = (counts @ rim.kernels).reshape(m, _SIDE, _SIDE)
    inner = scores[:, 1:-1, 1:-1].reshape(m, (_SIDE - 2) ** 2)
    best = inner.argmax(axis=1)
    index = xp.stack([xp.arange(m), 1 + best // (_SIDE - 2), 1 + best % (_SIDE - 2)])
    offset = index[1:].T - REACH + parabola_offsets(scores, index)
    seen = inner.max(axis=1) >= scores.max(axis=(1, 2))
    seen &= (finite & (kept > 0)).all(axis=1)
    noise = camera.gain * xp.maximum(counts @ rim.squares, 0)
    noise += camera.readout**2 * rim.squares.sum(axis=0)
    variance = noise / _curvatures(scores, index) ** 2
    return (
        pixel + offset.astype(xp.float64),
        xp.where(seen[:, None], variance.astype(xp.float64), xp.inf),
    )


def _squares(images: Array, which: Array, pixel: Array, half: int) -> Array:
    """Pixels (m, (2 half + 1)²) around `pixel`, those at the border repeated."""
    xp = namespace(images)
    axis = xp.arange(-half, half + 1)
    row = xp.clip(pixel[:, :1] + axis, 0, images.shape[1] - 1)
    column = xp.clip(pixel[:, 1:] + axis, 0, images.shape[2] - 1)
    cut = images[which[:, None, None], row[:, :, None], column[:, None, :]]
    return cut.reshape(len(pixel), len(axis) ** 2)


def _curvatures(scores: Array, index: Array) -> Array:
    """−∂²/∂y², −∂²/∂x² of maps at their maxima, (m, 2)."""
    xp = namespace(scores)
    n, y, x = index
    twice = 2 * scores[n, y, x]
    along_y = twice - scores[n, y - 1, x] - scores[n, y + 1, x]
    along_x = twice - scores[n, y, x - 1] - scores[n, y, x + 1]
    return xp.maximum(xp.stack([along_y, along_x], axis=-1), 1e-12)
