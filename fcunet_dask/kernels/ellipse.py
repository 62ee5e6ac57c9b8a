"""Elliptic distortion from rings."""

import numpy as np
import scipy.ndimage

from fcunet_dask.types import Array

_ANGLES = 72
_SMOOTH = 1.5
"""σ of the smoothing over directions, in their steps."""
_WIDE = 10.0
"""σ of the smoothing over scales, in their steps, without which the grid of the pixels
holds the maxima; it moves all of them together, so the scale itself is found without."""


def ring_transform(
    image: Array, radii: Array, reach: float = 0.12
) -> tuple[Array, float, float] | None:
    """Linear map that makes rings round and of the given radii.

    Along each of 72 directions the image is matched, on a logarithmic radius, to the
    comb of the radii; the scale r(φ) that fits best is an ellipse
    r = s (1 + a cos 2φ + b sin 2φ), fitted robustly.

    Parameters
    ----------
    image : numpy.ndarray
        (rows, columns), zero frequency in the middle pixel ``size // 2``.
    radii : numpy.ndarray
        Radii of the rings, px.
    reach : float
        Largest relative deviation looked for.

    Returns
    -------
    tuple or None
        Transform (2, 2), y before x, of determinant 1; true over measured scale;
        relative residual. None where nothing matches.
    """
    middle = np.array([s // 2 for s in image.shape])
    angles = np.arange(_ANGLES) * 2 * np.pi / _ANGLES
    scales = np.exp(np.linspace(-reach, reach, 121))
    smooth = scipy.ndimage.gaussian_filter(np.asarray(image, float), 1.0)
    r = radii[:, None, None] * scales[:, None]
    y = middle[0] + r * np.sin(angles)
    x = middle[1] + r * np.cos(angles)
    on_rings = scipy.ndimage.map_coordinates(smooth, [y, x], order=1).sum(axis=0)
    sector = scipy.ndimage.gaussian_filter1d(on_rings, _SMOOTH, axis=1, mode="wrap")
    wide = scipy.ndimage.gaussian_filter1d(sector, _WIDE, axis=0)
    best = sector.argmax(axis=0)
    contrast = sector.max(axis=0) / np.maximum(np.median(sector, axis=0), 1e-30)
    seen = (contrast > 1.1) & (best > 0) & (best < len(scales) - 1)
    if seen.sum() < _ANGLES // 4:
        return None
    measured = _log_maximum(wide, scales)
    design = np.stack(
        [np.ones(_ANGLES), np.cos(2 * angles), np.sin(2 * angles)], axis=-1
    )
    weight = seen.astype(float)
    for _ in range(8):
        root = np.sqrt(weight)
        fit = np.linalg.lstsq(design * root[:, None], measured * root, rcond=None)[0]
        rest = np.abs(measured - design @ fit)
        width = 4.7 * np.median(rest[seen]) / 0.6745 + 1e-6
        weight = seen * np.maximum(1 - (rest / width) ** 2, 0) ** 2
    mean = np.average(
        _log_maximum(sector, scales) - design[:, 1:] @ fit[1:], weights=weight
    )
    fit[1:] /= np.exp(-2 * (_SMOOTH * 2 * np.pi / _ANGLES) ** 2)  # what smoothing took
    # x² − y² and 2xy parts of the logarithm of the stretch, in (y, x)
    logarithm = np.array([[-fit[1], fit[2]], [fit[2], fit[1]]])
    values, vectors = np.linalg.eigh(-logarithm)
    transform = vectors @ np.diag(np.exp(values)) @ vectors.T
    residual = float(np.sqrt((weight * rest**2).sum() / max(weight.sum(), 1e-9)))
    # the mean of log r over an ellipse of axes e^±l is −log cosh l
    scale = mean + np.log(np.cosh(np.hypot(*fit[1:])))
    return transform, float(np.exp(-scale)), residual


def _log_maximum(values: Array, scales: Array) -> Array:
    """Logarithm of the scale at the maximum of each column, by a parabola."""
    inner = np.clip(values.argmax(axis=0), 1, len(values) - 2)
    column = np.arange(values.shape[1])
    before, at, after = (values[inner + i, column] for i in (-1, 0, 1))
    curvature = np.maximum(2 * at - before - after, 1e-30)
    offset = np.clip(0.5 * (after - before) / curvature, -0.5, 0.5)
    return np.asarray(np.log(scales[inner]) + offset * np.log(scales[1] / scales[0]))
