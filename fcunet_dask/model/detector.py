"""What a disk detector is: patterns in, peaks out."""

from dataclasses import dataclass
from enum import IntFlag
from typing import Protocol, runtime_checkable

import numpy as np

from fcunet_dask.types import Array


class PatternStatus(IntFlag):
    """Why a pattern gave no, or not all, disks; 0 = nothing to report."""

    EMPTY = 1
    """No counts at all."""
    NOT_FINITE = 2
    """NaN or infinite pixels, which were left out."""
    NEGATIVE = 4
    """Pixels below zero, which count as zero in the search."""
    NO_DISKS = 8
    """Nothing like the probe was found."""
    CAPPED = 16
    """More disks than `max_peaks`; the faintest, or least likely, are missing."""


@dataclass(frozen=True, slots=True)
class Peaks:
    """Disks of a batch of patterns, brightest first; NaN = none.

    Attributes
    ----------
    position : numpy.ndarray
        float32 (n, max_peaks, 2): y, x, px from the middle of the first pixel.
    covariance : numpy.ndarray
        float32 (n, max_peaks, 3): yy, yx, xx, px².
    intensity : numpy.ndarray
        float32 (n, max_peaks): counts in the disk.
    score : numpy.ndarray
        float32 (n, max_peaks): likeness to the probe, 1 = perfect.
    structure_factor : numpy.ndarray
        float32 (n, max_peaks): |V_g| relative to the strongest, from detectors that
        know it.
    probability : numpy.ndarray
        float32 (n, max_peaks): that the disk exists, from detectors that know it.
    status : numpy.ndarray
        uint8 (n,): `PatternStatus`.
    """

    position: Array
    covariance: Array
    intensity: Array
    score: Array
    structure_factor: Array
    probability: Array
    status: Array

    @classmethod
    def empty(cls, n: int, max_peaks: int) -> "Peaks":
        """Return `n` patterns without disks."""

        def nan(*shape: int) -> Array:
            return np.full((n, max_peaks, *shape), np.nan, np.float32)

        status = np.zeros(n, np.uint8)
        return cls(nan(2), nan(3), nan(), nan(), nan(), nan(), status)


@runtime_checkable
class DiskDetector(Protocol):
    """Anything that finds disks; a user's own is one class with these two members.

    A detector is small, immutable and picklable: it travels to the workers, and what is
    large is made there. Equal detectors have equal Dask tokens (`__dask_tokenize__`): by
    them a run knows whether it may go on.
    """

    @property
    def max_peaks(self) -> int:
        """Length of the peak dimension."""

    def __call__(self, patterns: Array) -> Peaks:
        """Find the disks of `patterns` (n, rows, columns), counts, in memory."""
