"""The focused probe: aperture, aberrations and position."""

import math
from dataclasses import dataclass

import numpy as np

from fcunet_dask.errors import ParameterError
from fcunet_dask.types import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A convergent probe.

    Parameters
    ----------
    semiangle : float
        Convergence semi-angle α, mrad.
    defocus : float
        C₁, Å; positive is underfocus.
    spherical : float
        C_s, mm.
    astigmatism : float
        Twofold A₁, Å.
    astigmatism_angle : float
        Its azimuth, rad.
    rings : int
        Opaque rings of a patterned (bullseye) aperture; 0 is a plain disk.
    spokes : int
        Opaque spokes of a patterned aperture.
    shift : (float, float)
        Position (y, x) from the middle of the box, Å.

    Raises
    ------
    ParameterError
        If the semi-angle is not positive, or rings or spokes are negative.
    """

    semiangle: float
    defocus: float = 0.0
    spherical: float = 0.0
    astigmatism: float = 0.0
    astigmatism_angle: float = 0.0
    rings: int = 0
    spokes: int = 0
    shift: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        if not 0 < self.semiangle < 200:
            msg = f"semiangle must lie in (0, 200) mrad, got {self.semiangle!r}"
            raise ParameterError(msg)
        if self.rings < 0 or self.spokes < 0:
            msg = f"rings and spokes must not be negative, got {self}"
            raise ParameterError(msg)


def aberration(probe: Probe, q_y: Array, q_x: Array, wavelength: float) -> Array:
    """Aberration phase χ(q), rad.

    χ = −πλC₁q² + ½πλ³C_s q⁴ − πλA₁q² cos 2(φ − φ_A): Kirkland (2010), eq. 2.10 (there
    the sign of C₁ is that of underfocus, too).

    Parameters
    ----------
    probe : Probe
        Coefficients.
    q_y, q_x : array
        Any shapes that broadcast, 1/Å.
    wavelength : float
        Å.

    Returns
    -------
    array
        float64, rad.
    """
    q2 = q_y**2 + q_x**2
    twofold = np.cos(2 * (np.arctan2(q_y, q_x) - probe.astigmatism_angle))
    bend = 0.5 * probe.spherical * 1e7 * wavelength**2 * q2
    focus = probe.defocus + probe.astigmatism * twofold
    return np.asarray(math.pi * wavelength * q2 * (bend - focus))


def aperture(probe: Probe, radius: float, y: Array, x: Array) -> Array:
    """Transmission of the probe-forming aperture, edges averaged over a pixel.

    A patterned aperture has `rings` opaque rings and `spokes` opaque spokes of a tenth
    of the radius each (Zeltmann et al., Ultramicroscopy 209, 112890 (2020)).

    Parameters
    ----------
    probe : Probe
        Its rings and spokes are used.
    radius : float
        α/λ, px.
    y, x : array
        Distances from the axis, px; they broadcast.

    Returns
    -------
    array
        float64, 0 to 1: the share of the intensity.
    """
    r = np.hypot(y, x)
    open_ = np.clip(radius - r + 0.5, 0, 1)
    width = 0.1 * radius
    for ring in range(probe.rings):
        middle = radius * (ring + 1) / (probe.rings + 1)
        open_ = open_ * (1 - np.clip(width / 2 - np.abs(r - middle) + 0.5, 0, 1))
    for spoke in range(probe.spokes):
        angle = math.pi * spoke / max(probe.spokes, 1)
        distance = np.abs(y * math.cos(angle) - x * math.sin(angle))
        open_ = open_ * (1 - np.clip(width / 2 - distance + 0.5, 0, 1))
    return np.asarray(open_)


def probe_wave(
    probe: Probe, frequencies: Array, box: float, wavelength: float
) -> Array:
    """Spectrum of the probe in a square box, Σ|ψ|² = 1.

    Parameters
    ----------
    probe : Probe
        What it is and where; without a shift it is in the middle of the box.
    frequencies : array
        (n,) along one side, zero at n // 2, 1/Å.
    box : float
        Side of the box, Å.
    wavelength : float
        Å.

    Returns
    -------
    array
        complex64 (n, n).

    Raises
    ------
    ParameterError
        If the aperture does not fit on the detector, or is smaller than a pixel.
    """
    radius = probe.semiangle * 1e-3 / wavelength * box
    if not 0.75 < radius < len(frequencies) / 2 - 1:
        msg = (
            f"a probe of {probe.semiangle:g} mrad has a radius of {radius:.2f} px; "
            f"0.75 to {len(frequencies) / 2 - 1:g} can be simulated: change the "
            "semi-angle, the voltage or the box"
        )
        raise ParameterError(msg)
    q_y, q_x = frequencies[:, None], frequencies[None]
    amplitude = np.sqrt(aperture(probe, radius, q_y * box, q_x * box))
    y, x = box / 2 + probe.shift[0], box / 2 + probe.shift[1]
    turns = q_y * y + q_x * x + aberration(probe, q_y, q_x, wavelength) / (2 * math.pi)
    wave = amplitude * np.exp(-2j * math.pi * turns)
    wave /= np.sqrt((amplitude**2).sum())
    return np.asarray(wave.astype(np.complex64))
