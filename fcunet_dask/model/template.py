"""Template matching: the classical detector, and the yardstick of every other."""

from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np

from fcunet_dask.errors import ParameterError
from fcunet_dask.kernels.arrays import namespace
from fcunet_dask.kernels.disks import correlation_covariance
from fcunet_dask.kernels.maxima import PeakLimits
from fcunet_dask.model.arrange import arrange, clean, digest
from fcunet_dask.model.detector import Peaks
from fcunet_dask.model.device import free_bytes, turn, uploaded
from fcunet_dask.model.prepared import (
    Recent,
    camera_of,
    check_camera,
    check_numbers,
    measuring,
    shape_of,
)
from fcunet_dask.model.refine import Refinement, make_refinement
from fcunet_dask.model.search import (
    Candidates,
    Kernel,
    Method,
    Search,
    SearchRecipe,
    make_search,
)
from fcunet_dask.types import Array

Subpixel = Literal["none", "parabola", "dft", "fit"]

_BATCH_BYTES = 2**22
"""Of the patterns of a batch on the host, as float32: what stays in the caches."""
_OF_PIXEL, _OF_WINDOW = 24, 48
"""Bytes that the search takes for a pixel, and the fit for one of a disk's window:
measured on the host."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TemplateMatching:
    """Disks by correlation with the probe, refined by a fit of their outline.

    Parameters
    ----------
    radius, edge : float
        Of the probe's disk and of its blurred edge, px.
    image : numpy.ndarray, optional
        (rows, columns) the probe itself, plateau 1, where it is not a plain disk.
    center : (float, float)
        y, x of the probe in `image`, px.
    shape : (int, int), optional
        Rows and columns of the probe's image: patterns of others are refused.
    mask : numpy.ndarray, optional
        bool (rows, columns) of the patterns, True where the detector measures.
    method : {"normalized", "cross", "hybrid", "phase"}
        ``normalized``: locally normalised, on √counts. The others: linear in the
        counts, spectral magnitude to the power 1, 0.8 and 0.
    kernel : {"flat", "trench", "edge"}
        For the linear methods: the probe; the probe minus a ring around it, of zero
        sum; the probe's Laplacian, which correlates edges with edges. By default
        ``trench``, and ``flat`` for ``phase``, which has no magnitudes left to shape.
    subpixel : {"fit", "dft", "parabola", "none"}
        ``fit``: outline known, filling unknown (`kernels.disks`); ``dft``: correlation
        on a grid 16 times finer.
    structure : float
        Standard deviation of the fillings relative to their mean, for ``fit``.
    gain, readout, dark : float
        Counts of one electron, standard deviation of the readout noise of a pixel, and
        what a pixel without electrons reads, all in counts.
    saturation : float
        What saturated pixels read, counts, 0 = none is: those say to ``fit`` only that a
        disk is as bright.
    min_score, min_significance : float
        Least likeness (−1 to 1), and least height over its noise, for ``normalized``.
    min_spacing, edge_boundary : float, optional
        px; by default 1.5 and 1 radius.
    min_absolute, min_relative, relative_to, max_peaks
        Limits on the brightness and number of peaks (`kernels.maxima.PeakLimits`);
        brightness is the counts in a disk with ``fit``, else the correlation's height.

    Raises
    ------
    ParameterError
        If a value makes no sense.
    """

    radius: float
    edge: float = 0.5
    image: Array | None = None
    center: tuple[float, float] = (0.0, 0.0)
    shape: tuple[int, int] | None = None
    mask: Array | None = None
    method: Method = "normalized"
    kernel: Kernel | None = None
    subpixel: Subpixel = "fit"
    structure: float = 0.3
    gain: float = 1.0
    readout: float = 0.0
    dark: float = 0.0
    saturation: float = 0.0
    min_score: float = 0.3
    min_significance: float = 5.0
    min_spacing: float | None = None
    edge_boundary: float | None = None
    min_absolute: float = 0.0
    min_relative: float = 0.0
    relative_to: int = 0
    max_peaks: int = 128
    token: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _check(self)
        parts = [getattr(self, f.name) for f in fields(self) if f.init]
        object.__setattr__(self, "token", digest(parts))

    def __dask_tokenize__(self) -> str:
        return self.token

    def __call__(self, patterns: Array) -> Peaks:
        """Find the disks of `patterns`.

        Parameters
        ----------
        patterns : array
            (n, rows, columns), counts, NumPy or CuPy; those of the host are computed
            with on a GPU where CuPy reaches one.

        Returns
        -------
        Peaks
            On the host.

        Raises
        ------
        ParameterError
            If these are no patterns, or the disk does not fit into them.
        """
        shape = shape_of(patterns)
        patterns = uploaded(patterns)
        with turn(patterns):
            prepared = _prepare(self, shape, patterns)
            step = prepared.batch
            found = [
                self._find(patterns[i : i + step], prepared)
                for i in range(0, len(patterns), step)
            ]
        if not found:
            return Peaks.empty(0, self.max_peaks)
        names = [f.name for f in fields(Peaks)]
        return Peaks(*(np.concatenate([getattr(p, n) for p in found]) for n in names))

    def _limits(self) -> PeakLimits:
        return PeakLimits(
            min_spacing=_default(self.min_spacing, 1.5 * self.radius),
            edge=_default(self.edge_boundary, self.radius),
            min_absolute=self.min_absolute,
            min_relative=self.min_relative,
            relative_to=self.relative_to,
            max_peaks=self.max_peaks,
        )

    def _find(self, patterns: Array, prepared: "_Prepared") -> Peaks:
        """Peaks of one batch."""
        searched, status = clean(patterns)
        limits = self._limits()
        candidates = prepared.search(searched)
        if self.subpixel == "fit":
            candidates = candidates.thinned(limits, len(patterns), 2 * self.max_peaks)
            candidates = prepared.refine.fitted_only(patterns, candidates)
        else:
            candidates.covariance = self._covariance(patterns, candidates, prepared)
        return arrange(candidates, status, limits, len(patterns))

    def _covariance(
        self, patterns: Array, found: Candidates, prepared: "_Prepared"
    ) -> Array:
        nearest = found.nearest_pixels(patterns.shape)
        offset = found.position - nearest[1:].T
        refine = prepared.refine
        covariance = correlation_covariance(
            patterns, refine.mask, nearest, offset, refine.model, refine.camera
        )
        if self.subpixel == "none":
            covariance[:, [0, 2]] += 1 / 12
        return covariance


def _batch(detector: TemplateMatching, shape: tuple[int, int], patterns: Array) -> int:
    """Patterns of a batch: what caches hold, or what fits into the memory of the GPU."""
    pixels = shape[0] * shape[1]
    if namespace(patterns) is np:
        return max(1, _BATCH_BYTES // (4 * pixels))
    window = (2 * detector.radius + 7) ** 2
    fits = _OF_WINDOW * 2 * detector.max_peaks * window
    return max(1, int(free_bytes() // (_OF_PIXEL * pixels + fits)))


def _default(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _check(detector: TemplateMatching) -> None:
    check_camera(detector)
    least = (
        "saturation", "structure", "min_absolute", "min_relative", "relative_to",
        "min_spacing", "edge_boundary",
    )  # fmt: skip
    check_numbers(detector, ("radius", "edge", "max_peaks"), least)
    choices = {
        "method": ("normalized", "cross", "hybrid", "phase"),
        "kernel": ("flat", "trench", "edge", None),
        "subpixel": ("none", "parabola", "dft", "fit"),
    }
    for name, allowed in choices.items():
        if getattr(detector, name) not in allowed:
            msg = f"{name} is one of {allowed}, got {getattr(detector, name)!r}"
            raise ParameterError(msg)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What is made once in a process for one detector and one shape of patterns."""

    search: Search
    refine: Refinement
    batch: int


_PREPARED = Recent[_Prepared]()


def _prepare(
    detector: TemplateMatching, shape: tuple[int, int], patterns: Array
) -> _Prepared:
    key = (detector.token, shape, namespace(patterns).__name__)
    return _PREPARED.get(key, lambda: _make_prepared(detector, shape, patterns))


def _make_prepared(
    detector: TemplateMatching, shape: tuple[int, int], patterns: Array
) -> _Prepared:
    mask = measuring(detector, shape)
    return _Prepared(
        make_search(_search_recipe(detector), shape, mask).on_device_of(patterns),
        make_refinement(
            mask,
            detector.radius,
            detector.edge,
            structure=detector.structure,
            camera=camera_of(detector),
            image=detector.image,
            center=detector.center,
        ).on_device_of(patterns),
        _batch(detector, shape, patterns),
    )


def _search_recipe(detector: TemplateMatching) -> SearchRecipe:
    names = [f.name for f in fields(SearchRecipe) if f.name != "camera"]
    values: dict[str, Any] = {name: getattr(detector, name) for name in names}
    values["camera"] = camera_of(detector)
    if detector.kernel is None:
        values["kernel"] = "flat" if detector.method == "phase" else "trench"
    return SearchRecipe(**values)
