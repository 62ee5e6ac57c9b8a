"""The network as a detector of disks."""

from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Literal, get_args

import numpy as np

from fcunet_dask.errors import ParameterError
from fcunet_dask.kernels.arrays import namespace, to_host
from fcunet_dask.kernels.contrast import ring_contrast
from fcunet_dask.kernels.correlation import bin_patterns
from fcunet_dask.kernels.maxima import PeakLimits
from fcunet_dask.kernels.spikes import cap_spikes
from fcunet_dask.model.arrange import arrange, clean, digest
from fcunet_dask.model.detector import PatternStatus, Peaks
from fcunet_dask.model.device import turn, uploaded
from fcunet_dask.model.loaded import images_of, peaks_of
from fcunet_dask.model.prepared import (
    Recent,
    camera_of,
    check_camera,
    check_numbers,
    measuring,
    shape_of,
)
from fcunet_dask.model.probability import disk_probability, evidence
from fcunet_dask.model.refine import Refinement, make_refinement
from fcunet_dask.model.scale import Scale, binning, enlarged
from fcunet_dask.model.search import Candidates, binned_aperture
from fcunet_dask.model.weights import ModelCard, find_weights, import_keras
from fcunet_dask.types import Array

Refine = Literal["fit", "mean", "none"]

_LEAST: Final = 0.05
"""Height of the heat map below which nothing is looked at."""
_DRAWN: Final = 0.7
"""Least distance of refined disks, radii: outlines of disks that overlap are drawn to each
other, and marks that are nearer than a radius are left out before."""
_DOUBT: Final = 0.75
"""Power of the height that a structure factor is divided by: both images are lower where
a disk is doubtful, and doubtful disks are weak."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FCUNet:
    """Disks by a trained network, refined by a fit of their outline.

    Parameters
    ----------
    radius, edge : float
        Of the probe's disk and of its blurred edge, px.
    image, center : numpy.ndarray, (float, float)
        The probe itself, plateau 1, and its centre (y, x), px, where it is not a plain
        disk.
    shape : (int, int), optional
        Rows and columns of the probe's image: patterns of others are refused.
    mask : numpy.ndarray, optional
        bool (rows, columns) of the patterns, True where the detector measures.
    structure : float
        Standard deviation of the fillings relative to their mean, for the fit.
    gain, readout, dark : float
        Counts of one electron, standard deviation of the readout noise of a pixel, and
        what a pixel without electrons reads, all in counts.
    saturation : float
        What saturated pixels read, counts, 0 = none is: those say to the fit of an
        outline only that a disk is as bright.
    weights : str
        Shipped weights, or a `.keras` file with its card.
    refine : {"fit", "mean", "none"}
        Positions: of the outline, and of the network where its fit fails (what strain
        needs); the mean of both (the smallest error of a single disk); of the network.
    scale : {"coarse", "fine"}
        ``fine`` finds more of disks of 4.8 px and larger, and places them better, at up
        to four times the cost.
    mirrored : bool
        Whether the network looks at four mirror images of each pattern, at four times
        the cost: the mean of what it says has smaller errors.
    min_probability : float
        Least probability that a disk exists.
    min_spacing, edge_boundary : float, optional
        px; by default 1 and 1 radius, of which 0.7 once positions are refined.
    max_peaks : int
        Most disks of a pattern.

    Raises
    ------
    ParameterError
        If a value makes no sense.
    ModelError
        If there are no such weights.
    """

    radius: float
    edge: float = 0.5
    image: Array | None = None
    center: tuple[float, float] = (0.0, 0.0)
    shape: tuple[int, int] | None = None
    mask: Array | None = None
    structure: float = 1.0
    gain: float = 1.0
    readout: float = 0.0
    dark: float = 0.0
    saturation: float = 0.0
    weights: str = "fcunet"
    refine: Refine = "fit"
    scale: Scale = "coarse"
    mirrored: bool = False
    min_probability: float = 0.5
    min_spacing: float | None = None
    edge_boundary: float | None = None
    max_peaks: int = 128
    card: ModelCard = field(init=False, repr=False)
    token: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        _check(self)
        _, card = find_weights(self.weights)
        object.__setattr__(self, "card", card)
        skipped = ("token", "card", "weights")
        parts = [getattr(self, f.name) for f in fields(self) if f.name not in skipped]
        parts += [getattr(card, f.name) for f in fields(card) if f.name != "training"]
        object.__setattr__(self, "token", digest(parts))

    def __dask_tokenize__(self) -> str:
        return self.token

    def __call__(self, patterns: Array) -> Peaks:
        """Find the disks of `patterns`.

        Parameters
        ----------
        patterns : array
            (n, rows, columns), counts, NumPy or CuPy; computed with on a GPU where Keras
            and CuPy reach one, else on the host.

        Returns
        -------
        Peaks
            On the host, with structure factors and probabilities.

        Raises
        ------
        ParameterError
            If these are no patterns, or the disk does not fit into them.
        MissingDependencyError, ModelError
            If the network cannot be loaded.
        """
        shape = shape_of(patterns)
        if not len(patterns):
            return Peaks.empty(0, self.max_peaks)
        patterns = _where_networks_run(patterns)
        with turn(patterns):
            prepared = _prepare(self, shape, patterns)
            searched, status = clean(patterns)
            found = prepared.find(searched, self)
            found = found.thinned(_limits(self), len(patterns), self.max_peaks + 1)
            found = found.on_device_of(patterns)
            refine = prepared.refine
            place = {"fit": refine.outlined, "mean": refine.weighed, "none": refine.lit}
            found = place[self.refine](patterns, found)
            return arrange(found, status, _refined_limits(self), len(patterns))

    def structure_factors(self, patterns: Array) -> Array:
        """Structure-factor images of `patterns`.

        Parameters
        ----------
        patterns : array
            (n, rows, columns), counts.

        Returns
        -------
        numpy.ndarray
            float32 (n, rows, columns): spots of the height |V_g| relative to the
            strongest; NaN where a pattern has no counts.

        Raises
        ------
        ParameterError, MissingDependencyError, ModelError
            As for disks; and if the network knows one size of image only.
        """
        shape = shape_of(patterns)
        if not len(patterns):
            return np.empty((0, *shape), np.float32)
        patterns = _where_networks_run(patterns)
        with turn(patterns):
            prepared = _prepare(self, shape, patterns)
            patterns, status = clean(patterns)
            binned = prepared.binned(patterns, self)
            look = images_of(self.weights, self.card)
            images = look(binned, prepared.probe, prepared.mask)
        rows, columns = (s // prepared.factor for s in shape)
        images = enlarged(images[:, :rows, :columns], prepared.factor, shape)
        images[(to_host(status) & PatternStatus.EMPTY) > 0] = np.nan
        return images


def _where_networks_run(patterns: Array) -> Array:
    """Upload patterns if Keras computes on the GPU; else fits stay on the host, too."""
    import_keras()
    from fcunet_dask.model.backend import has_gpu  # noqa: PLC0415 - Keras is heavy

    return uploaded(patterns) if has_gpu() else to_host(patterns)


def _limits(detector: FCUNet) -> PeakLimits:
    spacing, edge = detector.min_spacing, detector.edge_boundary
    return PeakLimits(
        min_spacing=detector.radius if spacing is None else spacing,
        edge=detector.radius if edge is None else edge,
        max_peaks=detector.max_peaks,
    )


def _refined_limits(detector: FCUNet) -> PeakLimits:
    limits = _limits(detector)
    if detector.min_spacing is None:
        return replace(limits, min_spacing=_DRAWN * detector.radius)
    return limits


def weighed_evidence(detector: FCUNet, patterns: Array) -> tuple[Candidates, Array]:
    """Return what a detector weighs, so that the weights can be measured.

    Parameters
    ----------
    detector : FCUNet
        Whose probabilities are not looked at.
    patterns : numpy.ndarray
        (n, rows, columns), counts.

    Returns
    -------
    candidates : Candidates
        (m,): those that keep their distance, the higher ones first.
    evidence : numpy.ndarray
        float64 (m, `fcunet_dask.model.probability.TERMS`).
    """
    patterns, _ = clean(patterns)
    shape = shape_of(patterns)
    prepared = _prepare(detector, shape, patterns)
    found, seen = prepared.candidates(patterns, detector)
    found.extra["row"] = np.arange(len(seen))
    thinned = found.thinned(_limits(detector), len(patterns), detector.max_peaks)
    return thinned, seen[thinned.extra["row"]]


def _check(detector: FCUNet) -> None:
    check_camera(detector)
    least = (
        "saturation",
        "structure",
        "min_probability",
        "min_spacing",
        "edge_boundary",
    )
    check_numbers(detector, ("radius", "edge", "max_peaks"), least)
    for name, known in (("refine", get_args(Refine)), ("scale", get_args(Scale))):
        if getattr(detector, name) not in known:
            msg = f"{name} is {' or '.join(known)}, got {getattr(detector, name)!r}"
            raise ParameterError(msg)
    if not detector.min_probability < 1:
        msg = f"min_probability lies in 0 … 1, got {detector.min_probability!r}"
        raise ParameterError(msg)


@dataclass(frozen=True, slots=True)
class _Prepared:
    """What is made once in a process for one detector and one shape of patterns.

    ``measures``, ``seen`` (the mask, whole and as the network sees it) and ``refine`` are
    on the device of the patterns, the rest is on the host.
    """

    peaks: Any
    card: ModelCard
    factor: int
    probe: Array
    mask: Array
    measures: Array | None
    seen: Array
    refine: Refinement

    def binned(self, patterns: Array, detector: FCUNet) -> Array:
        """Patterns as the network sees them."""
        xp = namespace(patterns)
        capped = cap_spikes(patterns, camera_of(detector))
        if self.measures is not None:
            capped = capped * self.measures
        binned = bin_patterns(capped, self.factor)
        whole = xp.zeros((len(patterns), *self.mask.shape), xp.float32)
        whole[:, : binned.shape[1], : binned.shape[2]] = binned
        return whole

    def find(self, patterns: Array, detector: FCUNet) -> Candidates:
        """Candidates of the network that are likely enough to be disks."""
        found, seen = self.candidates(patterns, detector)
        probability = disk_probability(seen, self.card.probability)
        found.brightness = found.extra["probability"] = probability
        border = np.minimum(
            found.position, np.array(patterns.shape[1:]) - 1 - found.position
        )
        inside = border.min(axis=1) >= _limits(detector).edge
        return found.rows(inside & (probability >= detector.min_probability))

    def candidates(self, patterns: Array, detector: FCUNet) -> tuple[Candidates, Array]:
        """Whatever the network points at, by its height, and the evidence for each."""
        binned = self.binned(patterns, detector)
        found = self.peaks(binned, self.probe, self.mask)
        image, rank = np.nonzero(found[..., 0] > _LEAST)
        height, y, x, structure, log_deviation, likeness = (
            found[image, rank].astype(float).T
        )
        place = np.stack([y, x], axis=1)
        radius = detector.radius / self.factor
        xp = namespace(binned)
        electrons = binned / np.float32(detector.gain)
        floor = self.factor**2 * camera_of(detector).floor
        at = xp.asarray(image), xp.asarray(place)
        contrast = to_host(ring_contrast(electrons, self.seen, *at, radius, floor))
        deviation = np.exp(np.clip(log_deviation, -4, 1.5)) * self.card.spread
        variance = (deviation * self.factor) ** 2
        candidates = Candidates(
            image,
            place * self.factor + 0.5 * (self.factor - 1),
            brightness=height,
            score=likeness,
            covariance=np.stack([variance, 0 * variance, variance], axis=1),
            extra={
                "structure_factor": np.clip(structure / height**_DOUBT, 0, 1.2) ** 2
            },
        )
        coarse = detector.radius / binning(detector.radius)
        return candidates, evidence(height, likeness, contrast, coarse)


_PREPARED = Recent[_Prepared]()


def _prepare(detector: FCUNet, shape: tuple[int, int], patterns: Array) -> _Prepared:
    key = (detector.token, shape, namespace(patterns).__name__)
    return _PREPARED.get(key, lambda: _make_prepared(detector, shape, patterns))


def _make_prepared(
    detector: FCUNet, shape: tuple[int, int], patterns: Array
) -> _Prepared:
    xp = namespace(patterns)
    mask = measuring(detector, shape)
    card = detector.card
    factor = binning(detector.radius, detector.scale)
    binned = bin_patterns(mask[None].astype(np.float32), factor)[0] == factor**2
    sides = tuple(-(-s // card.multiple) * card.multiple for s in binned.shape)
    padded = np.zeros(sides, np.float32)
    padded[: binned.shape[0], : binned.shape[1]] = binned
    return _Prepared(
        peaks_of(
            detector.weights,
            card,
            2 * detector.max_peaks,
            _LEAST,
            mirrored=detector.mirrored,
        ),
        card,
        factor,
        binned_aperture(detector, (sides[0], sides[1]), factor),
        padded,
        None if detector.mask is None else xp.asarray(detector.mask),
        xp.asarray(padded),
        make_refinement(
            mask,
            detector.radius,
            detector.edge,
            structure=detector.structure,
            camera=camera_of(detector),
            image=detector.image,
            center=detector.center,
        ).on_device_of(patterns),
    )
