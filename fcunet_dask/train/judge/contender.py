"""Detectors that are judged: made for each probe, tuned on validation patterns alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, Final

import numpy as np

from fcunet_dask.model import DiskDetector, load_detector
from fcunet_dask.model.presets import NETWORKS
from fcunet_dask.model.weights import find_weights, load_network
from fcunet_dask.train.judge.detection import RANKINGS, Threshold, curve, tally, total
from fcunet_dask.train.judge.match import Found, find
from fcunet_dask.train.judge.positions import position_errors
from fcunet_dask.train.judge.truth import Judged

Progress = Callable[[str, int, int], None]
"""Called with (what, done, in all)."""

MAX_PEAKS: Final = 384
"""Room for every disk that a judged pattern has."""

_LOOSE: Final = {"min_score": 0.1, "min_significance": 2.0, "max_peaks": MAX_PEAKS}
_LINEAR: Final = [
    {"method": m, "kernel": k}
    for m, k in product(("cross", "hybrid", "phase"), ("flat", "trench", "edge"))
]

PRESETS: Final = {"correlation": "template", "correlation_edge": "template"}
"""Names that stand for tuned variants of another preset."""
VARIANTS: Final[dict[str, list[dict[str, Any]]]] = {
    "correlation": [
        {**way, "subpixel": "parabola", **_LOOSE}
        for way in [*_LINEAR, {"method": "normalized"}]
    ],
    "correlation_edge": [
        {"method": "cross", "kernel": "edge", "subpixel": "parabola", **_LOOSE}
    ],
    "template": [
        {"subpixel": "fit", "structure": s, **_LOOSE} for s in (0.3, 0.6, 1.0)
    ],
}
"""What is tried on the validation patterns."""
NETWORK: Final[list[dict[str, Any]]] = [
    {"min_probability": 0.05, "max_peaks": MAX_PEAKS}
]
"""Networks have nothing to tune but their threshold."""
CLOSE: Final = 0.01
"""Variants whose F1 is within this of the best are told apart by their positions."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A detector with all its settings.

    Attributes
    ----------
    name : str
        What it is called in the tables.
    options : dict
        Of `fcunet_dask.load_detector`.
    threshold : Threshold
        Which of its detections count.
    tried : list of dict
        Variants with their figures on the validation patterns.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)
    threshold: Threshold = field(default_factory=Threshold)
    tried: list[dict[str, Any]] = field(default_factory=list)

    def detector(self, probe: Any) -> DiskDetector:
        """Make the detector of a probe."""
        return load_detector(PRESETS.get(self.name, self.name), probe, **self.options)

    @property
    def parameters(self) -> int:
        """Trained parameters; 0 of what is not a network."""
        if self.name in VARIANTS:
            return 0
        from fcunet_dask.model.network import parameters  # noqa: PLC0415 (an extra)

        weights, _ = NETWORKS.get(self.name, (self.name, {}))
        return parameters(load_network(*find_weights(weights)))

    @property
    def sha256(self) -> str:
        """Of the weights; empty of what is not a network."""
        if self.name in VARIANTS:
            return ""
        weights, _ = NETWORKS.get(self.name, (self.name, {}))
        return find_weights(weights)[1].sha256

    def candidates(self, judged: Judged) -> Found:
        """Find the disks of a pattern, all of them."""
        return find(self.detector(judged.probe), judged.counts)

    def find(self, judged: Judged) -> Found:
        """Find the disks of a pattern, those that count."""
        return self.threshold(self.candidates(judged))


def tune_contender(
    name: str, validation: Sequence[Judged], progress: Progress, *, part: int = 3
) -> Contender:
    """Choose variant, ranking and threshold on validation patterns.

    The variant is the one of the best F1 on every `part`-th pattern (of those within
    `CLOSE`, the one of the best positions); its threshold is that of the best F1 on all.

    Parameters
    ----------
    name : str
        A key of `VARIANTS`, or a network that `load_detector` knows.
    validation : sequence of Judged
        The patterns.
    progress : callable
        Called with (what, done, in all).
    part : int
        One pattern in this many decides between variants.

    Returns
    -------
    Contender
    """
    variants = [Contender(name, options) for options in VARIANTS.get(name, NETWORK)]
    tried: list[dict[str, Any]] = []
    if len(variants) > 1:
        for i, variant in enumerate(variants):
            tried.append(_figures(variant, validation[::part]))
            progress(f"{name}: variants", i + 1, len(variants))
        best = max(t["f1"] for t in tried)
        close = [i for i, t in enumerate(tried) if t["f1"] >= best - CLOSE]
        variants = [variants[min(close, key=lambda i: tried[i]["rmse_px"])]]
    found = []
    for i, judged in enumerate(validation):
        found.append(variants[0].candidates(judged))
        progress(f"{name}: threshold", i + 1, len(validation))
    return replace(variants[0], threshold=tune(found, validation), tried=tried)


def tune(found: Sequence[Found], judged: Sequence[Judged]) -> Threshold:
    """Ranking and threshold of the best F1."""
    known = [
        r for r in RANKINGS if all(np.isfinite(getattr(f, r)).all() for f in found)
    ]
    best = [(*curve(found, judged, r).best(), r) for r in known]
    value, _, ranking = max(best, key=lambda row: row[1])
    return Threshold(ranking, value)


def _figures(variant: Contender, judged: Sequence[Judged]) -> dict[str, Any]:
    """Options, F1 at the best threshold, and position error of a variant."""
    found = [variant.candidates(j) for j in judged]
    threshold = tune(found, judged)
    kept = [threshold(f) for f in found]
    counted = total([tally(f, j) for f, j in zip(kept, judged, strict=True)])
    shown = {k: v for k, v in variant.options.items() if k not in _LOOSE}
    return {
        **shown,
        "ranking": threshold.ranking,
        "f1": counted.f1 if np.isfinite(counted.f1) else 0.0,
        "rmse_px": position_errors(kept, judged).rmse,
    }
