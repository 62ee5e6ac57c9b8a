"""What is known of the disks of a scan before any pattern is looked at."""

import functools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fcunet_dask.kernels.aperture import (
    image_table,
    round_table,
    smooth_modes,
    window_pixels,
)
from fcunet_dask.kernels.arrays import namespace
from fcunet_dask.types import Array

FILLING_MODES = 9
"""Modes of the filling: enough for two fringes across a disk."""


@dataclass(frozen=True, slots=True)
class DiskModel:
    """Everything about the disks of a scan that does not depend on the pattern.

    Attributes
    ----------
    y, x : array
        Pixels of the window, int (n,).
    half : int
        Half width of the window, px.
    table : array
        float32 (3, OFFSETS², n): T and its slopes.
    modes : array
        float32 (k + 1, n): 1 and the modes of the filling.
    products : array
        float32 (n, (k + 1)(k + 2) / 2): products of pairs of modes.
    prior : array
        float32 (k,): relative variance of each mode's coefficient.
    area : array
        float32 (k + 1,): sum of T times each mode, px; the first is the disk's area.
    """

    y: Array
    x: Array
    half: int
    table: Array
    modes: Array
    products: Array
    prior: Array
    area: Array

    def on_device_of(self, array: Any) -> "DiskModel":
        """Return the model with its arrays on the device of `array`."""
        xp = namespace(array)
        names = ("y", "x", "table", "modes", "products", "prior", "area")
        return replace(self, **{n: xp.asarray(getattr(self, n)) for n in names})


def disk_model(
    radius: float,
    edge: float,
    *,
    structure: float,
    image: Array | None = None,
    center: tuple[float, float] = (0.0, 0.0),
    margin: float = 2.5,
) -> DiskModel:
    """Build the model of a disk.

    Parameters
    ----------
    radius, edge : float
        Of the aperture and of its edge, px.
    structure : float
        Standard deviation of the filling relative to its mean; 0 = flat disks.
    image, center : numpy.ndarray, (float, float)
        The probe itself, plateau 1, and its centre, where it is not a round disk.
    margin : float
        Background around the disk that is fitted along, px.

    Returns
    -------
    DiskModel
    """
    half = int(np.ceil(radius + margin))
    y, x = window_pixels(half)
    if image is None:
        table = round_table(radius, edge, half)
    else:
        table = image_table(image, center, half)
    functions, variances = _modes(half, round(2 * radius) / 2)
    first, second = np.triu_indices(len(functions))
    products = (functions[first] * functions[second]).T
    return DiskModel(
        y=y,
        x=x,
        half=half,
        table=table,
        modes=functions,
        products=np.ascontiguousarray(products),
        prior=(max(structure, 1e-3) ** 2 * variances).astype(np.float32),
        area=functions @ table[0].mean(axis=0),
    )


@functools.lru_cache(maxsize=32)
def _modes(half: int, radius: float) -> tuple[Array, Array]:
    y, x = window_pixels(half)
    return smooth_modes(y, x, radius, FILLING_MODES)
