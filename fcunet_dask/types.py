"""Shared type aliases."""

from typing import Any, TypeAlias

from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
"""A NumPy or CuPy array; its shape and dtype are stated in the docstring."""

Vector: TypeAlias = tuple[float, float]
"""A (y, x) pair, in the unit stated in the docstring."""
