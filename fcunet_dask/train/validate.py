"""Figures of a network on validation patterns, and what its card learns from them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import Any, Final, cast, get_args

import numpy as np
import scipy.optimize
import scipy.special

from fcunet_dask.errors import ModelError
from fcunet_dask.model import load_detector
from fcunet_dask.model.fcunet import FCUNet, weighed_evidence
from fcunet_dask.model.scale import Scale
from fcunet_dask.model.weights import ModelCard, find_weights, write_card
from fcunet_dask.train.judge.completion import remove_disks
from fcunet_dask.train.judge.contender import MAX_PEAKS, Contender, tune
from fcunet_dask.train.judge.detection import tally, total
from fcunet_dask.train.judge.match import Found, match, near
from fcunet_dask.train.judge.positions import position_errors
from fcunet_dask.train.judge.truth import Judged, Scene, open_scenes
from fcunet_dask.types import Array

_OWN: Final = {"refine": "none", "min_probability": 0.5, "max_peaks": MAX_PEAKS}
_EMPTIED: Final = 30.0
"""Weight of a candidate where a disk was taken out: patterns do not often lack one, but a
network that is asked whether they do must not say no out of habit."""
_ONE_SIGMA: Final = 0.6827
"""Share of normal errors within 1 σ."""


def validation(path: str | Path, every: int = 4) -> Callable[[Path], dict[str, float]]:
    """Return the figures of a network, F1 and position error (px), as a function.

    Parameters
    ----------
    path : path-like
        The validation set.
    every : int
        One pattern in this many.
    """
    judged = [scene.judged() for scene in open_scenes(path, every=every)]

    def figures(weights: Path) -> dict[str, float]:
        found = _found(weights, judged, min_probability=0.0)
        threshold = tune(found, judged)
        kept = [threshold(f) for f in found]
        counted = total([tally(f, j) for f, j in zip(kept, judged, strict=True)])
        return {"f1": counted.f1, "rmse_px": position_errors(kept, judged).rmse}

    return figures


def calibrate_card(weights: Path, path: str | Path) -> ModelCard:
    """Measure the probability of a disk, and the scale of the error, on validation data.

    Parameters
    ----------
    weights : pathlib.Path
        A `.keras` file with its card, which is rewritten.
    path : path-like
        The validation set.

    Returns
    -------
    ModelCard

    Raises
    ------
    ModelError
        If no disk was found.
    """
    scenes = open_scenes(path)
    with TemporaryDirectory() as folder:
        copy = copyfile(weights, Path(folder) / weights.name)
        _, card = find_weights(str(weights))
        card = _calibrated(copy, replace(card, spread=1.0), scenes)
    write_card(weights, card)
    return card


def _calibrated(weights: Path, card: ModelCard, scenes: Sequence[Scene]) -> ModelCard:
    """Return the calibrated card of a file, whose own card is changed on the way."""
    write_card(weights, card)
    scales: tuple[Scale, ...] = ("coarse",) if card.tile else get_args(Scale)
    judged = [scene.judged() for scene in scenes]
    parts = [
        part
        for scene, j in zip(scenes, judged, strict=True)
        for part in _judged_evidence(str(weights), scene, j, scales)
    ]
    seen, right, weight = (np.concatenate(p) for p in zip(*parts, strict=True))
    card = replace(card, probability=_logistic(seen, right, weight))
    write_card(weights, card)
    return replace(card, spread=_spread(_found(weights, judged), judged))


def _spread(found: Sequence[Found], judged: Sequence[Judged]) -> float:
    """Factor that brings 68 % of the whitened errors within 1 σ.

    Raises
    ------
    ModelError
        If no disk was found.
    """
    errors = np.abs(position_errors(found, judged).whitened)
    if not np.isfinite(errors).any():
        msg = "the network finds no disk of the validation set: train it longer"
        raise ModelError(msg)
    return float(np.nanquantile(errors, _ONE_SIGMA))


def _found(weights: Path, judged: Sequence[Judged], **options: Any) -> list[Found]:
    contender = Contender(str(weights), {**_OWN, **options})
    return [contender.candidates(j) for j in judged]


def _judged_evidence(
    weights: str, scene: Scene, judged: Judged, scales: Sequence[Scale]
) -> Iterator[tuple[Array, Array, Array]]:
    """Yield evidence, 1 where it is right, and weight of the candidates of a pattern.

    Then those of the candidates at places whose disks were taken out of it.
    """
    without, places = remove_disks(scene, judged)
    emptied = without.judged()
    for scale in scales:
        found, seen = _looked_at(weights, judged, scale)
        matched = match(found, judged)
        rows = np.concatenate([matched.found, matched.false])
        right = np.arange(len(rows)) < len(matched.found)
        yield seen[rows], right.astype(float), np.ones(len(rows))
        invented, lured = _looked_at(weights, emptied, scale)
        lured = lured[near(invented, places, judged.tolerance)]
        yield lured, np.zeros(len(lured)), np.full(len(lured), _EMPTIED)


def _looked_at(weights: str, judged: Judged, scale: Scale) -> tuple[Array, Array]:
    """Position of all candidates in a pattern, and their evidence."""
    detector = load_detector(weights, judged.probe, scale=scale, max_peaks=MAX_PEAKS)
    found, seen = weighed_evidence(cast("FCUNet", detector), judged.counts[None])
    return found.position, seen


def _logistic(x: Array, y: Array, weight: Array) -> tuple[float, ...]:
    """Weights of the columns of x whose logistic curve has the greatest likelihood."""
    share = weight / weight.sum()

    def surprise(weights: Array) -> tuple[float, Array]:
        z = x @ weights
        value = float(share @ (np.logaddexp(0, z) - y * z))
        return value, x.T @ (share * (scipy.special.expit(z) - y))

    found = scipy.optimize.minimize(surprise, np.zeros(x.shape[1]), jac=True)
    return tuple(map(float, found.x))
