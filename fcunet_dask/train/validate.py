"""Figures of a network on validation patterns, and what its card learns from them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import Any, Final, get_args

import numpy as np
import scipy.optimize
import scipy.special

from fcunet_dask.errors import ModelError
from fcunet_dask.model.probability import HEIGHT_ALONE, evidence
from fcunet_dask.model.scale import Scale, binning
from fcunet_dask.model.weights import ModelCard, find_weights, write_card
from fcunet_dask.train.judge.contender import Contender, tune
from fcunet_dask.train.judge.detection import tally, total
from fcunet_dask.train.judge.match import Found, match
from fcunet_dask.train.judge.positions import position_errors
from fcunet_dask.train.judge.truth import Judged, open_scenes
from fcunet_dask.types import Array

_LOOSE: Final = {"refine": "none", "min_probability": 0.0, "max_peaks": 384}
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
        found = _found(weights, judged)
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
    judged = [scene.judged() for scene in open_scenes(path)]
    with TemporaryDirectory() as folder:
        copy = copyfile(weights, Path(folder) / weights.name)
        _, card = find_weights(str(weights))
        card = _calibrated(copy, card, judged)
    write_card(weights, card)
    return card


def _calibrated(weights: Path, card: ModelCard, judged: Sequence[Judged]) -> ModelCard:
    """Return the calibrated card of a file, whose own card is changed on the way."""
    write_card(weights, replace(card, probability=HEIGHT_ALONE, spread=1.0))
    scales: tuple[Scale, ...] = ("coarse",) if card.tile else get_args(Scale)
    parts = [
        _judged_evidence(_found(weights, judged, scale=scale), judged, scale)
        for scale in scales
    ]
    seen, right = (np.concatenate(part) for part in zip(*parts, strict=True))
    card = replace(card, probability=_logistic(seen, right), spread=1.0)
    write_card(weights, card)
    likely = _found(weights, judged, min_probability=0.5)
    return replace(card, spread=_spread(likely, judged))


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
    contender = Contender(str(weights), {**_LOOSE, **options})
    return [contender.candidates(j) for j in judged]


def _logit(probability: Array) -> Array:
    safe = np.clip(probability, 1e-9, 1 - 1e-9)
    return np.asarray(np.log(safe / (1 - safe)))


def _judged_evidence(
    found: Sequence[Found], judged: Sequence[Judged], scale: Scale
) -> tuple[Array, Array]:
    """Evidence of all detections that are right or wrong, and which is which."""
    seen, right = [], []
    for one, truth in zip(found, judged, strict=True):
        matched = match(one.position, truth)
        radius = truth.radius / binning(truth.radius, scale)
        all_of_it = evidence(_logit(one.probability), one.score, radius)
        for rows, value in ((matched.found, 1.0), (matched.false, 0.0)):
            seen.append(all_of_it[rows])
            right.append(np.full(len(rows), value))
    return np.concatenate(seen), np.concatenate(right)


def _logistic(x: Array, y: Array) -> tuple[float, ...]:
    """Weights of the columns of x whose logistic curve has the greatest likelihood."""

    def surprise(weights: Array) -> tuple[float, Array]:
        z = x @ weights
        value = float((np.logaddexp(0, z) - y * z).mean())
        return value, x.T @ (scipy.special.expit(z) - y) / len(y)

    found = scipy.optimize.minimize(surprise, np.zeros(x.shape[1]), jac=True)
    return tuple(map(float, found.x))
