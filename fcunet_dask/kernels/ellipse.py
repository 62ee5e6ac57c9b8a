"""Elliptic distortion and scale from rings."""

from typing import Final

import numpy as np
import scipy.ndimage

from fcunet_dask.errors import AnalysisError
from fcunet_dask.types import Array

_ANGLES: Final = 72
_SMOOTH: Final = 1.5
"""σ of the smoothing over directions, in their steps."""
_WIDE: Final = 10.0
"""σ of the smoothing over scales, in their steps, without which the grid of the pixels
holds the maxima; it moves all of them together, so the scale itself is found without."""
_REACH: Final = 0.1
"""Largest relative distance of a direction's scale from the first guess."""
_FAINT: Final = 0.02
"""Of the strongest direction: what is below is smoothed over from others."""

_STRETCH: Final = 0.12
"""Largest relative stretch of the first guess …"""
_STRETCH_STEP: Final = 0.02
_STEP: Final = 0.005
"""… and the step of its scales, and of the radii of its profiles: logarithms."""
_INNERMOST: Final = 4.0
"""Where profiles begin, px."""
_LOCAL: Final = 0.1
"""σ, of the logarithm of the radius, of the mean that a profile is divided by."""
_FLOOR: Final = 0.02
"""Added to that, of the profile's mean: nothing is not divided by nothing."""
_TOOTH: Final = 0.02, 1.2
"""σ of a ring: of its radius, and px at least."""
_INSIDE: Final = 0.6
"""Of the radius of the first ring: from there outwards, only rings are expected."""
_ALIKE: Final = 0.5
"""Least correlation of profile and rings, times the share of rings that are seen."""
_RIVAL: Final = 0.9
"""Of the best correlation: another scale that reaches it is as good."""


def ring_transform(
    image: Array, radii: Array, within: tuple[float, float] = (0.5, 2.0)
) -> tuple[Array, float, float]:
    """Linear map that makes rings round and of the given radii.

    Isotropic scale and ellipse are guessed first, from the profile of the whole image
    (`_first_guess`). Then, along each of 72 directions, the image is matched, on a
    logarithmic radius, to the comb of the radii; the scale r(φ) that fits best is an
    ellipse r = s (1 + a cos 2φ + b sin 2φ), fitted robustly.

    Parameters
    ----------
    image : numpy.ndarray
        (rows, columns), zero frequency in the middle pixel ``size // 2``.
    radii : numpy.ndarray
        Radii of the rings, px, ascending.
    within : (float, float)
        Least and largest measured over given radius that is tried; at 12 % from either
        on, the stretch that is looked for, what is found is not believed.

    Returns
    -------
    tuple
        Transform (2, 2), y before x, of determinant 1; true over measured scale;
        relative residual.

    Raises
    ------
    AnalysisError
        If nothing matches, two scales do, or one at an end of those tried, or less than
        a quarter of the directions sees the rings.
    """
    smooth = scipy.ndimage.gaussian_filter(np.asarray(image, float), 1.0)
    angles = np.arange(_ANGLES) * 2 * np.pi / _ANGLES
    design = np.stack(
        [np.ones(_ANGLES), np.cos(2 * angles), np.sin(2 * angles)], axis=-1
    )
    guess = _first_guess(smooth, radii, within)
    scales = np.exp(np.linspace(-_REACH, _REACH, 101))
    r = radii[:, None, None] * scales[:, None] * np.exp(design @ guess)
    on_rings = _along(smooth, r).sum(axis=0)
    sector = scipy.ndimage.gaussian_filter1d(on_rings, _SMOOTH, axis=1, mode="wrap")
    wide = scipy.ndimage.gaussian_filter1d(sector, _WIDE, axis=0)
    best = sector.argmax(axis=0)
    contrast = sector.max(axis=0) / np.maximum(np.median(sector, axis=0), 1e-30)
    seen = (contrast > 1.1) & (sector.max(axis=0) > _FAINT * sector.max())
    seen &= (best > 0) & (best < len(scales) - 1)
    if seen.sum() < _ANGLES // 4:
        msg = f"of {_ANGLES} directions {int(seen.sum())} see rings: it takes a quarter"
        raise AnalysisError(msg)
    fit, weight, residual = _robust(_log_maximum(wide, scales), design, seen)
    rest = _log_maximum(sector, scales) - design[:, 1:] @ fit[1:]
    fit[0] = np.average(rest, weights=weight)
    fit[1:] /= np.exp(-2 * (_SMOOTH * 2 * np.pi / _ANGLES) ** 2)  # what smoothing took
    fit += guess
    # x² − y² and 2xy parts of the logarithm of the stretch, in (y, x)
    logarithm = np.array([[-fit[1], fit[2]], [fit[2], fit[1]]])
    values, vectors = np.linalg.eigh(-logarithm)
    transform = vectors @ np.diag(np.exp(values)) @ vectors.T
    # the mean of log r over an ellipse of axes e^±l is −log cosh l
    scale = fit[0] + np.log(np.cosh(np.hypot(*fit[1:])))
    return transform, float(np.exp(-scale)), residual


def _along(image: Array, r: Array, mode: str = "constant") -> Array:
    """Image at the radii `r` (..., directions), px, from its middle."""
    angles = np.arange(_ANGLES) * 2 * np.pi / _ANGLES
    y, x = (s // 2 for s in image.shape)
    places = [y + r * np.sin(angles), x + r * np.cos(angles)]
    return np.asarray(scipy.ndimage.map_coordinates(image, places, order=1, mode=mode))


def _robust(measured: Array, design: Array, seen: Array) -> tuple[Array, Array, float]:
    """Fit of the ellipse by Tukey's weights: coefficients, weights and residual."""
    weight = seen.astype(float)
    for _ in range(8):
        root = np.sqrt(weight)
        fit = np.linalg.lstsq(design * root[:, None], measured * root, rcond=None)[0]
        rest = np.abs(measured - design @ fit)
        width = 4.7 * np.median(rest[seen]) / 0.6745 + 1e-6
        weight = seen * np.maximum(1 - (rest / width) ** 2, 0) ** 2
    residual = float(np.sqrt((weight * rest**2).sum() / max(weight.sum(), 1e-9)))
    return fit, weight, residual


def _log_maximum(values: Array, scales: Array) -> Array:
    """Logarithm of the scale at the maximum of each column, by a parabola."""
    inner = np.clip(values.argmax(axis=0), 1, len(values) - 2)
    column = np.arange(values.shape[1])
    before, at, after = (values[inner + i, column] for i in (-1, 0, 1))
    curvature = np.maximum(2 * at - before - after, 1e-30)
    offset = np.clip(0.5 * (after - before) / curvature, -0.5, 0.5)
    return np.asarray(np.log(scales[inner]) + offset * np.log(scales[1] / scales[0]))


def _first_guess(image: Array, radii: Array, within: tuple[float, float]) -> Array:
    """Coefficients (3,) of the ellipse log r = c₀ + c₁ cos 2φ + c₂ sin 2φ.

    Radial profiles straightened by each stretch of a grid, their rings made about equally
    high, are correlated with the comb of the radii at each scale. That asks for all
    rings of the comb and for no others between them.
    """
    outermost = max(min(image.shape) // 2, 2 * _INNERMOST)
    radius = np.exp(np.arange(np.log(_INNERMOST), np.log(outermost), _STEP))
    axis = np.arange(-_STRETCH, _STRETCH + 1e-9, _STRETCH_STEP)
    stretches = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    stretches = stretches[np.hypot(*stretches.T) < _STRETCH + 1e-9]
    profiles = np.array([_profile(image, radius, stretch) for stretch in stretches])
    scales = np.exp(np.arange(np.log(within[0]), np.log(within[1]), _STEP))
    alike = np.array([_alike(profiles, radius, radii * s) for s in scales])
    score = alike.max(axis=1)
    best = int(score.argmax())
    if not score[best] > _ALIKE:
        msg = f"they are like its radial profile by {score[best]:.2f} at most, not {_ALIKE}"
        raise AnalysisError(msg)
    ends = within[0] * np.exp(_STRETCH), within[1] / np.exp(_STRETCH)
    if not ends[0] < scales[best] < ends[1]:
        msg = (
            f"rings are {scales[best]:.3g} times as large as given, at an end of "
            f"what is looked for, {ends[0]:.3g} to {ends[1]:.3g}"
        )
        raise AnalysisError(msg)
    peaks = score == scipy.ndimage.maximum_filter1d(score, 9)
    other = peaks & (np.abs(np.arange(len(scales)) - best) > 4)
    rival = int(np.where(other, score, 0).argmax())
    if score[rival] > _RIVAL * score[best]:
        msg = (
            f"rings {scales[best]:.3g} and {scales[rival]:.3g} times as large as "
            "given match about equally well"
        )
        raise AnalysisError(msg)
    return np.array([np.log(scales[best]), *stretches[alike[best].argmax()]])


def _profile(image: Array, radius: Array, stretch: Array) -> Array:
    """Mean over the directions at `radius`, undone by a stretch, against that nearby."""
    angles = np.arange(_ANGLES) * 2 * np.pi / _ANGLES
    ellipse = stretch[0] * np.cos(2 * angles) + stretch[1] * np.sin(2 * angles)
    profile = _along(image, radius[:, None] * np.exp(ellipse), "nearest").mean(axis=1)
    near = scipy.ndimage.gaussian_filter1d(profile, _LOCAL / _STEP, mode="nearest")
    return np.sqrt(np.maximum(profile / (near + _FLOOR * profile.mean() + 1e-30), 0))


def _alike(profiles: Array, radius: Array, rings: Array) -> Array:
    """Correlation of the profiles with rings, times the share of these that are seen."""
    width = np.maximum(_TOOTH[0] * rings, _TOOTH[1])
    asked = (radius > _INSIDE * rings[0]) & (radius < rings[-1] + 2 * width[-1])
    if not asked.any():
        return np.zeros(len(profiles))
    away = (radius[asked, None] - rings) / width
    comb = np.exp(-(away**2) / 2).max(axis=1)
    mean = profiles[:, asked].mean(axis=1, keepdims=True)
    inside = rings[rings < radius[-1]]
    on_rings = profiles[:, np.searchsorted(radius, inside)]
    share = (on_rings > mean).sum(axis=1) / len(rings)
    comb, profiles = comb - comb.mean(), profiles[:, asked] - mean
    norm = np.sqrt((profiles**2).sum(axis=1) * (comb**2).sum())
    return np.asarray(share * (profiles @ comb) / (norm + 1e-30))
