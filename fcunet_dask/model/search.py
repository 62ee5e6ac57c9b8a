"""Where disks may be: maxima of a correlation with the probe, coarse and cheap."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import numpy as np
import scipy.ndimage

from fcunet_dask.kernels.aperture import disk_image
from fcunet_dask.kernels.arrays import fft_module, namespace
from fcunet_dask.kernels.camera import CameraNoise
from fcunet_dask.kernels.correlation import (
    NormalizedTemplate,
    bin_patterns,
    noise_level,
    normalized_correlation,
    normalized_template,
    power_correlation,
)
from fcunet_dask.kernels.crowded import noise_between
from fcunet_dask.kernels.maxima import (
    PeakLimits,
    local_maxima,
    pad_by_image,
    parabola_offsets,
    select_peaks,
    upsampled_offsets,
)
from fcunet_dask.types import Array

Method = Literal["normalized", "cross", "hybrid", "phase"]
Kernel = Literal["flat", "trench", "edge"]

POWERS = {"cross": 1.0, "hybrid": 0.8, "phase": 0.0}
SEARCH_RADIUS = 1.5
"""Disks of radius r are binned by √(r / this) for the search: coarse pixels hold more
electrons and cost less, too coarse ones start the fit too far off."""
_SHARPEST = 0.3
"""Least edge of a disk on pixels, px."""
WINDOW = 1.35
"""Radius of the window of local normalisation over that of the disk."""


@dataclass(frozen=True, slots=True)
class SearchRecipe:
    """The parameters of `TemplateMatching` that the search needs."""

    radius: float
    edge: float
    image: Array | None
    center: tuple[float, float]
    method: Method
    kernel: Kernel
    subpixel: str
    min_score: float
    min_significance: float
    edge_boundary: float | None
    camera: CameraNoise


@dataclass(slots=True)
class Candidates:
    """A flat list of possible disks.

    Attributes
    ----------
    image : array
        int (m,): the pattern each is in.
    position : array
        float (m, 2): y, x, px of the full pattern.
    brightness, score : array
        float (m,).
    covariance : array
        float (m, 3): yy, yx, xx, px²; empty where not yet known.
    extra : dict of str to array
        Whatever else is known of them, (m,) each.
    """

    image: Array
    position: Array
    brightness: Array
    score: Array
    covariance: Array = field(default_factory=lambda: np.empty((0, 3)))
    extra: dict[str, Array] = field(default_factory=dict)

    def rows(self, which: Array) -> "Candidates":
        """Return some of them."""
        covariance = self.covariance
        return Candidates(
            self.image[which],
            self.position[which],
            self.brightness[which],
            self.score[which],
            covariance[which] if len(covariance) else covariance,
            {name: values[which] for name, values in self.extra.items()},
        )

    def on_device_of(self, array: Any) -> "Candidates":
        """Return them with their arrays on the device of `array`."""
        xp = namespace(array)
        names = ("image", "position", "brightness", "score", "covariance")
        moved = {name: xp.asarray(getattr(self, name)) for name in names}
        extra = {name: xp.asarray(values) for name, values in self.extra.items()}
        return replace(self, **moved, extra=extra)

    def nearest_pixels(self, shape: tuple[int, ...]) -> Array:
        """Pattern, row and column, int (3, m), of the pixel nearest to each."""
        xp = namespace(self.position)
        pixel = xp.rint(self.position).astype(xp.int64)
        row = xp.clip(pixel[:, 0], 0, shape[1] - 1)
        column = xp.clip(pixel[:, 1], 0, shape[2] - 1)
        return xp.stack([self.image, row, column])

    def selected(self, limits: PeakLimits, n: int) -> tuple[Array, Array]:
        """Table (n, width) of the candidates of each pattern, and which of them stay.

        The limit on their number is not yet applied.
        """
        xp = namespace(self.position)
        width = 1
        if len(self.image):
            width = int(xp.bincount(self.image, minlength=n).max())
        width = min(width, 4 * limits.max_peaks)
        table = pad_by_image(self.image, self.brightness, n, width)
        free = replace(limits, max_peaks=width)
        return table, select_peaks(table, self.position, self.brightness, free)

    def thinned(self, limits: PeakLimits, n: int, most: int) -> "Candidates":
        """Those that keep their distance, at most `most` a pattern."""
        spacing_only = PeakLimits(limits.min_spacing, limits.edge, max_peaks=most)
        table, keep = self.selected(spacing_only, n)
        xp = namespace(keep)
        chosen = table[keep & (xp.cumsum(keep, axis=1) <= most)]
        return self.rows(chosen)


@dataclass(frozen=True, slots=True)
class Search:
    """Patterns → candidates, for one probe and one shape of patterns."""

    factor: int
    edge: int
    reach: float
    method: Method
    subpixel: str
    min_score: float
    min_significance: float
    camera: CameraNoise
    template: NormalizedTemplate | None
    kernel_ft: Array | None

    def on_device_of(self, array: Any) -> "Search":
        """Return the search with its arrays on the device of `array`."""
        xp = namespace(array)
        if self.template is None:
            return replace(self, kernel_ft=xp.asarray(self.kernel_ft))
        names = NormalizedTemplate.__dataclass_fields__
        moved = {name: xp.asarray(getattr(self.template, name)) for name in names}
        return replace(self, template=NormalizedTemplate(**moved))

    def __call__(self, patterns: Array) -> Candidates:
        """Find the candidates of a batch (n, rows, columns)."""
        xp = namespace(patterns)
        pixels = self.factor**2
        binned = self.camera.electrons(bin_patterns(patterns, self.factor), pixels)
        if self.template is not None:
            images, index, brightness = self._compared(binned, self.template)
            score = images[tuple(index)]
        else:
            images = power_correlation(
                binned, xp.asarray(self.kernel_ft), POWERS[self.method]
            )
            index = local_maxima(images, 0.0, self.edge)
            brightness = images[tuple(index)]
            brightest = xp.maximum(images.max(axis=(1, 2)), 1e-30)
            score = brightness / brightest[index[0]]
        position = index[1:].T + self._offsets(images, index)
        centre = 0.5 * (self.factor - 1)
        return Candidates(index[0], position * self.factor + centre, brightness, score)

    def _compared(
        self, electrons: Array, template: NormalizedTemplate
    ) -> tuple[Array, Array, Array]:
        """Return the likeness to the probe, its clear maxima, and their significance."""
        floor = self.factor**2 * self.camera.floor
        if floor:  # √(n + v) has the noise of √n without readout
            electrons = electrons + namespace(electrons).float32(floor)
        images, strength = normalized_correlation(electrons, template)
        index = local_maxima(images, self.min_score, self.edge)
        noise = noise_level(strength, template, electrons, floor)
        least = self.min_significance
        if not floor:  # what readout noise makes is known
            likeness = images[tuple(index)]
            noise = noise_between(
                strength, template, index, likeness, noise, self.reach, least
            )
        significance = strength[tuple(index)] / noise[index[0]]
        clear = significance > least
        return images, index[:, clear], significance[clear]

    def _offsets(self, images: Array, index: Array) -> Array:
        xp = namespace(images)
        if self.subpixel == "none":
            return xp.zeros((index.shape[1], 2))
        if self.subpixel != "dft" or not index.shape[1]:
            return parabola_offsets(images, index)
        spectra = fft_module(images).rfft2(images) / images[0].size
        position = index[1:].T
        return xp.concatenate(
            [
                upsampled_offsets(
                    spectra[index[0, i : i + 64]],
                    position[i : i + 64],
                    16,
                    images.shape[1:],
                )
                for i in range(0, len(position), 64)
            ]
        )


def make_search(recipe: SearchRecipe, shape: tuple[int, int], mask: Array) -> Search:
    """Prepare the search of a detector.

    Parameters
    ----------
    recipe : SearchRecipe
    shape : (int, int)
        Of the patterns.
    mask : numpy.ndarray
        float (rows, columns), 1 where the detector measures.

    Returns
    -------
    Search
    """
    exact = recipe.subpixel in ("parabola", "dft", "none")
    factor = 1 if exact else max(1, round(np.sqrt(recipe.radius / SEARCH_RADIUS)))
    boundary = recipe.radius if recipe.edge_boundary is None else recipe.edge_boundary
    small = (shape[0] // factor, shape[1] // factor)
    aperture = binned_aperture(recipe, small, factor)
    template = kernel_ft = None
    if recipe.method == "normalized":
        mask = bin_patterns(mask[None], factor)[0] == factor**2
        radius = recipe.radius / factor
        window = disk_image(small, _middle(small), WINDOW * radius, 0.01) > 0.5
        template = normalized_template(
            _wrapped(np.sqrt(aperture)),
            _wrapped(window.astype(float)),
            mask.astype(float),
        )
    else:
        kernel = _wrapped(_kernel(aperture, recipe.kernel, recipe.radius / factor))
        kernel_ft = np.conj(np.fft.rfft2(kernel)).astype(np.complex64)
    return Search(
        factor=factor,
        edge=int(np.floor(boundary / factor)),
        reach=(1 + WINDOW) * recipe.radius / factor,
        method=recipe.method,
        subpixel=recipe.subpixel,
        min_score=_least_score(recipe, factor),
        min_significance=recipe.min_significance,
        camera=recipe.camera,
        template=template,
        kernel_ft=kernel_ft,
    )


def _least_score(recipe: SearchRecipe, factor: int) -> float:
    """Least likeness: as told, but beyond 2 σ of that of noise (Fisher's z)."""
    pixels = np.pi * (WINDOW * recipe.radius / factor) ** 2
    chance = np.tanh(2.0 / np.sqrt(max(pixels - 3, 1.0)))
    return max(recipe.min_score, float(chance))


def _middle(shape: tuple[int, int]) -> tuple[float, float]:
    return (float(shape[0] // 2), float(shape[1] // 2))


def _wrapped(image: Array) -> Array:
    """Move the middle of `image` to pixel (0, 0)."""
    return np.roll(image, (-(image.shape[0] // 2), -(image.shape[1] // 2)), (0, 1))


class Aperture(Protocol):
    """What is known of the probe."""

    @property
    def radius(self) -> float:
        """Of the disk, px."""

    @property
    def edge(self) -> float:
        """Width of its edge, px."""

    @property
    def image(self) -> Array | None:
        """The probe itself, where it is not a plain disk."""

    @property
    def center(self) -> tuple[float, float]:
        """Of the probe in `image`, px."""


def binned_aperture(probe: Aperture, shape: tuple[int, int], factor: int) -> Array:
    """Image of the probe, binned, in the middle of the binned pattern."""
    middle = _middle(shape)
    if probe.image is None:
        return binned_disk(probe.radius, probe.edge, shape, factor)
    fine = np.arange(factor) - 0.5 * (factor - 1)
    y = ((np.arange(shape[0]) - middle[0]) * factor)[:, None] + fine
    x = ((np.arange(shape[1]) - middle[1]) * factor)[:, None] + fine
    grid = np.meshgrid(y.ravel() + probe.center[0], x.ravel() + probe.center[1])
    image = scipy.ndimage.map_coordinates(probe.image, [grid[0].T, grid[1].T], order=1)
    image = image.reshape(shape[0], factor, shape[1], factor).mean(axis=(1, 3))
    return np.asarray(np.clip(image, 0, None))


def binned_disk(
    radius: float, edge: float, shape: tuple[int, int], factor: int
) -> Array:
    """Image of a plain disk, of a radius and an edge before binning, in the middle."""
    edge = max(edge / factor, _SHARPEST)
    return disk_image(shape, _middle(shape), radius / factor, edge)


def _kernel(aperture: Array, kind: Kernel, radius: float) -> Array:
    """Kernel of the linear methods, unit sum of its positive part."""
    if kind == "trench":
        middle = _middle(aperture.shape)
        y = np.arange(aperture.shape[0])[:, None] - middle[0]
        x = np.arange(aperture.shape[1]) - middle[1]
        depth = np.clip((np.hypot(y, x) - radius) / radius, 0, 1)
        ring = np.sin(np.pi * depth) ** 2
        aperture = aperture / aperture.sum() - ring / ring.sum()
    elif kind == "edge":
        aperture = -scipy.ndimage.laplace(scipy.ndimage.gaussian_filter(aperture, 0.5))
    return np.asarray(aperture / np.clip(aperture, 0, None).sum())
