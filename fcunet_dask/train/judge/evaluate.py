"""All that is measured of detectors, each in a file of its own, and the report of all."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr

from fcunet_dask.errors import ParameterError
from fcunet_dask.train.data import library_name
from fcunet_dask.train.judge.completion import (
    empty_places,
    false_rate,
    remove_disks,
    removed_rate,
    strict_value,
)
from fcunet_dask.train.judge.contender import Contender, Progress, tune_contender
from fcunet_dask.train.judge.detection import (
    GROUPS,
    Tally,
    Threshold,
    by_group,
    curve,
    tally,
    total,
)
from fcunet_dask.train.judge.dose import cpu_milliseconds, dose_at, dose_series
from fcunet_dask.train.judge.match import Found
from fcunet_dask.train.judge.positions import Errors, position_errors
from fcunet_dask.train.judge.results import write_result
from fcunet_dask.train.judge.sets import judged_scans, judged_set
from fcunet_dask.train.judge.strain import measure_strain, summary
from fcunet_dask.train.judge.structure import by_thickness
from fcunet_dask.train.judge.truth import Judged, Scene, open_scenes
from fcunet_dask.types import Array

SIZES: Final = (128, 256)
"""Patterns whose cost is measured, px."""

INVENTED: Final = 1 / 400
"""Share of the removed disks of the validation patterns that the strict threshold lets
be found: as many as correlation finds of its own accord."""

_SERIES: Final = 5
"""One pattern in this many is in the series of doses."""


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """What every detector is judged on.

    Attributes
    ----------
    validation, judged : list of Judged
        What detectors are tuned on, and what they are judged on.
    scenes : list of Scene
        Of `judged`, before they were counted.
    validation_removed, removed : list of (Judged, array)
        The same patterns without some of their disks, and where these were.
    scans : dict
        Simulated multilayers by name, counted.
    what : dict
        What the patterns are, as plain JSON: figures of others cannot be compared.
    """

    validation: list[Judged]
    judged: list[Judged]
    scenes: list[Scene]
    validation_removed: list[tuple[Judged, Array]]
    removed: list[tuple[Judged, Array]]
    scans: dict[str, xr.Dataset]
    what: dict[str, Any] = field(default_factory=dict)


def make_bench(
    sets: str | Path,
    scans: str | Path | None,
    progress: Progress,
    *,
    which: str = "test",
    every: int = 1,
) -> Bench:
    """Open, or make, what detectors are judged on.

    Parameters
    ----------
    sets : path-like
        Folder with ``validation.zarr`` and ``test.zarr``, as of `judged_set`.
    scans : path-like or None
        Folder with ``ideal.zarr``, ``tilted.zarr``, ``thick.zarr``, from
        ``fcunet-dask simulate --scan``, as of `judged_scans`.
    progress : callable
        Called with (what, done, in all).
    which : str
        ``test`` or ``validation``: the set that is judged.
    every : int
        Take one pattern in this many, for a quick look.

    Returns
    -------
    Bench

    Raises
    ------
    ParameterError
        If there is no such set, or `every` leaves no pattern of it.
    StoreError
        If a folder holds something else.
    """
    if which not in ("test", "validation"):
        msg = f"the set is 'test' or 'validation', got {which!r}"
        raise ParameterError(msg)
    multilayers = judged_scans(scans)
    paths = {n: judged_set(sets, n, progress) for n in ("validation", which)}
    tuning = open_scenes(paths["validation"], every=every)
    scenes = open_scenes(paths[which], every=every)
    validation, judged = ([s.judged() for s in part] for part in (tuning, scenes))
    libraries = {n: library_name(str(path)) for n, path in paths.items()}
    return Bench(
        validation=validation,
        judged=judged,
        scenes=scenes,
        validation_removed=_removed(tuning, validation),
        removed=_removed(scenes, judged),
        scans=multilayers,
        what={"set": which, "every": every, "libraries": libraries},
    )


def _removed(
    scenes: Sequence[Scene], judged: Sequence[Judged]
) -> list[tuple[Judged, Array]]:
    """Patterns without some of their disks, and where these were, if there are any."""
    pairs = (remove_disks(s, j) for s, j in zip(scenes, judged, strict=True))
    return [(without.judged(), places) for without, places in pairs if len(places)]


def judge(name: str, bench: Bench, out: str | Path, progress: Progress) -> Path:
    """Tune a detector, measure all there is to measure, and write it down.

    Parameters
    ----------
    name : str
        ``correlation``, or a detector that `fcunet_dask.load_detector` knows: a preset
        or a `.keras` file.
    bench : Bench
        From `make_bench`.
    out : path-like
        Folder for ``NAME.json`` and ``NAME.npz``.
    progress : callable
        Called with (what, done, in all).

    Returns
    -------
    pathlib.Path
        The JSON file.
    """
    contender = tune_contender(name, bench.validation, progress)
    candidates = []
    for i, judged in enumerate(bench.judged):
        candidates.append(contender.candidates(judged))
        progress(f"{name}: patterns", i + 1, len(bench.judged))
    found = [contender.threshold(c) for c in candidates]
    errors = position_errors(found, bench.judged)
    result = {
        "name": Path(name).stem,
        "detector": {"name": name, "sha256": contender.sha256},
        "version": version("fcunet-dask"),
        "judged_on": bench.what,
        "options": contender.options,
        "threshold": asdict(contender.threshold),
        "tried": contender.tried,
        "detection": _detection(candidates, found, bench.judged, contender),
        "position": _positions(errors),
        "structure_factor": by_thickness(found, bench.judged, GROUPS["thickness"]),
        "completion": _completion(contender, found, bench),
        "strict": _strict(contender, candidates, bench, progress),
        "dose": _dose(contender, bench, progress),
        "cost": _cost(contender),
        "strain": _strain(contender, bench, progress),
    }
    return write_result(out, _plain(result), errors)


def _detection(
    candidates: Sequence[Found],
    found: Sequence[Found],
    judged: Sequence[Judged],
    contender: Contender,
) -> dict[str, Any]:
    tallies = [tally(f, j) for f, j in zip(found, judged, strict=True)]
    groups = by_group(tallies, judged)
    scored = curve(candidates, judged, contender.threshold.ranking)
    each = [t.f1 for t in tallies if np.isfinite(t.f1)]
    return {
        "all": _rates(total(tallies)),
        "mean_f1_of_patterns": float(np.mean(each)),
        "average_precision": scored.average_precision,
        "groups": {
            n: {g: _rates(t) for g, t in sorted(table.items())}
            for n, table in groups.items()
        },
        "curve": {
            "precision": scored.precision[:: max(1, len(scored.value) // 200)].tolist(),
            "recall": scored.recall[:: max(1, len(scored.value) // 200)].tolist(),
        },
    }


def _rates(counted: Tally) -> dict[str, float]:
    return {
        **asdict(counted),
        "precision": counted.precision,
        "recall": counted.recall,
        "f1": counted.f1,
    }


def _positions(errors: Errors) -> dict[str, Any]:
    groups = {
        "all": np.ones(len(errors.thickness), bool),
        "< 30 nm": errors.thickness < 30,
        "≥ 30 nm": errors.thickness >= 30,
    }
    return {name: errors.take(keep).summary() for name, keep in groups.items()}


def _completion(
    contender: Contender, found: Sequence[Found], bench: Bench
) -> dict[str, list[int]]:
    counts: dict[str, list[int]] = {}
    for f, j in zip(found, bench.judged, strict=True):
        for kind, places in empty_places(j).items():
            counted = counts.setdefault(kind, [0, 0])
            hits, all_ = false_rate(f, places, j)
            counted[0] += hits
            counted[1] += all_
    counts["removed"] = list(removed_rate(contender.find, bench.removed))
    return counts


def _strict(
    contender: Contender,
    candidates: Sequence[Found],
    bench: Bench,
    progress: Progress,
) -> dict[str, Any]:
    """Judge with a threshold at which few removed disks of validation are found."""
    limit, removed = contender.threshold, bench.validation_removed
    lured = [contender.candidates(j) for j, _ in removed]
    progress(f"{contender.name}: strict", 1, 1)
    value = strict_value(lured, removed, limit.ranking, INVENTED)
    strict = Threshold(limit.ranking, max(value, limit.value))
    tallies = [
        tally(strict(c), j) for c, j in zip(candidates, bench.judged, strict=True)
    ]
    hits = removed_rate(lambda j: strict(contender.candidates(j)), bench.removed)
    return {
        "threshold": asdict(strict),
        "all": _rates(total(tallies)),
        "removed": list(hits),
    }


def _dose(contender: Contender, bench: Bench, progress: Progress) -> dict[str, Any]:
    series = dose_series(contender.find, bench.scenes[::_SERIES])
    progress(f"{contender.name}: doses", 1, 1)
    at = {n: dose_at(series["dose"], series[n]) for n in ("f1", "f1_of_brightest")}
    return {**series, "falls_to_0.8_at": at}


def _cost(contender: Contender) -> dict[str, Any]:
    one = contender.detector
    times = {str(size): cpu_milliseconds(one, size) for size in SIZES}
    return {"cpu_ms": times, "parameters": contender.parameters}


def _strain(contender: Contender, bench: Bench, progress: Progress) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for i, (kind, scan) in enumerate(bench.scans.items()):
        found = measure_strain(scan, contender.detector, contender.threshold)
        results[kind] = summary(found, kind)
        progress(f"{contender.name}: scans", i + 1, len(bench.scans))
    return results


def _plain(value: Any) -> Any:
    """Return plain JSON: NaN and infinity become null."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
