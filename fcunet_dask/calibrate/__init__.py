"""Calibration of Bragg vectors: origin, ellipse and scale, each with its provenance."""

from fcunet_dask.calibrate.distortion import measure_ellipse, measure_rings, with_scale
from fcunet_dask.calibrate.origin import measure_origin
from fcunet_dask.calibrate.vectors import apply_calibration

__all__ = [
    "apply_calibration",
    "measure_ellipse",
    "measure_origin",
    "measure_rings",
    "with_scale",
]
