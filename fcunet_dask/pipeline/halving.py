"""A detector that asks for too much memory gets half as many patterns at a time."""

import logging
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from fcunet_dask.model import DiskDetector, Peaks
from fcunet_dask.model.device import of_memory, release
from fcunet_dask.types import Array

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Halving:
    """A detector that goes on with half of the patterns where memory runs out.

    Parameters
    ----------
    detector : DiskDetector
        Any.
    """

    detector: DiskDetector

    @property
    def max_peaks(self) -> int:
        """Length of the peak dimension."""
        return self.detector.max_peaks

    def __call__(self, patterns: Array) -> Peaks:
        """Find the disks of `patterns` (n, rows, columns), counts.

        Raises
        ------
        MemoryError
            If there is not enough for a single pattern.
        """
        try:
            return self.detector(patterns)
        except Exception as error:
            if not of_memory(error) or len(patterns) < 2:
                raise
            half = len(patterns) // 2
            _LOG.warning("out of memory with %d patterns: now %d", len(patterns), half)
        # outside of the handler: the traceback would keep the arrays of the failure
        release()
        return _joined(self(patterns[:half]), self(patterns[half:]))


def _joined(first: Peaks, second: Peaks) -> Peaks:
    names: Any = [f.name for f in fields(Peaks)]
    return Peaks(
        **{n: np.concatenate([getattr(first, n), getattr(second, n)]) for n in names}
    )
