"""Radius, edge and filling of the disks, measured where no one says what they are."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import scipy.ndimage
import scipy.optimize

from fcunet_dask.kernels.camera import CameraNoise
from fcunet_dask.kernels.disk_model import FILLING_MODES, DiskModel, disk_model
from fcunet_dask.kernels.disks import disk_deviances, fit_disks
from fcunet_dask.kernels.windows import pad_mask
from fcunet_dask.types import Array

_ENOUGH: Final = 12
"""Disks that tell what all have in common."""
_MORE: Final = 1.4
"""How many times as structured fillings are under a shape that holds several disks."""
_EVEN: Final = 0.15
"""Structure up to which disks are as good as flat."""
_LESS: Final = 0.85
"""Ratio of structures below which a shape is the better one; where all disks of a crystal
overlap, none is."""


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
    and edge; between, the spread of the fillings is set to what the fits show. Where disks
    overlap, those that do not decide.

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
    sample = _Sample(patterns, mask, index, position)
    if start.saturation:
        sample = sample.unsaturated(start)
    begun = sample.with_spread(start)
    if not fit_shape:
        return begun
    fitted = sample.with_spread(sample.with_shape(begun))
    return sample.without_overlaps(begun, fitted)


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

    def without_overlaps(
        self, begun: DiskStatistics, fitted: DiskStatistics
    ) -> DiskStatistics:
        """Fit the quietest disks where the shape that fits all holds several at once.

        Two disks that overlap are fitted better by one that is larger, of a filling that
        is far from even. The fillings of smaller disks, those of the start or of 0.9 of
        it, give this away; disks that are just structured are so under any radius. Where a
        third of all lie upon others so well that a search marks two as one, radii of single
        samples stay up to 15 % too large.
        """
        smaller = self.with_spread(replace(begun, radius=0.9 * begun.radius))
        best = min(begun, smaller, key=lambda s: s.structure)
        if fitted.structure < _MORE * max(best.structure, _EVEN):
            return fitted
        quiet = self.quietest(best)
        other = self.with_spread(quiet.with_shape(quiet.with_spread(best)))
        return other if other.structure < _LESS * fitted.structure else fitted

    def quietest(self, s: DiskStatistics) -> "_Sample":
        """Take the quarter of the disks that flat ones with nothing beside fit best.

        By the misfit beyond the noise, for each electron. Two standard deviations of the
        noise are added: of weak disks a small misfit says nothing.
        """
        model = disk_model(s.radius, s.edge, structure=0.1, margin=0.1 * s.radius + 3)
        sample = *self.arguments(model), model, s.camera
        electrons = np.maximum(fit_disks(*sample, (2, 2)).intensity, 1e-9) / s.gain
        pixels = len(model.y)
        beyond = disk_deviances(*sample) - pixels + 2 * np.sqrt(2 * pixels)
        order = np.argsort(beyond / electrons, kind="stable")
        kept = np.sort(order[: max(len(order) // 4, _ENOUGH)])
        return replace(self, index=self.index[kept], position=self.position[kept])

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
