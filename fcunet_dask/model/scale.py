"""The scale at which a network looks at patterns: disks of 2.4 to 4.8 pixels radius.

Adding up whole pixels keeps Poisson noise, masks and positions exact, and large disks
cheap; what it takes from the positions, a fit on the full pattern gives back.
"""

from typing import Final

LARGEST: Final = 4.8
"""Radius, px, from which disks are binned."""


def binning(radius: float) -> int:
    """Return how many pixels to add up along a side, for disks of a radius (px).

    Examples
    --------
    >>> [binning(r) for r in (2.0, 4.7, 5.0, 10.0, 20.0)]
    [1, 1, 2, 3, 5]
    """
    return 1 + int(radius // LARGEST)
