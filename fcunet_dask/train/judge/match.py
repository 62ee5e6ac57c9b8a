"""Which detection is which reflection: one to one, within a tolerance."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree

from fcunet_dask.model import DiskDetector
from fcunet_dask.simulate.visibility import Visibility, frame_distance
from fcunet_dask.train.judge.truth import Judged
from fcunet_dask.types import Array

_FAR = 1e6


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a detector found in one pattern, one row a disk.

    Attributes
    ----------
    position : array
        float64 (m, 2) as (y, x), px.
    covariance : array
        float64 (m, 3): yy, yx, xx, px².
    intensity, score : array
        float64 (m,).
    structure_factor, probability : array
        float64 (m,), NaN from detectors that do not know them.
    """

    position: Array
    covariance: Array
    intensity: Array
    score: Array
    structure_factor: Array
    probability: Array

    def take(self, keep: Array) -> "Found":
        """Return some of the disks."""
        return Found(*(getattr(self, name)[keep] for name in self.__dataclass_fields__))

    @property
    def relative(self) -> Array:
        """Intensity over that of the brightest."""
        return np.asarray(self.intensity / self.intensity.max(initial=1e-30))


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """Detections of one pattern beside its truth.

    Attributes
    ----------
    found, true : array
        int (k,): detection and reflection of each pair.
    false : array
        int: detections that belong to nothing.
    missed : array
        int: visible reflections without a detection.
    """

    found: Array
    true: Array
    false: Array
    missed: Array


def find(detector: DiskDetector, counts: Array) -> Found:
    """Disks of one pattern (rows, columns)."""
    peaks = detector(counts[None])
    keep = np.isfinite(peaks.position[0]).all(axis=1)
    names = Found.__dataclass_fields__
    return Found(*(np.asarray(getattr(peaks, n)[0], float)[keep] for n in names))


def match(found: Array, judged: Judged) -> Matches:
    """Pair detections with visible reflections: as many as possible, then the nearest.

    A detection without a partner counts for nothing where it is within the tolerance of
    a doubtful reflection, or closer to the border than a radius; else it is false.

    Parameters
    ----------
    found : array
        (m, 2) as (y, x), px.
    judged : Judged
        The pattern.

    Returns
    -------
    Matches
    """
    visible = np.flatnonzero(judged.label == Visibility.VISIBLE)
    first, second = pairs(found, judged.position[visible], judged.tolerance)
    alone = np.setdiff1d(np.arange(len(found)), first)
    faint = judged.position[judged.label == Visibility.FAINT]
    excused = near(found[alone], faint, judged.tolerance)
    excused |= frame_distance(found[alone], judged.counts.shape) < judged.radius
    return Matches(
        found=first,
        true=visible[second],
        false=alone[~excused],
        missed=np.delete(visible, second),
    )


def pairs(first: Array, second: Array, tolerance: float) -> tuple[Array, Array]:
    """One-to-one pairs within `tolerance`: most pairs, then least distance.

    Parameters
    ----------
    first, second : array
        (m, 2), (n, 2).
    tolerance : float
        In their unit.

    Returns
    -------
    tuple of numpy.ndarray
        int (k,), (k,): indices of the partners.
    """
    if not len(first) or not len(second):
        return np.empty(0, int), np.empty(0, int)
    distance = np.linalg.norm(first[:, None] - second, axis=-1)
    near_ = distance <= tolerance
    rows, columns = linear_sum_assignment(np.where(near_, distance, _FAR))
    kept = near_[rows, columns]
    return rows[kept], columns[kept]


def near(points: Array, others: Array, tolerance: float) -> Array:
    """Whether each of `points` (m, 2) has one of `others` (n, 2) within `tolerance`."""
    if not len(points) or not len(others):
        return np.zeros(len(points), bool)
    distance, _ = cKDTree(others).query(points)
    return np.asarray(distance <= tolerance)
