"""Shared types."""

import math
from numbers import Real
from typing import Any, TypeAlias

from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
"""A NumPy or CuPy array; its shape and dtype are stated in the docstring."""

Vector: TypeAlias = tuple[float, float]
"""A (y, x) pair, in the unit stated in the docstring."""


def is_region(region: Any) -> bool:
    """Whether this is a region of a scan: two slices, (rows, columns)."""
    return (
        isinstance(region, tuple | list)
        and len(region) == 2
        and all(isinstance(part, slice) for part in region)
    )


def is_finite(value: Any) -> bool:
    """Whether this is a real number, Python's or NumPy's, and finite."""
    return isinstance(value, Real) and math.isfinite(value)
