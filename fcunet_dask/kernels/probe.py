"""Radius, edge and filling of the disks, measured where no one says what they are."""

from dataclasses import dataclass, replace

import numpy as np
import scipy.ndimage
import scipy.optimize

from fcunet_dask.kernels.aperture import disk_image
from fcunet_dask.kernels.camera import CameraNoise
from fcunet_dask.kernels.correlation import (
    bin_patterns,
    normalized_correlation,
    normalized_template,
)
from fcunet_dask.kernels.disk_model import FILLING_MODES, DiskModel, disk_model
from fcunet_dask.kernels.disks import disk_deviances, fit_disks
from fcunet_dask.kernels.maxima import local_maxima
from fcunet_dask.kernels.windows import pad_mask
from fcunet_dask.types import Array

_WHOLE = 0.8
"""Least share of a disk's surroundings that measures: crumbs of disks are like small
ones."""
ROUND = 0.97
"""Likeness from which on the image of a probe is one of a plain disk."""
_ENOUGH = 12
"""Disks that tell what all have in common."""
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


@dataclass(frozen=True, slots=True)
class DiskStatistics:
    """What the disks of a scan have in common.

    Attributes
    ----------
    radius, edge : float
        px.
    radius_std, edge_std : float
        Standard deviations, px.
    structure : float
        Standard deviation of their fillings relative to the mean.
    gain : float
        Counts of one electron.
    readout : float
        Standard deviation of the readout noise of a pixel, counts.
    saturation : float
        What saturated pixels read, counts without dark level; 0 where none is.
    """

    radius: float
    edge: float
    radius_std: float
    edge_std: float
    structure: float
    gain: float
    readout: float = 0.0
    saturation: float = 0.0

    @property
    def camera(self) -> CameraNoise:
        """Of the camera, without dark level."""
        return CameraNoise(self.gain, self.readout, saturation=self.saturation)


def fit_statistics(
    patterns: Array,
    mask: Array,
    index: Array,
    position: Array,
    start: DiskStatistics,
    *,
    fit_shape: bool = True,
) -> DiskStatistics:
    """Find the shape and statistics under which the disks fit best.

    The Poisson misfit of all disks, each with its own filling, is minimised over radius
    and edge; between, the spread of the fillings is set to what the fits show.

    Parameters
    ----------
    patterns : numpy.ndarray
        (n, rows, columns), counts without dark level.
    mask : numpy.ndarray
        bool (rows, columns).
    index : numpy.ndarray
        int (m,): pattern of each disk.
    position : numpy.ndarray
        (m, 2): y, x of each disk, px.
    start : DiskStatistics
        Where to begin.
    fit_shape : bool
        False keeps radius and edge (they are known from a vacuum probe).

    Returns
    -------
    DiskStatistics
    """
    statistics = start
    sample = _Sample(patterns, mask, index, position)
    if start.saturation:
        sample = sample.unsaturated(start)
    statistics = sample.with_spread(statistics)
    if fit_shape:
        statistics = sample.with_shape(statistics)
    return sample.with_spread(statistics)


@dataclass(slots=True)
class _Sample:
    """Disks on which shape and spread are tried."""

    patterns: Array
    mask: Array
    index: Array
    position: Array

    def arguments(self, model: DiskModel) -> tuple[Array, Array, Array, Array]:
        """Return what `fit_disks` takes before the model."""
        nearest = np.rint(self.position).astype(int)
        at = np.concatenate([self.index[None], nearest.T])
        padded = pad_mask(self.mask, model.half)
        return self.patterns, padded, at, self.position - nearest

    def unsaturated(self, s: DiskStatistics) -> "_Sample":
        """Leave out disks with saturated pixels, if enough others are there."""
        full = self.patterns >= s.camera.full * s.gain
        near = scipy.ndimage.maximum_filter(full, (1, *2 * [2 * int(s.radius) + 1]))
        y, x = np.rint(self.position).astype(int).T
        kept = ~near[self.index, y, x]
        if kept.sum() < _ENOUGH:
            return self
        return replace(self, index=self.index[kept], position=self.position[kept])

    def with_spread(self, s: DiskStatistics) -> DiskStatistics:
        """Set the structure to the variance of freely fitted fillings, less noise."""
        model = disk_model(s.radius, s.edge, structure=1.5)
        fits = fit_disks(*self.arguments(model), model, s.camera, (2, 2))
        electrons = np.maximum(fits.intensity, 1e-9) / s.gain
        noise = FILLING_MODES * s.gain / np.maximum(fits.intensity, 1e-9)
        noise *= 1 + s.camera.floor * float(model.area[0]) / electrons
        good = (fits.moved < 0.5 * s.radius + 1) & (noise < 1)
        if good.sum() < 3:
            return s
        excess = np.minimum(fits.filling, 4.0) - noise
        variance = np.average(excess[good], weights=1 / (0.1 + noise[good]) ** 2)
        structure = float(np.clip(np.sqrt(max(variance, 0.0)), 0.03, 1.5))
        return replace(s, structure=structure)

    def with_shape(self, s: DiskStatistics) -> DiskStatistics:
        """Set radius and edge to the minimum of the misfit: a grid, then a simplex."""
        half = int(np.ceil(1.1 * s.radius + 3))
        radii = s.radius * np.linspace(0.9, 1.1, 9)
        edges = np.log(np.geomspace(0.15, 0.5 * s.radius, 6))
        few = replace(self, index=self.index[::3], position=self.position[::3])
        grid = [np.array([r, e]) for r in radii for e in edges]
        start = min(grid, key=lambda p: few.misfit(p, s, half))
        steps = np.array([[0, 0], [0.015 * s.radius, 0], [0, 0.25]])
        options = {
            "initial_simplex": start + steps,
            "xatol": 0.005,
            "fatol": 0.5,
            "maxfev": 40,
        }
        found = scipy.optimize.minimize(
            self.misfit, start, args=(s, half), method="Nelder-Mead", options=options
        )
        spread = self._spread(found.x, s, half, np.array([0.02 * s.radius, 0.1]))
        radius, edge = _possible(found.x, half)
        return replace(
            s,
            radius=radius,
            edge=edge,
            radius_std=float(spread[0]),
            edge_std=float(spread[1]) * edge,
        )

    def misfit(self, shape: Array, s: DiskStatistics, half: int) -> float:
        """Half the deviance of all disks for a radius and the logarithm of an edge."""
        radius, edge = _possible(shape, half)
        model = disk_model(radius, edge, structure=s.structure, margin=half - radius)
        deviance = disk_deviances(*self.arguments(model), model, s.camera)
        return float(np.minimum(deviance, 50 * len(model.y)).sum()) / 2

    def _spread(self, at: Array, s: DiskStatistics, half: int, h: Array) -> Array:
        """Return the standard deviations (2,): the inverse of the misfit's Hessian."""

        def value(i: float, j: float) -> float:
            return self.misfit(at + np.array([i, j]) * h, s, half)

        middle = value(0, 0)
        first = value(1, 0) + value(-1, 0) - 2 * middle
        second = value(0, 1) + value(0, -1) - 2 * middle
        mixed = 0.25 * (value(1, 1) + value(-1, -1) - value(1, -1) - value(-1, 1))
        hessian = np.array([[first, mixed], [mixed, second]]) / np.outer(h, h)
        if min(first, second) <= 0 or np.linalg.det(hessian) <= 0:
            return np.full(2, np.nan)
        return np.asarray(np.sqrt(np.diag(np.linalg.inv(hessian))))


def _possible(shape: Array, half: int) -> tuple[float, float]:
    """Radius and edge that a disk in a window can have, from radius and log of the edge.

    Spots without a plateau end with the widest edge that is still one of a disk.
    """
    radius = float(np.clip(shape[0], 0.8, half - 1))
    return radius, float(np.clip(np.exp(shape[1]), 0.1, 0.6 * radius))
