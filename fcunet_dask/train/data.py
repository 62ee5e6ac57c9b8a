"""Batches for training, straight from a library: artefacts and crops on the fly.

A batch is a function of (seed, step) alone: whoever makes it, however often a training
was interrupted, it holds the same numbers.
"""

import json
from dataclasses import dataclass, field, replace
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final

import numpy as np
import xarray as xr

from fcunet_dask._commit import BlockStore
from fcunet_dask._recipes import check_types
from fcunet_dask.calibration import electron_wavelength
from fcunet_dask.errors import ParameterError, StoreError
from fcunet_dask.kernels.correlation import bin_patterns
from fcunet_dask.kernels.probe import ROUND, measure_disk
from fcunet_dask.kernels.spikes import cap_spikes
from fcunet_dask.model.scale import binning
from fcunet_dask.model.search import binned_disk
from fcunet_dask.simulate.artefacts import Artefacts, Clean, Observation, expect, expose
from fcunet_dask.simulate.conditions import ArtefactRecipe, draw_artefacts
from fcunet_dask.simulate.erasure import lonely_disks, without_disks
from fcunet_dask.simulate.library import clean_pattern, open_library, read_recipe
from fcunet_dask.simulate.visibility import (
    Visibility,
    elastic_pattern,
    visible_disks,
)
from fcunet_dask.train.example import Example, cropped, turned
from fcunet_dask.train.targets import render_target
from fcunet_dask.types import Array

_HELD_OUT: Final = ("validation", "test")
_EDGE: Final = 0.5
_MOST_ERASED: Final = 8
_MADE_SPREAD: Final = np.array([0.01, 0.1])
"""What radius and edge of made probes err by, where they were measured on disks."""
_KNOWN: Final = 0.5
"""Share of cameras whose hot and dead pixels the mask knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRecipe:
    """How examples are cut from patterns.

    Parameters
    ----------
    size : int
        Side of a crop, px.
    crops : int
        Crops of one pattern in a batch.
    fine : float
        Share of patterns binned for the fine scale, not for the coarse one.
    jitter : float
        Share of patterns binned by one more or one less than at inference.
    erased : float
        Share of patterns that lack some of their disks, so that the network learns to
        find what is there, and not what the lattice makes likely.
    made : float
        Share of patterns whose probe, if it is a plain disk, is a made one, of measured
        radius and edge and without tails and noise, as detectors have it.
    artefacts : ArtefactRecipe
        What happens to the clean patterns.

    Raises
    ------
    ParameterError
        If a number is out of its range.
    """

    size: int = 64
    crops: int = 8
    fine: float = 0.4
    jitter: float = 0.25
    erased: float = 0.5
    made: float = 0.7
    artefacts: ArtefactRecipe = field(
        default_factory=lambda: ArtefactRecipe(
            dose=(5e2, 2e6),
            soft=0.12,
            scintillator=0.35,
            spread_noise=0.5,
            sigma=(0.3, 1.5),
            tail=(0.0, 0.5),
        )
    )

    def __post_init__(self) -> None:
        check_types(self, ParameterError)
        for name in ("size", "crops"):
            value = getattr(self, name)
            if not value > 0:
                msg = f"recipe: data.{name} must be a positive number, got {value!r}"
                raise ParameterError(msg)
        for name in ("fine", "jitter", "erased", "made"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                msg = f"recipe: data.{name} must lie in 0 … 1, got {value!r}"
                raise ParameterError(msg)


@dataclass(frozen=True, slots=True)
class Source:
    """What a training draws from, however far the library has grown since it began.

    Attributes
    ----------
    path : str
        The library.
    specimens : tuple of int or None
        Those that were finished when the training began; None: all that it will hold.
    """

    path: str
    specimens: tuple[int, ...] | None = None


def make_batch(
    source: Source, recipe: DataRecipe, batch: int, seed: int, step: int
) -> Any:
    """Return the batch of one step of a training.

    Parameters
    ----------
    source : Source
        The library.
    recipe : DataRecipe
        How to cut.
    batch : int
        Examples; a multiple of ``recipe.crops``.
    seed, step : int
        What makes it this batch.

    Returns
    -------
    inputs : tuple of numpy.ndarray
        Pattern, probe, mask: float32 (batch, size, size, 1).
    target : numpy.ndarray
        float32 (batch, size, size, channels), from `render_target`.
    """
    rng = np.random.default_rng([seed, step])
    inputs: list[tuple[Array, Array, Array]] = []
    targets: list[Array] = []
    while len(targets) < batch:
        example = draw_example(_library(source), recipe, rng)
        for _ in range(recipe.crops):
            cut = turned(cropped(example, recipe.size, rng), rng)
            inputs.append((cut.pattern, cut.probe, cut.mask))
            targets.append(_target(cut))
    for target, (_, _, mask) in zip(targets, inputs, strict=True):
        target[..., 4] *= mask
    stacked = (np.stack(part)[..., None] for part in zip(*inputs, strict=True))
    return tuple(stacked), np.stack(targets)


def _target(cut: Example) -> Array:
    size = cut.mask.shape
    truth = cut.position, cut.label, cut.strength
    return render_target(*truth, (size[0], size[1]), cut.radius, cut.emptied)


@lru_cache(maxsize=2)
def _library(source: Source) -> xr.Dataset:
    library = open_library(source.path, partial=True)
    if source.specimens is not None:
        library = library.sel(specimen=list(source.specimens))
    for name in ("parameter", "scale", "thickness_angstrom", "probe_scale"):
        library[name].load()
    return library


def library_name(path: str) -> str:
    """Name of what a library holds: a digest of its recipe and crystals."""
    attrs = open_library(path, partial=True).attrs
    what = [attrs["fcunet_dask"]["fingerprint"], attrs["provenance"]["crystals"]]
    return sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def find_source(path: str) -> Source:
    """Return what a training on a library draws from: all that is finished now.

    Raises
    ------
    StoreError
        If there is no library, nothing of it is finished, or its crystals are those that
        networks are tuned or judged on.
    """
    split = read_recipe(path).split
    if split in _HELD_OUT:
        msg = (
            f"{path} holds the {split} crystals, which no network may have seen: train "
            "on another library (fcunet-dask simulate --recipe library)"
        )
        raise StoreError(msg)
    finished = open_library(path, partial=True)["specimen"].to_numpy()
    if not len(finished):
        msg = f"{path} has no finished block yet: wait, or run its simulation again"
        raise StoreError(msg)
    unfinished = BlockStore(path).pending()
    return Source(path, tuple(finished.tolist()) if unfinished else None)


def draw_example(
    library: xr.Dataset, recipe: DataRecipe, rng: np.random.Generator
) -> Example:
    """Draw a pattern of a library at random and observe it.

    Parameters
    ----------
    library : xarray.Dataset
        From `open_library`.
    recipe : DataRecipe
        What happens to it.
    rng : numpy.random.Generator
        Where all draws come from.

    Returns
    -------
    Example
        The whole pattern.
    """
    names = ("specimen", "probe", "thickness")
    specimen, probe, thickness = (int(rng.integers(library.sizes[n])) for n in names)
    clean = clean_pattern(library, specimen, probe, thickness)
    radius = disk_radius(library, specimen, probe)
    artefacts = draw_artefacts(
        recipe.artefacts, rng, size=clean.pattern.shape[0], radius=radius, two=True
    )
    second = None
    if artefacts.second_share:
        other = int(rng.integers(library.sizes["thickness"]))
        second = _twin(clean_pattern(library, specimen, probe, other))
    factor = binning(radius, "fine" if rng.random() < recipe.fine else "coarse")
    if rng.random() < recipe.jitter:
        factor = max(1, factor + int(rng.choice([-1, 1])))
    erased = 0
    if rng.random() < recipe.erased:
        erased = int(rng.integers(1, _MOST_ERASED + 1))
    made = rng.random() < recipe.made
    return observed_example(
        clean, artefacts, rng, radius, factor, second, erased=erased, made=made
    )


def _twin(clean: Clean) -> Clean:
    """Mirror a pattern on its diagonal."""
    return replace(clean, pattern=clean.pattern.T, q=clean.q[:, ::-1])


def disk_radius(library: xr.Dataset, specimen: int, probe: int) -> float:
    """Radius of the disks of a pattern of a library, px."""
    row = library["parameter"].to_numpy()[specimen, probe]
    values = dict(zip(library["quantity"].to_numpy(), row, strict=True))
    wavelength = electron_wavelength(float(values["voltage"]))
    return float(values["semiangle"] * 1e-3 / wavelength / values["q_step"])


def observed_example(
    clean: Clean,
    artefacts: Artefacts,
    rng: np.random.Generator,
    radius: float,
    factor: int,
    second: Clean | None = None,
    *,
    erased: int = 0,
    made: bool = False,
) -> Example:
    """Observe a clean pattern and bin it.

    Parameters
    ----------
    clean, second : Clean
        What was simulated.
    artefacts : Artefacts
        What happens to it.
    rng : numpy.random.Generator
        Noise.
    radius : float
        Of the disks, px of the full pattern.
    factor : int
        Pixels that are added up, along a side.
    erased : int
        Disks to take out, if so many stand alone.
    made : bool
        Whether the probe, if a plain disk, is a made one.

    Returns
    -------
    Example
    """
    expected, position, label = _seen(clean, artefacts, second, radius)
    emptied = position[:0]
    if erased:
        choice = lonely_disks(position, label, radius, clean.pattern.shape)
        rows = rng.permutation(choice[choice < len(clean.q)])[:erased]
        emptied = position[rows]
        clean = without_disks(clean, rows, radius)
        expected, position, label = _seen(clean, artefacts, second, radius)
    seen = expose(expected, _unsaturated(artefacts, expected.probe), rng)
    probe = _made_probe(seen.probe, factor, rng) if made else None
    label[_shadowed(position, seen.mask)] = Visibility.FAINT
    top = seen.strength[1:].max(initial=0.0)
    strength = np.concatenate([[1.0], seen.strength[1:] / (top or 1.0)])
    known = seen.mask if rng.random() < _KNOWN else expected.mask
    mask = bin_patterns(known[None].astype(np.float32), factor)[0]
    full = mask == factor**2
    pattern = bin_patterns(cap_spikes(seen.pattern[None]), factor)[0] * full
    return Example(
        pattern.astype(np.float32),
        _middle_binned(seen.probe, factor) if probe is None else probe,
        full.astype(np.float32),
        (position - 0.5 * (factor - 1)) / factor,
        label,
        strength,
        radius / factor,
        (emptied - 0.5 * (factor - 1)) / factor,
    )


def _seen(
    clean: Clean, artefacts: Artefacts, second: Clean | None, radius: float
) -> tuple[Observation, Array, Array]:
    """Return what the camera gets, where its reflections are, what shows of each."""
    expected = expect(clean, artefacts, second)
    camera = artefacts.camera
    position = expected.q / clean.q_step + np.array(clean.pattern.shape) // 2
    label = visible_disks(
        expected.pattern * artefacts.dose + (camera.read_noise / camera.gain) ** 2,
        position,
        radius + 0.5 * artefacts.soft,
        _EDGE,
        expected.strength,
        elastic_pattern(clean, artefacts, second) * artefacts.dose,
    )
    return expected, position, label


def _unsaturated(artefacts: Artefacts, probe: Array) -> Artefacts:
    """Expose the probe as one who looks at it would: at most half of the range."""
    camera = artefacts.camera
    most = 0.5 * 2.0**camera.bits / camera.gain / float(probe.max())
    return replace(artefacts, probe_dose=min(artefacts.probe_dose, most))


def _made_probe(probe: Array, factor: int, rng: np.random.Generator) -> Array | None:
    """Return a plain disk, binned, as a detector makes it; None for any other shape."""
    disk = measure_disk(probe)
    if not disk.likeness >= ROUND:
        return None
    error = np.exp(_MADE_SPREAD * rng.standard_normal(2))
    radius, edge = np.array([disk.radius, disk.edge]) * error
    rows, columns = (s // factor for s in probe.shape)
    made = binned_disk(float(radius), float(edge), (rows, columns), factor)
    return made.astype(np.float32)


def _shadowed(position: Array, mask: Array) -> Array:
    """Whether the middle of a disk is behind the beam stop, or off the frame."""
    pixel = np.rint(np.nan_to_num(position)).astype(int)
    inside = ((pixel >= 0) & (pixel < mask.shape)).all(1)
    row, column = np.clip(pixel, 0, np.array(mask.shape) - 1).T
    around = sum(
        mask[np.clip(row + i, 0, mask.shape[0] - 1), column].astype(int)
        + mask[row, np.clip(column + i, 0, mask.shape[1] - 1)]
        for i in (-1, 0, 1)
    )
    return np.asarray(~inside | (around < 4))


def _middle_binned(probe: Array, factor: int) -> Array:
    """Bin a probe such that its middle falls on ``size // 2`` of the binned image.

    The middle of the block of `factor` pixels there is the middle of the probe; for
    even factors that lies half a pixel off, which linear interpolation moves.
    """
    rows, columns = (s // factor for s in probe.shape)
    first = (
        probe.shape[0] // 2 - (rows // 2) * factor - (factor - 1) // 2,
        probe.shape[1] // 2 - (columns // 2) * factor - (factor - 1) // 2,
    )
    if factor % 2 == 0:
        probe = 0.5 * (probe + np.roll(probe, 1, 0))
        probe = 0.5 * (probe + np.roll(probe, 1, 1))
    moved = np.roll(probe, (-first[0], -first[1]), (0, 1))
    return np.asarray(bin_patterns(moved[None], factor)[0], np.float32)
