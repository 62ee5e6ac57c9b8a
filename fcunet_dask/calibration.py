"""Physical size of the pixels: the only place where units enter."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from numbers import Real
from typing import Any

import numpy as np

from fcunet_dask.errors import CalibrationError
from fcunet_dask.types import Array


def electron_wavelength(voltage: float) -> float:
    """Relativistic wavelength of an electron.

    λ = h / √(2 m e V (1 + e V / 2 m c²)), Kirkland, *Advanced Computing in Electron
    Microscopy* (2010), eq. 2.5.

    Parameters
    ----------
    voltage : float
        Accelerating voltage, kV.

    Returns
    -------
    float
        Å.

    Examples
    --------
    >>> round(electron_wavelength(200.0), 6)
    0.025079
    """
    if not voltage > 0:
        msg = f"voltage must be positive (kV), got {voltage!r}"
        raise CalibrationError(msg)
    return 12.398419843 / math.sqrt(voltage * (2 * 510.99895 + voltage))


def _is_finite(value: Any) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Pixel sizes and angles of a scan; what is not known is None.

    Parameters
    ----------
    q_step : float or None
        Detector pixel, 1/Å (no 2π). Where None, scattering vectors are in px.
    scan_step : float or None
        Distance between probe positions, nm. Where None, positions are counted.
    scan_rotation : float or None
        Angle from the scan's x axis to the detector's x axis, from +x towards +y,
        degrees. Where None, they are taken to be parallel.
    voltage : float or None
        Accelerating voltage, kV.
    semiangle : float or None
        Convergence semi-angle of the probe, mrad.

    Raises
    ------
    CalibrationError
        If a step, voltage or angle is not positive and finite.

    Examples
    --------
    >>> Calibration(q_step=0.02, scan_step=2.0, voltage=200.0).q_units
    '1/Å'
    """

    q_step: float | None = None
    scan_step: float | None = None
    scan_rotation: float | None = None
    voltage: float | None = None
    semiangle: float | None = None

    def __post_init__(self) -> None:
        for name in ("q_step", "scan_step", "voltage", "semiangle"):
            value = getattr(self, name)
            if value is not None and not (_is_finite(value) and value > 0):
                msg = f"{name} must be positive and finite, got {value!r}"
                raise CalibrationError(msg)
        if not _is_finite(self.scan_rotation or 0.0):
            msg = f"scan_rotation must be finite (degrees), got {self.scan_rotation!r}"
            raise CalibrationError(msg)
        for name, value in asdict(self).items():
            if value is not None:  # numbers of NumPy are no JSON
                object.__setattr__(self, name, float(value))

    def to_dict(self) -> dict[str, float | None]:
        """Return what is known, as it is stored in ``attrs["calibration"]``."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Calibration":
        """Return the calibration that `to_dict` stored; other keys are ignored."""
        known = {f.name for f in fields(cls)}
        return cls(**{name: v for name, v in values.items() if name in known})

    def over(self, known: "Calibration") -> "Calibration":
        """Return `known`, with all that is stated here in the place of what it states."""
        stated = {name: v for name, v in self.to_dict().items() if v is not None}
        return replace(known, **stated)

    @property
    def q_units(self) -> str:
        """Unit of scattering vectors: ``1/Å``, or ``px`` without `q_step`."""
        return "px" if self.q_step is None else "1/Å"

    @property
    def scan_units(self) -> str:
        """Unit of scan positions: ``nm``, or ``px`` without `scan_step`."""
        return "px" if self.scan_step is None else "nm"

    @property
    def probe_radius(self) -> float | None:
        """Radius α/λ of a Bragg disk, px; None where it does not follow."""
        if self.semiangle is None or self.voltage is None or self.q_step is None:
            return None
        return self.semiangle * 1e-3 / electron_wavelength(self.voltage) / self.q_step

    def q_axis(self, size: int) -> Array:
        """Coordinates of `size` detector pixels, zero at pixel ``size // 2``.

        Returns
        -------
        numpy.ndarray
            float64 (size,), in `q_units`.
        """
        return (np.arange(size) - size // 2) * (self.q_step or 1.0)

    def scan_axis(self, size: int) -> Array:
        """Coordinates of `size` probe positions, zero at the first.

        Returns
        -------
        numpy.ndarray
            float64 (size,), in `scan_units`.
        """
        return np.arange(size) * (self.scan_step or 1.0)
