"""What microscope and camera do to a diffraction pattern: linear laws and geometry.

Patterns are (..., q_y, q_x) with the unscattered beam at pixel ``size // 2``. Kernels
are applied by FFT: what leaves one side of the image enters at the other.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy.fft
import scipy.ndimage

from fcunet_dask.types import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Distortion:
    """How scattering vectors land on the detector.

    q' = (1 + δ) R(φ) diag(1 + ε/2, 1 − ε/2) R(−φ) q (1 + k |q|²/q_m²) + q₀, with the
    first axis of the ellipse at the angle φ from +x towards +y.

    Parameters
    ----------
    ellipse : float
        ε, difference of the axes.
    angle : float
        φ, rad.
    scale : float
        δ.
    barrel : float
        k: relative change of length at the radius q_m.
    shift : (float, float)
        q₀ as (y, x), in units of q_m.
    """

    ellipse: float = 0.0
    angle: float = 0.0
    scale: float = 0.0
    barrel: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)

    def matrix(self) -> Array:
        """Return the linear part for (y, x) vectors: float64 (2, 2)."""
        c, s = np.cos(self.angle), np.sin(self.angle)
        turn = np.array([[c, s], [-s, c]])  # columns: the minor and the major axis
        axes = np.diag([1 - self.ellipse / 2, 1 + self.ellipse / 2])
        return np.asarray((1 + self.scale) * turn @ axes @ turn.T)

    def apply(self, q: Array, q_max: float) -> Array:
        """Return where scattering vectors land: the truth, moved analytically.

        Parameters
        ----------
        q : array
            (..., 2) as (y, x), in any unit.
        q_max : float
            q_m in that unit.

        Returns
        -------
        numpy.ndarray
            float64 (..., 2).
        """
        y, x = np.moveaxis(np.asarray(q, dtype=float), -1, 0)
        bend = 1 + self.barrel * (y * y + x * x) / q_max**2
        (yy, yx), (xy, xx) = self.matrix()
        y, x = y * bend, x * bend
        down, right = (s * q_max for s in self.shift)
        return np.stack([yy * y + yx * x + down, xy * y + xx * x + right], -1)

    def invert(self, q: Array, q_max: float) -> Array:
        """Return which scattering vectors land at `q`, by fixed-point iteration.

        Parameters and result as those of `apply`.
        """
        y, x = np.moveaxis(np.asarray(q, dtype=float), -1, 0)
        y, x = y - self.shift[0] * q_max, x - self.shift[1] * q_max
        (yy, yx), (xy, xx) = np.linalg.inv(self.matrix())
        y, x = yy * y + yx * x, xy * y + xx * x
        bend = np.ones(())
        for _ in range(5 if self.barrel else 0):
            bend = 1 + self.barrel * (y * y + x * x) / (bend * q_max) ** 2
        return np.stack([y / bend, x / bend], -1)


def warp(patterns: Array, distortion: Distortion) -> Array:
    """Distorted patterns, counts kept: I'(q') = I(q) |∂q/∂q'|.

    Parameters
    ----------
    patterns : array
        (..., q_y, q_x).
    distortion : Distortion
        Its q_m is half the side of the detector.

    Returns
    -------
    numpy.ndarray
        float32, linearly interpolated; 0 outside the original.
    """
    rows, columns = patterns.shape[-2:]
    half = max(rows, columns) / 2
    grid = np.stack(
        np.meshgrid(
            np.arange(rows) - rows // 2,
            np.arange(columns) - columns // 2,
            indexing="ij",
        ),
        -1,
    )
    source = distortion.invert(grid, half)
    d_y, d_x = np.gradient(source, axis=(0, 1))
    area = np.abs(d_y[..., 0] * d_x[..., 1] - d_y[..., 1] * d_x[..., 0])
    place = (
        np.moveaxis(source, -1, 0) + np.array([rows // 2, columns // 2])[:, None, None]
    )
    flat = np.asarray(patterns, np.float32).reshape(-1, rows, columns)
    moved = [
        scipy.ndimage.map_coordinates(p, place, order=1, cval=0.0) * area for p in flat
    ]
    return np.asarray(moved, np.float32).reshape(patterns.shape)


@lru_cache(maxsize=8)
def _radius(shape: tuple[int, ...]) -> Array:
    """Distance from the origin of an FFT-ordered image, px."""
    axes = [np.fft.fftfreq(n, 1 / n) for n in shape[-2:]]
    radius = np.hypot(axes[0][:, None], axes[1])
    radius.setflags(write=False)
    return np.asarray(radius)


def _convolve(patterns: Array, kernel: Array) -> Array:
    """Circular convolution with a kernel in FFT order, over the last two axes."""
    shape = patterns.shape[-2:]
    spectrum = scipy.fft.rfft2(np.asarray(patterns, np.float32))
    spectrum *= scipy.fft.rfft2(kernel.astype(np.float32))
    return np.asarray(scipy.fft.irfft2(spectrum, s=shape))


def inelastic(
    patterns: Array, q_step: float, weight: float, q_e: float, q_cut: float
) -> Array:
    """Plasmon losses: a share of the intensity spread by a Lorentzian.

    p ← (1 − w) p + w p ⊗ L, L ∝ 1/(q² + q_E²) for q < q_c, ΣL = 1: Egerton, *Electron
    Energy-Loss Spectroscopy* (2011), eq. 3.16. Each pixel of L is its mean over the
    pixel near the peak, which may be narrower than a pixel.

    Parameters
    ----------
    patterns : array
        (..., q_y, q_x).
    q_step : float
        1/Å.
    weight : float
        w = 1 − exp(−t/Λ).
    q_e, q_cut : float
        q_E and q_c, 1/Å.

    Returns
    -------
    numpy.ndarray
        float32, total unchanged.
    """
    r = _radius(patterns.shape[-2:]) * q_step
    kernel = np.where(r < q_cut, 1 / (r**2 + q_e**2), 0)
    # the mean of the peak over its own pixel, as a disk of the same area
    area = q_step**2 / np.pi
    kernel[0, 0] = np.log1p(area / q_e**2) / area
    kernel /= kernel.sum()
    return np.asarray((1 - weight) * patterns + weight * _convolve(patterns, kernel))


def point_spread(patterns: Array, sigma: float, tail: float, reach: float) -> Array:
    """Camera's point spread: a Gaussian and the tail of light spread in a scintillator.

    p ← p ⊗ [(1 − β) G_σ + β e^{−r/r₀}], both of unit sum.

    Parameters
    ----------
    patterns : array
        (..., q_y, q_x).
    sigma : float
        σ, px; 0 is none.
    tail, reach : float
        β and r₀ (px).

    Returns
    -------
    numpy.ndarray
        float32, total unchanged.
    """
    r = _radius(patterns.shape[-2:])
    spread = np.exp(-r / reach)
    rows, columns = patterns.shape[-2:]
    f2 = np.fft.fftfreq(rows)[:, None] ** 2 + np.fft.rfftfreq(columns) ** 2
    transfer = (1 - tail) * np.exp(-2 * (np.pi * sigma) ** 2 * f2)
    transfer = transfer + tail * scipy.fft.rfft2(spread / spread.sum())
    spectrum = scipy.fft.rfft2(np.asarray(patterns, np.float32))
    spectrum *= transfer.astype(np.complex64)
    return np.asarray(scipy.fft.irfft2(spectrum, s=patterns.shape[-2:]))


def diffuse(shape: tuple[int, int], q_step: float, width: float) -> Array:
    """Thermal diffuse background: a broad Gaussian of unit sum.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns.
    q_step, width : float
        Pixel and σ, 1/Å.

    Returns
    -------
    numpy.ndarray
        float32 `shape`.
    """
    r = np.fft.fftshift(_radius(shape)) * q_step
    image = np.exp(-((r / width) ** 2) / 2)
    return np.asarray(image / image.sum(), dtype=np.float32)


def halo(shape: tuple[int, int], q_step: float, rings: Array, probe: Array) -> Array:
    """Rings of an amorphous layer, broadened by the probe, of unit sum.

    Σ_k a_k exp(−(q − q_k)²/2σ_k²) ⊗ probe.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns.
    q_step : float
        1/Å.
    rings : array
        (n, 3): q_k and σ_k, 1/Å, and a_k.
    probe : array
        `shape`, any scale.

    Returns
    -------
    numpy.ndarray
        float32 `shape`.
    """
    r = _radius(shape) * q_step
    kernel = sum(a * np.exp(-(((r - q) / s) ** 2) / 2) for q, s, a in np.asarray(rings))
    image = np.maximum(_convolve(probe, np.asarray(kernel)), 0)
    return np.asarray(image / image.sum(), dtype=np.float32)


def beam_stop(
    shape: tuple[int, int],
    width: float,
    angle: float,
    radius: float,
    center: tuple[float, float] = (0.0, 0.0),
) -> Array:
    """Shadow of a bar that enters from one side and ends in a disk over the beam.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns.
    width : float
        Of the bar, px; 0 leaves the disk alone.
    angle : float
        Direction the bar comes from, from +x towards +y, rad.
    radius : float
        Of the disk, px.
    center : (float, float)
        Of the disk (y, x), px from the middle of the detector.

    Returns
    -------
    numpy.ndarray
        bool `shape`, True in the shadow.
    """
    y = np.arange(shape[0])[:, None] - shape[0] // 2 - center[0]
    x = np.arange(shape[1])[None] - shape[1] // 2 - center[1]
    along = y * np.sin(angle) + x * np.cos(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    bar = (along > 0) & (np.abs(across) <= width / 2)
    return np.asarray(bar | (np.hypot(y, x) <= radius))
