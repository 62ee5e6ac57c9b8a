"""What a run may be told."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fcunet_dask.calibration import Calibration
from fcunet_dask.errors import ParameterError
from fcunet_dask.lattice import given_lattice
from fcunet_dask.model import DiskDetector
from fcunet_dask.types import is_finite, is_region


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a run may be told; everything has a default that works.

    Parameters
    ----------
    calibration : Calibration, optional
        What is given in it replaces the file's.
    detector : str or DiskDetector
        ``template`` with the measured probe, or any detector.
    detector_options : dict
        Parameters of a named detector.
    vacuum : str, optional
        File with patterns without a specimen, for the probe.
    vacuum_region : (slice, slice), optional
        Rows and columns of the scan that are vacuum.
    origin : str
        Surface of the unscattered beam: ``auto``, ``constant``, ``plane``,
        ``parabola``.
    transform : sequence, optional
        (2, 2), undoes the elliptic distortion (`measure_ellipse`).
    g1, g2 : (float, float), optional
        y, x, lattice vectors, in the unit of q; found by default.
    grains : int
        Most lattices to look for.
    reference : (slice, slice), optional
        Rows and columns that are unstrained; by default the median of all.
    axes : str or float
        Of the strain tensor (`compute_strain`).
    """

    calibration: Calibration | None = None
    detector: str | DiskDetector = "template"
    detector_options: dict[str, Any] = field(default_factory=dict)
    vacuum: str | None = None
    vacuum_region: tuple[slice, slice] | None = None
    origin: str = "auto"
    transform: Any = None
    g1: tuple[float, float] | None = None
    g2: tuple[float, float] | None = None
    grains: int = 1
    reference: tuple[slice, slice] | None = None
    axes: str | float = "scan"

    def __post_init__(self) -> None:
        _check_kinds(self)
        if (self.g1 is None) != (self.g2 is None):
            msg = "g1 and g2 are given together or not at all"
            raise ParameterError(msg)
        if self.g1 is not None and self.g2 is not None:
            given_lattice(self.g1, self.g2)
        if self.origin not in ("auto", "constant", "plane", "parabola"):
            msg = f"origin is auto, constant, plane or parabola, got {self.origin!r}"
            raise ParameterError(msg)
        if is_finite(self.axes):
            object.__setattr__(self, "axes", float(self.axes))  # NumPy's is no JSON
        elif self.axes not in ("scan", "detector", "g1"):
            msg = f"axes is scan, detector, g1 or degrees, got {self.axes!r}"
            raise ParameterError(msg)


def _check_kinds(settings: Any) -> None:
    """Refuse what is not of the kind that it is said to be."""
    if not isinstance(settings.calibration, Calibration | None):
        msg = f"calibration must be a Calibration, got {settings.calibration!r}"
        raise ParameterError(msg)
    detector = settings.detector
    if not isinstance(detector, str) and not hasattr(detector, "max_peaks"):
        msg = f"detector is a name or a detector, got {detector!r}"
        raise ParameterError(msg)
    for name in ("vacuum_region", "reference"):
        region = getattr(settings, name)
        if region is not None and not is_region(region):
            msg = f"{name} is two slices (rows, columns), got {region!r}"
            raise ParameterError(msg)
    if not (isinstance(settings.grains, int) and settings.grains >= 1):
        msg = f"grains must be a positive integer, got {settings.grains!r}"
        raise ParameterError(msg)
    if settings.transform is not None and not _invertible(settings.transform):
        msg = (
            f"transform must be an invertible 2 × 2 matrix, got {settings.transform!r}"
        )
        raise ParameterError(msg)


def _invertible(matrix: Any) -> bool:
    try:
        values = np.asarray(matrix, float)
    except (TypeError, ValueError):
        return False
    return (
        values.shape == (2, 2)
        and bool(np.isfinite(values).all())
        and bool(abs(np.linalg.det(values)) > 1e-6)
    )
