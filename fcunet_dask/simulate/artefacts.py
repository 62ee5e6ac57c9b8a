"""What a real experiment adds to a clean pattern, at random but seeded.

The order is that of nature: incoherent sums → warp → background → softness → point
spread → beam stop → dose → shared noise → gain and dark → bad pixels → quantisation. The
truth is moved analytically; a label is never resampled.
"""

from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np

from fcunet_dask.errors import ParameterError
from fcunet_dask.kernels.detector import (
    Distortion,
    beam_stop,
    diffuse,
    halo,
    inelastic,
    point_spread,
    warp,
)
from fcunet_dask.types import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """A detector with its fixed faults.

    Parameters
    ----------
    seed : int
        Which specimen of the camera: its gain map and its bad pixels.
    gain_spread : float
        Relative standard deviation of the gain.
    offset, read_noise : float
        Dark level and its noise, counts.
    hot, dead : float
        Shares of pixels.
    bits : int
        Counts are cut at 2^bits − 1.
    sigma : float
        Gaussian point spread, px.
    tail, reach : float
        Share and range (px) of its exponential tail.
    spread : bool
        Whether each electron gives light to many pixels, so that the noise of
        neighbours is alike (scintillators), or is counted in one.
    gain : float
        Counts of one electron.
    """

    seed: int = 0
    gain_spread: float = 0.0
    offset: float = 0.0
    read_noise: float = 0.0
    hot: float = 0.0
    dead: float = 0.0
    bits: int = 16
    sigma: float = 0.0
    tail: float = 0.0
    reach: float = 5.0
    spread: bool = False
    gain: float = 1.0

    def blurred(self, images: Array) -> Array:
        """Spread `images` (..., q_y, q_x) as this camera does."""
        if not (self.sigma or self.tail):
            return images
        return point_spread(images, self.sigma, self.tail, self.reach)

    def faults(self, shape: tuple[int, int]) -> tuple[Array, Array, Array]:
        """Return gain (float32), hot and dead pixels (bool) of this camera: `shape`."""
        return _faults(self.seed, self.gain_spread, self.hot, self.dead, shape)


@lru_cache(maxsize=256)
def _faults(
    seed: int, spread: float, hot: float, dead: float, shape: tuple[int, int]
) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng([seed, 77])
    gain = 1 + spread * rng.standard_normal(shape, dtype=np.float32)
    draw = rng.random(shape)
    faults = np.maximum(gain, 0.0), draw < hot, draw > 1 - dead
    for array in faults:
        array.setflags(write=False)
    return faults


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefacts:
    """Everything that happens to one pattern; the default is nothing.

    Parameters
    ----------
    dose : float
        Incident electrons; 0 leaves intensities as they are, without noise.
    probe_dose : float
        Electrons in the vacuum probe; 0 is noise-free.
    distortion : Distortion
        Ellipse, scale, barrel and descan.
    loss, loss_width, loss_cut : float
        Share w and q_E, q_c (1/Å) of inelastic scattering.
    thermal, thermal_width : float
        Share of the absorbed intensity that comes back as a broad background, and
        its σ, 1/Å.
    amorphous : float
        Share of the intensity in the rings of an amorphous layer.
    rings : tuple of (float, float, float)
        q_k, σ_k (1/Å) and weight of each.
    stop_width, stop_angle, stop_radius, stop_transmission : float
        Beam stop: px, rad, px, share let through; a radius of 0 is none.
    second_share : float
        Share of the intensity from a second grain, 0 to below 1.
    soft : float
        σ, px, by which disks are blurred before they reach the camera: precession that
        is not undone, defocused or incoherent illumination.
    camera : Camera
        The detector.
    """

    dose: float = 0.0
    probe_dose: float = 0.0
    distortion: Distortion = field(default_factory=Distortion)
    loss: float = 0.0
    loss_width: float = 0.01
    loss_cut: float = 1.0
    thermal: float = 0.0
    thermal_width: float = 1.0
    amorphous: float = 0.0
    rings: tuple[tuple[float, float, float], ...] = ((0.48, 0.08, 1.0),)
    stop_width: float = 0.0
    stop_angle: float = 0.0
    stop_radius: float = 0.0
    stop_transmission: float = 0.0
    second_share: float = 0.0
    soft: float = 0.0
    camera: Camera = field(default_factory=Camera)


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """A pattern as a camera delivers it, and what is true of it.

    Parameters
    ----------
    pattern : array
        float32 (q_y, q_x), counts.
    probe : array
        float32 (q_y, q_x), counts of the vacuum probe on the same camera.
    mask : array
        bool (q_y, q_x): pixels that measure (no bad pixels, no shadow).
    q : array
        float64 (n, 2) as (y, x): where the reflections are on the detector, 1/Å.
    strength : array
        float64 (n,) relative to the first grain.
    """

    pattern: Array
    probe: Array
    mask: Array
    q: Array
    strength: Array


@dataclass(frozen=True, slots=True, eq=False)
class Clean:
    """A clean pattern with its truth, as a library holds it.

    Parameters
    ----------
    pattern, probe : array
        float32 (q_y, q_x), shares of the incident beam.
    q : array
        (n, 2) as (y, x), 1/Å, the direct beam first.
    strength : array
        (n,), V.
    q_step : float
        1/Å.
    """

    pattern: Array
    probe: Array
    q: Array
    strength: Array
    q_step: float


def observe(
    clean: Clean,
    artefacts: Artefacts,
    rng: np.random.Generator,
    second: Clean | None = None,
) -> Observation:
    """Pattern as it would be measured.

    Parameters
    ----------
    clean : Clean
        What was simulated.
    artefacts : Artefacts
        What happens to it.
    rng : numpy.random.Generator
        Noise; everything else is in `artefacts`.
    second : Clean or None
        The second grain, at the same sampling; needed for a ``second_share``.

    Returns
    -------
    Observation

    Raises
    ------
    ParameterError
        If the second grain is missing or has another size or sampling.
    """
    return expose(expect(clean, artefacts, second), artefacts, rng)


def expect(
    clean: Clean, artefacts: Artefacts, second: Clean | None = None
) -> Observation:
    """Pattern as it falls on the camera: no noise, none of the camera's own faults.

    Parameters
    ----------
    clean, artefacts, second
        As those of `observe`.

    Returns
    -------
    Observation
        Shares of the incident beam instead of counts.

    Raises
    ------
    ParameterError
        If the second grain is missing or has another size or sampling.
    """
    image, q, strength = _mixture(clean, artefacts, second)
    probe = clean.probe / clean.probe.sum()
    bend = artefacts.distortion
    if bend != Distortion():
        image, probe = warp(image, bend), warp(probe, replace(bend, shift=(0.0, 0.0)))
    half = max(image.shape) / 2 * clean.q_step
    image = _background(image, probe, clean.q_step, artefacts)
    both = np.stack([image, probe])
    if artefacts.soft:
        both = point_spread(both, artefacts.soft, 0.0, 1.0)
    image, probe = np.maximum(artefacts.camera.blurred(both), 0)
    image, mask = _shadow(image, artefacts)
    return Observation(image, probe, mask, bend.apply(q, half), strength)


def expose(
    expected: Observation, artefacts: Artefacts, rng: np.random.Generator
) -> Observation:
    """Count what falls on the camera.

    Parameters
    ----------
    expected : Observation
        From `expect`, with the same artefacts.
    artefacts, rng
        As those of `observe`.

    Returns
    -------
    Observation
        Without a dose, the shares as they are.
    """
    camera, image = artefacts.camera, expected.pattern
    gain, hot, dead = camera.faults(image.shape)
    pattern = _count(image, artefacts.dose, camera, gain, rng)
    vacuum = _count(expected.probe, artefacts.probe_dose, camera, gain, rng)
    if artefacts.dose:
        bright = rng.uniform(0.5, 1, image.shape) * _top(camera)
        pattern = np.rint(np.where(hot, bright, pattern))
    pattern = np.where(dead, 0, pattern).astype(np.float32)
    return replace(
        expected,
        pattern=pattern,
        probe=vacuum.astype(np.float32),
        mask=expected.mask & ~hot & ~dead,
    )


def _mixture(
    clean: Clean, artefacts: Artefacts, second: Clean | None
) -> tuple[Array, Array, Array]:
    """Pattern, positions and strengths of one grain, or of two on top of each other."""
    share = artefacts.second_share
    if not share:
        return clean.pattern, np.asarray(clean.q), np.asarray(clean.strength)
    if second is None:
        msg = "artefacts.second_share needs the pattern of a second grain: second=…"
        raise ParameterError(msg)
    if second.pattern.shape != clean.pattern.shape or second.q_step != clean.q_step:
        msg = (
            f"the second grain has {second.pattern.shape} px of {second.q_step:g} 1/Å, "
            f"the first {clean.pattern.shape} px of {clean.q_step:g} 1/Å"
        )
        raise ParameterError(msg)
    image = (1 - share) * clean.pattern + share * second.pattern
    # amplitudes go with the root of the intensity; the direct beam is counted once
    factor = np.sqrt(share / (1 - share))
    q = np.concatenate([clean.q, second.q[1:]])
    strength = np.concatenate([clean.strength, factor * second.strength[1:]])
    return image, q, strength


def _background(
    image: Array, probe: Array, q_step: float, artefacts: Artefacts
) -> Array:
    """Add inelastic, thermal diffuse and amorphous scattering."""
    absorbed = max(0.0, 1 - float(image.sum()))
    if artefacts.loss:
        image = inelastic(
            image, q_step, artefacts.loss, artefacts.loss_width, artefacts.loss_cut
        )
    if artefacts.thermal:
        broad = diffuse(image.shape, q_step, artefacts.thermal_width)
        image = image + artefacts.thermal * absorbed * broad
    if artefacts.amorphous:
        rings = halo(image.shape, q_step, np.array(artefacts.rings), probe)
        share = artefacts.amorphous
        image = (1 - share) * image + share * image.sum() * rings
    return np.maximum(image, 0)


def _shadow(image: Array, artefacts: Artefacts) -> tuple[Array, Array]:
    """Image behind the beam stop, and the pixels outside its shadow."""
    if not artefacts.stop_radius:
        return image, np.ones(image.shape, dtype=bool)
    shadow = beam_stop(
        image.shape,
        artefacts.stop_width,
        artefacts.stop_angle,
        artefacts.stop_radius,
        tuple(s * max(image.shape) / 2 for s in artefacts.distortion.shift),
    )
    return np.where(shadow, artefacts.stop_transmission * image, image), ~shadow


def _top(camera: Camera) -> float:
    return float(2**camera.bits - 1)


def _count(
    image: Array, dose: float, camera: Camera, gain: Array, rng: np.random.Generator
) -> Array:
    """Expose: Poisson, gain, dark level and its noise, saturation."""
    if not dose:
        return image
    expected = np.maximum(image, 0).astype(float) * dose
    electrons = np.asarray(rng.poisson(expected), float)
    if camera.spread:
        electrons = np.maximum(expected + camera.blurred(electrons - expected), 0)
    counts = camera.gain * electrons * gain + camera.offset
    if camera.read_noise:
        counts = counts + camera.read_noise * rng.standard_normal(image.shape)
    return np.asarray(np.clip(np.rint(counts), 0, _top(camera)))
