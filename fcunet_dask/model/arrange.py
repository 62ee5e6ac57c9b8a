"""What every detector does first and last: clean patterns, orderly peaks."""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from fcunet_dask.kernels.arrays import namespace, to_host
from fcunet_dask.kernels.maxima import PeakLimits
from fcunet_dask.model.detector import PatternStatus, Peaks
from fcunet_dask.model.search import Candidates
from fcunet_dask.types import Array


def digest(parts: Iterable[Any]) -> str:
    """Name of a set of parameters, arrays by their content: the token of a detector."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            total.update(f"{part.dtype}{part.shape}".encode() + part.tobytes())
        else:
            total.update(repr(part).encode())
        total.update(b"|")
    return total.hexdigest()


def clean(patterns: Array) -> tuple[Array, Array]:
    """Patterns without NaN or infinity, and what was wrong with them.

    Parameters
    ----------
    patterns : array
        (n, rows, columns).

    Returns
    -------
    patterns : array
        The same, not finite pixels set to 0: for a search; a fit leaves them out.
    status : array
        uint8 (n,): `PatternStatus`.
    """
    xp = namespace(patterns)
    status = xp.zeros(len(patterns), xp.uint8)
    if patterns.dtype.kind == "f":
        wide = xp.promote_types(patterns.dtype, xp.float32)  # half precision overflows
        total = patterns.sum(axis=(1, 2), dtype=wide)
        if not bool(xp.isfinite(total).all()):
            finite = xp.isfinite(patterns)
            missing = ~finite.all(axis=(1, 2))
            status |= missing.astype(xp.uint8) * int(PatternStatus.NOT_FINITE)
            patterns = xp.where(finite, patterns, 0)
    if patterns.dtype.kind != "u":
        negative = patterns.min(axis=(1, 2)) < 0
        status |= negative.astype(xp.uint8) * int(PatternStatus.NEGATIVE)
    empty = patterns.max(axis=(1, 2)) <= 0
    status |= empty.astype(xp.uint8) * int(PatternStatus.EMPTY)
    return patterns, status


def arrange(found: Candidates, status: Array, limits: PeakLimits, n: int) -> Peaks:
    """Apply the limits and lay the candidates out as `Peaks`, brightest first."""
    xp = namespace(found.position)
    table, keep = found.selected(limits, n)
    capped = (keep.sum(axis=1) > limits.max_peaks).astype(xp.uint8)
    keep &= xp.cumsum(keep, axis=1) <= limits.max_peaks
    peaks = Peaks.empty(n, limits.max_peaks)
    image, column = xp.nonzero(keep)
    rank = xp.cumsum(keep, axis=1)[image, column] - 1
    chosen = table[image, column]
    at = (to_host(image), to_host(rank))
    peaks.position[at] = to_host(found.position[chosen])
    peaks.covariance[at] = to_host(found.covariance[chosen])
    peaks.intensity[at] = to_host(found.brightness[chosen])
    peaks.score[at] = to_host(found.score[chosen])
    for name, values in found.extra.items():
        getattr(peaks, name)[at] = to_host(values[chosen])
    nothing = (keep.sum(axis=1) == 0).astype(xp.uint8)
    status = status | capped * int(PatternStatus.CAPPED)
    status |= nothing * int(PatternStatus.NO_DISKS)
    peaks.status[:] = to_host(status)
    return peaks
