"""How many of the visible disks are found, and how many detections are false."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fcunet_dask.simulate.visibility import Visibility
from fcunet_dask.train.judge.match import Found, match
from fcunet_dask.train.judge.truth import Judged
from fcunet_dask.types import Array

RANKINGS = ("probability", "score", "intensity", "relative")
"""By what detections may be ranked: that they exist, their likeness to the probe, their
counts, their share of the brightest's."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of one pattern, or of several together."""

    hits: int = 0
    false: int = 0
    missed: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.hits + other.hits, self.false + other.false, self.missed + other.missed
        )

    @property
    def precision(self) -> float:
        """Share of detections that are right."""
        return _ratio(self.hits, self.hits + self.false)

    @property
    def recall(self) -> float:
        """Share of visible disks that are found."""
        return _ratio(self.hits, self.hits + self.missed)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return _ratio(2 * self.hits, 2 * self.hits + self.false + self.missed)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


@dataclass(frozen=True, slots=True)
class Threshold:
    """Which detections count.

    Parameters
    ----------
    ranking : str
        One of `RANKINGS`.
    value : float
        Least value of it.
    """

    ranking: str = "score"
    value: float = -np.inf

    def __call__(self, found: Found) -> Found:
        """Return the detections that count."""
        return found.take(getattr(found, self.ranking) >= self.value)


def tally(found: Found, judged: Judged) -> Tally:
    """Count one pattern."""
    matched = match(found.position, judged)
    return Tally(len(matched.found), len(matched.false), len(matched.missed))


def total(tallies: Sequence[Tally]) -> Tally:
    """Add up patterns."""
    return sum(tallies, Tally())


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Precision and recall over all thresholds, from strict to loose.

    Attributes
    ----------
    value : array
        float (k,): threshold that keeps the first, the first two, … detections.
    precision, recall : array
        float (k,).
    """

    value: Array
    precision: Array
    recall: Array

    @property
    def f1(self) -> Array:
        """F1 at each threshold."""
        both = self.precision + self.recall
        return np.asarray(2 * self.precision * self.recall / np.maximum(both, 1e-12))

    @property
    def average_precision(self) -> float:
        """Area under the curve whose precision never rises with recall."""
        best = np.maximum.accumulate(self.precision[::-1])[::-1]
        return float(np.sum(np.diff(self.recall, prepend=0.0) * best))

    def best(self) -> tuple[float, float]:
        """Return the threshold of the largest F1, and that F1."""
        if not len(self.value):
            return -np.inf, 0.0
        i = int(self.f1.argmax())
        return float(self.value[i]), float(self.f1[i])


def curve(
    found: Sequence[Found], judged: Sequence[Judged], ranking: str = "score"
) -> Curve:
    """Precision and recall of detections that are matched once, all together.

    Parameters
    ----------
    found : sequence of Found
        All candidates of each pattern.
    judged : sequence of Judged
        The patterns.
    ranking : str
        One of `RANKINGS`.

    Returns
    -------
    Curve
    """
    values, right, visible = [], [], 0
    for f, j in zip(found, judged, strict=True):
        matched = match(f.position, j)
        rank = getattr(f, ranking)
        values += [rank[matched.found], rank[matched.false]]
        right += [np.ones(len(matched.found)), np.zeros(len(matched.false))]
        visible += int((j.label == Visibility.VISIBLE).sum())
    value, hit = np.concatenate(values), np.concatenate(right)
    order = np.argsort(-value, kind="stable")
    value, hits = value[order], np.cumsum(hit[order])
    last = np.append(np.diff(value) != 0, True) if len(value) else np.empty(0, bool)
    kept = np.arange(1, len(value) + 1)
    precision, recall = hits / np.maximum(kept, 1), hits / max(visible, 1)
    return Curve(value[last], precision[last], recall[last])


Group = Callable[[Judged], str]
"""Name of the group that a pattern is in."""


def bins(name: str, edges: Sequence[float], unit: str = "") -> Group:
    """Group patterns by a condition.

    Parameters
    ----------
    name : str
        Key of `Judged.condition`.
    edges : sequence of float
        Where a new group starts.
    unit : str
        For the names of the groups.

    Returns
    -------
    callable
    """

    def group(judged: Judged) -> str:
        i = int(np.searchsorted(edges, judged.condition[name], side="right"))
        words = [f"{e:g}" for e in edges]
        if i == 0:
            text = f"< {words[0]}"
        elif i == len(edges):
            text = f"≥ {words[-1]}"
        else:
            text = f"{words[i - 1]} – {words[i]}"
        return f"{text} {unit}".strip()

    return group


GROUPS: dict[str, Group] = {
    "thickness": bins("thickness", (15, 35, 55), "nm"),
    "dose": bins("dose", (3e4, 1e5, 3e5), "e"),
    "tilt off the zone axis": bins("tilt", (1.5, 3, 6), "°"),
    "semi-angle": bins("semiangle", (1.5, 2.5, 4), "mrad"),
    "disk radius": bins("radius", (3, 4, 6), "px"),
    "spacing of visible disks": bins("spacing", (2, 3), "radii"),
    "crystal system": lambda judged: str(judged.condition["system"]),
}
"""The tables that are broken down, and how."""


def by_group(
    tallies: Sequence[Tally], judged: Sequence[Judged]
) -> dict[str, dict[str, Tally]]:
    """Add up the tallies of each group of each of `GROUPS`."""
    tables: dict[str, dict[str, Tally]] = {}
    for name, group in GROUPS.items():
        table: dict[str, Tally] = {}
        for t, j in zip(tallies, judged, strict=True):
            key = group(j)
            table[key] = table.get(key, Tally()) + t
        tables[name] = table
    return tables
