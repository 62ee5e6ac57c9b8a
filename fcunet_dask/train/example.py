"""One pattern as the network sees it, and the windows that are cut from it."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from fcunet_dask.simulate.visibility import Visibility
from fcunet_dask.types import Array

_TRIES: Final = 8


@dataclass(frozen=True, slots=True)
class Example:
    """One pattern as the network sees it: binned, with its truth, px.

    Attributes
    ----------
    pattern, probe, mask : array
        float32 (rows, columns): counts, counts, 1 = measures; the middle of the probe
        is at ``size // 2``.
    position : array
        (n, 2) as (y, x), px.
    label : array
        (n,) `Visibility`.
    strength : array
        (n,) |V_g| relative to the strongest visible one; the direct beam has 1.
    radius : float
        Of the disks, px.
    emptied : array
        (k, 2) as (y, x), px: where disks were taken out.
    """

    pattern: Array
    probe: Array
    mask: Array
    position: Array
    label: Array
    strength: Array
    radius: float
    emptied: Array


def cropped(example: Example, size: int, rng: np.random.Generator) -> Example:
    """Cut a window that shows at least one disk, if there is one.

    Parameters
    ----------
    example : Example
        A whole pattern.
    size : int
        Side of the window, px.
    rng : numpy.random.Generator
        Where it lies; up to 4 px of it outside.

    Returns
    -------
    Example
        Zeros, of which nothing is asked, outside the pattern.
    """
    shape = np.array(example.pattern.shape)
    free = shape - size
    seen = example.position[example.label == Visibility.VISIBLE]
    first = np.zeros(2, int)
    for _ in range(_TRIES):
        first = np.array(
            [rng.integers(min(f, 0) - 4, max(f, 0) + 5) for f in free], dtype=int
        )
        if ((seen > first) & (seen < first + size)).all(1).any():
            break
    half = shape // 2 - size // 2
    pattern, mask = (_window(a, first, size) for a in (example.pattern, example.mask))
    return replace(
        example,
        pattern=pattern,
        probe=_window(example.probe, half, size),
        mask=mask,
        position=example.position - first,
        emptied=example.emptied - first,
    )


def _window(image: Array, first: Array, size: int) -> Array:
    """Cut a square window; zeros outside the image."""
    out = np.zeros((size, size), np.float32)
    low = np.maximum(first, 0)
    high = np.minimum(first + size, image.shape)
    part = image[low[0] : high[0], low[1] : high[1]]
    at = low - first
    out[at[0] : at[0] + part.shape[0], at[1] : at[1] + part.shape[1]] = part
    return out


def turned(example: Example, rng: np.random.Generator) -> Example:
    """Reflect and transpose at random; the middle of the probe stays at size // 2.

    Parameters
    ----------
    example : Example
        A square.
    rng : numpy.random.Generator
        Which of the eight ways.

    Returns
    -------
    Example
    """
    pattern, probe, mask = example.pattern, example.probe, example.mask
    places, size = [example.position, example.emptied], example.pattern.shape[0]
    for axis in (0, 1):
        if rng.random() < 0.5:
            pattern, mask = np.flip(pattern, axis), np.flip(mask, axis)
            probe = np.roll(np.flip(probe, axis), 1 - size % 2, axis)
            places = [_mirrored(p, axis, size) for p in places]
    if rng.random() < 0.5:
        pattern, probe, mask = pattern.T, probe.T, mask.T
        places = [p[:, ::-1] for p in places]
    return replace(
        example,
        pattern=pattern,
        probe=probe,
        mask=mask,
        position=places[0],
        emptied=places[1],
    )


def _mirrored(places: Array, axis: int, size: int) -> Array:
    out = places.copy()
    out[:, axis] = size - 1 - out[:, axis]
    return out
