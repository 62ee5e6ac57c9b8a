"""The disk of a probe's image, and the radius of the disks of patterns."""

from dataclasses import dataclass

import numpy as np
import scipy.ndimage
import scipy.optimize

from fcunet_dask.kernels.aperture import disk_image
from fcunet_dask.kernels.correlation import (
    bin_patterns,
    normalized_correlation,
    normalized_template,
)
from fcunet_dask.kernels.maxima import local_maxima
from fcunet_dask.types import Array

_WHOLE = 0.8
"""Least share of a disk's surroundings that measures: crumbs of disks are like small
ones."""
ROUND = 0.97
"""Likeness from which on the image of a probe is one of a plain disk."""
_STANDS_OUT = 3.0
"""Least strength of a disk: six times its noise."""


@dataclass(frozen=True, slots=True)
class DiskShape:
    """A disk as it was measured; standard deviations behind each value.

    Attributes
    ----------
    center : (float, float)
        y, x, px.
    radius, edge : float
        px.
    center_std, radius_std, edge_std : float
        px.
    likeness : float
        Correlation of the image with a plain disk, 1 = round and evenly filled.
    """

    center: tuple[float, float]
    radius: float
    edge: float
    center_std: float
    radius_std: float
    edge_std: float
    likeness: float


def measure_disk(image: Array, mask: Array | None = None) -> DiskShape:
    """Fit a round disk with a soft edge to the image of the probe.

    Poisson-weighted least squares of height, background, centre, radius and edge; the
    start is the area at half height. The errors hold whatever the noise of a pixel is
    (White, Econometrica 48, 817 (1980)): plateau, rim and background each have their own.

    Parameters
    ----------
    image : numpy.ndarray
        (rows, columns), counts.
    mask : numpy.ndarray, optional
        bool, True where the detector measures.

    Returns
    -------
    DiskShape
        Not finite where the image has no disk.
    """
    image = np.asarray(image, float)
    good = np.isfinite(image) if mask is None else np.isfinite(image) & mask
    start = _half_height_disk(np.where(good, image, 0))
    if start is None:
        nan = float("nan")
        return DiskShape((nan, nan), nan, nan, nan, nan, nan, 0.0)
    cy, cx, radius, height = start
    rows, columns, window = _window(image.shape, (cy, cx), 1.6 * radius + 4)
    counts, kept = np.where(good, image, 0)[window], good[window]
    noise = np.sqrt(
        np.maximum(scipy.ndimage.gaussian_filter(counts, 1.0), 0.02 * height)
    )

    def model(p: Array) -> Array:
        centre = (p[0] - rows, p[1] - columns)
        disk = disk_image(counts.shape, centre, abs(p[2]), max(abs(p[3]), 0.05))
        return np.asarray(p[4] * disk + p[5])

    def rest(p: Array) -> Array:
        return np.asarray(((model(p) - counts) / noise)[kept])

    guess = np.array([cy, cx, radius, 0.5, height, 0.0])
    fit = scipy.optimize.least_squares(
        rest, guess, x_scale=[1, 1, 1, 0.5, height, height]
    )
    spread = _robust_errors(fit.jac, fit.fun)
    likeness = np.corrcoef(model(fit.x)[kept], counts[kept])[0, 1]
    return DiskShape(
        center=(float(fit.x[0]), float(fit.x[1])),
        radius=float(abs(fit.x[2])),
        edge=float(max(abs(fit.x[3]), 0.05)),
        center_std=float(spread[:2].max()),
        radius_std=float(spread[2]),
        edge_std=float(spread[3]),
        likeness=float(likeness),
    )


def _robust_errors(jacobian: Array, residual: Array) -> Array:
    """Return standard deviations of a least-squares fit, from each point's residual."""
    points, parameters = jacobian.shape
    bread = np.linalg.pinv(jacobian.T @ jacobian)
    meat = (jacobian * residual[:, None] ** 2).T @ jacobian
    scale = points / max(points - parameters, 1)
    return np.asarray(np.sqrt(scale * np.diag(bread @ meat @ bread)))


def _half_height_disk(image: Array) -> tuple[float, float, float, float] | None:
    """Centre, radius and height from the region above half of the plateau."""
    smooth = scipy.ndimage.median_filter(image, size=3)
    bright = smooth[smooth > 0.5 * smooth.max()] if smooth.max() > 0 else smooth[:0]
    if not bright.size:
        return None
    height = float(np.median(bright))
    labels, _ = scipy.ndimage.label(smooth > 0.5 * height)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    region = scipy.ndimage.binary_fill_holes(labels == sizes.argmax())
    cy, cx = scipy.ndimage.center_of_mass(region)
    return float(cy), float(cx), float(np.sqrt(region.sum() / np.pi)), height


def _window(
    shape: tuple[int, ...], centre: tuple[float, float], half: float
) -> tuple[int, int, tuple[slice, slice]]:
    """First row, first column and slices of a window cut to the image."""
    low = [max(int(c - half), 0) for c in centre]
    high = [min(int(c + half) + 2, s) for c, s in zip(centre, shape, strict=True)]
    return low[0], low[1], (slice(low[0], high[0]), slice(low[1], high[1]))


def search_radius(patterns: Array, mask: Array) -> float:
    """Find the radius of the disks of structured patterns.

    The radius whose template, locally normalised on √counts, is most like the five
    strongest disks of each pattern that stand out of its noise.

    Parameters
    ----------
    patterns : numpy.ndarray
        (n, rows, columns), electrons, and as many more in each pixel as its readout noise
        is the noise of; a few dozen are plenty.
    mask : numpy.ndarray
        bool (rows, columns).

    Returns
    -------
    float
        px, to about 5 %; NaN where nothing looks like a disk.
    """
    patterns = np.where(np.isfinite(patterns), patterns, 0)
    largest = min(patterns.shape[1:]) / 5
    if largest < 1.5:
        return float("nan")
    radii = np.geomspace(1.5, largest, int(np.log(largest / 1.5) / np.log(1.1)) + 2)
    scores = [_likeness(patterns, mask, float(r)) for r in radii]
    best = int(np.argmax(scores))
    return float(radii[best]) if scores[best] > 0.3 else float("nan")


def _likeness(patterns: Array, mask: Array, radius: float) -> float:
    """Mean likeness of the strongest disks of each pattern, weighted by strength."""
    factor = max(1, int(radius // 4))
    counts = bin_patterns(patterns, factor)
    measures = bin_patterns(mask[None], factor)[0] == factor**2
    shape = counts.shape[1:]
    middle = (shape[0] // 2, shape[1] // 2)
    to_corner = (-middle[0], -middle[1])
    disk = disk_image(shape, middle, radius / factor, max(0.4 / factor, 0.3))
    window = disk_image(shape, middle, 1.35 * radius / factor, 0.01) > 0.5
    prepared = normalized_template(
        np.roll(np.sqrt(disk), to_corner, (0, 1)),
        np.roll(window.astype(float), to_corner, (0, 1)),
        measures.astype(float),
    )
    likeness, strength = normalized_correlation(counts, prepared)
    whole = prepared.count >= _WHOLE * window.sum()
    index = local_maxima(np.where(whole, likeness, 0), 0.2, int(radius / factor) + 1)
    strong = strength[tuple(index)]
    index, strong = index[:, strong > _STANDS_OUT], strong[strong > _STANDS_OUT]
    order = np.lexsort((-strong, index[0]))
    first = np.searchsorted(index[0][order], np.arange(len(patterns)))
    rank = np.arange(len(order)) - first[index[0][order]]
    top = order[rank < 5]
    if len(top) <= len(patterns) / 4:  # noise stands out now and then
        return 0.0
    weight = np.maximum(strong[top], 0)
    return float(np.average(likeness[tuple(index[:, top])], weights=weight + 1e-9))
