"""How few electrons are enough, and what a pattern costs."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import xarray as xr

from fcunet_dask._computing import computing
from fcunet_dask.model import DiskDetector
from fcunet_dask.probe import measure_probe
from fcunet_dask.simulate.kinematic import KinematicRecipe, simulate_scan
from fcunet_dask.train.judge.detection import tally, total
from fcunet_dask.train.judge.match import Found
from fcunet_dask.train.judge.truth import Judged, Scene
from fcunet_dask.types import Array

DOSES: Final = (1e3, 3e3, 1e4, 3e4, 1e5, 3e5, 1e6)
"""Electrons of a pattern in the series."""
LEVEL: Final = 0.8
"""F1 whose dose is asked for."""

_REPEATS: Final = 5
_BATCH: Final = 32


def dose_series(
    find: Callable[[Judged], Found], scenes: Sequence[Scene]
) -> dict[str, list[float]]:
    """F1 of the same patterns at every dose of `DOSES`.

    Parameters
    ----------
    find : callable
        Pattern → detections that count.
    scenes : sequence of Scene
        The patterns.

    Returns
    -------
    dict
        ``dose``; ``f1``, against what is visible at that dose; ``f1_of_brightest``,
        against what is visible at the largest.
    """
    full = [scene.judged(DOSES[-1]) for scene in scenes]
    rows: dict[str, list[float]] = {"dose": [], "f1": [], "f1_of_brightest": []}
    for dose in DOSES:
        judged = [scene.judged(dose) for scene in scenes]
        found = [find(j) for j in judged]
        fixed = [replace(j, label=f.label) for j, f in zip(judged, full, strict=True)]
        rows["dose"].append(dose)
        for name, truth in (("f1", judged), ("f1_of_brightest", fixed)):
            pairs = zip(found, truth, strict=True)
            rows[name].append(total([tally(f, j) for f, j in pairs]).f1)
    return rows


def dose_at(doses: Sequence[float], f1: Sequence[float], level: float = LEVEL) -> float:
    """Dose at which F1 falls to `level`, coming from the largest dose.

    Interpolated in the logarithm of the dose.

    Parameters
    ----------
    doses, f1 : sequence of float
        Ascending doses, and F1 there; NaN or None where nothing was to be found.
    level : float
        Of F1.

    Returns
    -------
    float
        Electrons; NaN where F1 is not `level` at the largest dose, 0 where it is above
        it at all.
    """
    known = np.isfinite(np.array(f1, float))
    log, value = np.log(doses)[known], np.array(f1, float)[known]
    if not (len(value) and value[-1] >= level):
        return float("nan")
    for i in range(len(value) - 2, -1, -1):
        if value[i] < level:
            share = (level - value[i]) / (value[i + 1] - value[i])
            return float(np.exp(log[i] + share * (log[i + 1] - log[i])))
    return 0.0


def cpu_milliseconds(
    make: Callable[[xr.Dataset], DiskDetector], size: int, disks: float = 5.0
) -> float:
    """CPU time of a pattern, patterns → peaks, on one thread; the least of five runs.

    Parameters
    ----------
    make : callable
        Probe → detector.
    size : int
        Side of the patterns, px: a lattice of about 26 disks.
    disks : float
        Radius of the disks at 128 px; it grows with the size.

    Returns
    -------
    float
        ms.
    """
    scale = size / 128
    default = KinematicRecipe()
    scan = simulate_scan(
        scan=(4, _BATCH // 4),
        detector=(size, size),
        radius=disks * scale,
        g1=(default.g1[0] * scale, default.g1[1] * scale),
        g2=(default.g2[0] * scale, default.g2[1] * scale),
        blocks=None,
    )
    patterns = np.asarray(scan["pattern"]).reshape(-1, size, size)
    detector = make(measure_probe(scan))
    with computing():
        detector(patterns)
        return (
            1e3 * min(_cpu_time(detector, patterns) for _ in range(_REPEATS)) / _BATCH
        )


def _cpu_time(detector: DiskDetector, patterns: Array) -> float:
    start = time.process_time()
    detector(patterns)
    return time.process_time() - start
