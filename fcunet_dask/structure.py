"""Structure-factor images: what lies under the patterns, multiple scattering undone."""

from dataclasses import dataclass
from typing import Any, Protocol

import xarray as xr

from fcunet_dask._blockwise import map_patterns
from fcunet_dask.errors import ParameterError
from fcunet_dask.schema import PATTERN, SCAN, STRUCTURE_FACTOR, Q, annotate, validate
from fcunet_dask.types import Array


class Imager(Protocol):
    """What this stage asks of a detector: `fcunet_dask.model.FCUNet` has it."""

    def structure_factors(self, patterns: Array) -> Array:
        """Patterns (n, rows, columns) → images of the same shape."""


@dataclass(frozen=True)
class _BlockImages:
    detector: Imager

    def __call__(self, block: Array) -> dict[str, Array]:
        images = self.detector.structure_factors(block.reshape(-1, *block.shape[2:]))
        return {STRUCTURE_FACTOR.name: images.reshape(block.shape)}


def structure_factors(scan: xr.Dataset, detector: Any) -> xr.DataArray:
    """Structure-factor image of every pattern, lazily: nothing is kept.

    Parameters
    ----------
    scan : xarray.Dataset
        With ``pattern`` (scan_y, scan_x, q_y, q_x), counts.
    detector : FCUNet
        ``load_detector("fcunet", probe)``.

    Returns
    -------
    xarray.DataArray
        ``structure_factor`` (scan_y, scan_x, q_y, q_x), float32: spots of the height
        |V_g| relative to the strongest, at the Bragg disks.

    Raises
    ------
    ParameterError
        If the detector does not know structure factors.
    SchemaError
        If `scan` lacks ``pattern``.
    """
    validate(scan, PATTERN)
    if not hasattr(detector, "structure_factors"):
        msg = (
            f"{type(detector).__name__} finds disks but no structure factors: use "
            "load_detector('fcunet', probe)"
        )
        raise ParameterError(msg)
    pattern = scan[PATTERN.name]
    name = STRUCTURE_FACTOR.name
    arrays = map_patterns(_BlockImages(detector), pattern, {name: pattern.shape[2:]})
    coordinates = {n: scan[n] for n in (*SCAN, *Q) if n in scan.coords}
    images = xr.Dataset({name: (pattern.dims, arrays[name])}, coordinates)
    return annotate(images, STRUCTURE_FACTOR)[name]
