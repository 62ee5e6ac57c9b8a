"""Pixel sizes as files write them, in the units of `Calibration`."""

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from fcunet_dask.calibration import Calibration, electron_wavelength
from fcunet_dask.errors import CalibrationError

_NM: Final = {"m": 1e9, "mm": 1e6, "um": 1e3, "nm": 1.0, "A": 0.1, "pm": 1e-3}
_RAD: Final = {"rad": 1.0, "mrad": 1e-3, "urad": 1e-6, "deg": math.pi / 180}
_SAME: Final = {
    "angstrom": "A",
    "angstroms": "A",
    "ang": "A",
    "meter": "m",
    "micron": "um",
    "nanometer": "nm",
}
_SQUARE: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Axis:
    """Step and unit of one axis of a file, as the file has them.

    Parameters
    ----------
    scale : float
        Step, negative where coordinates fall; zero or not finite where the file does not
        know it.
    units : str
        As it is written there.
    """

    scale: float = 0.0
    units: str = ""

    @classmethod
    def of(cls, scale: Any, units: Any) -> "Axis":
        """Return the axis of whatever a file holds; bytes, None and NumPy included."""
        try:
            step = float(scale)
        except (TypeError, ValueError):
            step = 0.0
        text = units.decode("utf-8", "replace") if isinstance(units, bytes) else units
        return cls(step if math.isfinite(step) else 0.0, str(text or ""))

    @property
    def direction(self) -> float:
        """−1 where coordinates fall; 1 also where the unit says no size, as of pixels."""
        unit, _ = _inverse(_plain(self.units))
        return -1.0 if self.scale < 0 and (unit in _NM or unit in _RAD) else 1.0

    @property
    def nm(self) -> float | None:
        """Length of the step in nm; None where the unit is no length."""
        factor = _NM.get(_plain(self.units))
        return abs(self.scale) * factor if factor and self.scale else None

    def inverse_angstrom(self, voltage: float | None) -> float | None:
        """Length of the step in 1/Å; None where it is no inverse length, nor an angle."""
        unit, inverse = _inverse(_plain(self.units))
        if not self.scale:
            return None
        if inverse and unit in _NM:
            return abs(self.scale) * 0.1 / _NM[unit]
        if unit in _RAD and voltage is not None:
            return abs(self.scale) * _RAD[unit] / electron_wavelength(voltage)
        return None

    @property
    def is_angle(self) -> bool:
        """Whether a step is known and is an angle: with a voltage it is one in 1/Å."""
        return bool(self.scale) and _plain(self.units) in _RAD

    @property
    def is_length(self) -> bool:
        """Whether a step is known, above zero, and is a length in real space."""
        return self.scale > 0 and _plain(self.units) in _NM


def kilovolt(energy: Any) -> float | None:
    """Return an accelerating voltage in kV; files write kV, or V."""
    value = Axis.of(energy, "").scale
    if value <= 0:
        return None
    return value / 1000 if value > 5000 else value


def calibrate(
    scan: Sequence[Axis],
    q: Sequence[Axis],
    known: Calibration,
    explicit: Calibration | None,
) -> Calibration:
    """Put together what the axes of a file, its metadata and the caller say.

    Parameters
    ----------
    scan, q : sequence of Axis
        Axes of the scan, of more than one position, and of the detector.
    known : Calibration
        From the metadata of the file.
    explicit : Calibration or None
        From the caller. Its values, where not None, win.

    Returns
    -------
    Calibration
        In 1/Å, nm, kV, mrad and degrees; without `scan_step` where it is not one.

    Raises
    ------
    CalibrationError
        If the pixels of the detector are not square, and the caller does not say
        which size holds.
    """
    given = Calibration() if explicit is None else explicit
    voltage = given.voltage or known.voltage
    steps = [axis.inverse_angstrom(voltage) for axis in q]
    q_step = known.q_step or _common(steps)
    if q_step is None and None not in steps and given.q_step is None and steps:
        msg = f"detector pixels of {steps} 1/Å are not square; pass calibration="
        raise CalibrationError(msg)
    scan_step = known.scan_step or _common([axis.nm for axis in scan])
    return given.over(replace(known, q_step=q_step, scan_step=scan_step))


def _common(steps: Sequence[float | None]) -> float | None:
    """Return the one step of the axes; None where they differ or none is known."""
    found = [step for step in steps if step is not None]
    if not found or max(found) - min(found) > _SQUARE * max(found):
        return None
    return sum(found) / len(found)


def _plain(units: str) -> str:
    units = unicodedata.normalize("NFKC", units)  # one µ, one Å, and ⁻¹ as −1
    for old, new in {"μ": "u", "Å": "A", "−": "-"}.items():
        units = units.replace(old, new)
    units = units.replace("\\AA", "A")
    bare = "".join(c for c in units if c not in " ${}[]_\\")
    return _SAME.get(bare.lower(), bare)


def _inverse(unit: str) -> tuple[str, bool]:
    for mark in ("1/", "/"):
        if unit.startswith(mark):
            return _plain(unit.removeprefix(mark)), True
    for mark in ("^-1", "**-1", "-1"):
        if unit.endswith(mark):
            return _plain(unit.removesuffix(mark)), True
    return unit, False


def metadata(values: Mapping[str, Any]) -> Calibration:
    """Return voltage and semi-angle of a microscope as HyperSpy names them.

    Parameters
    ----------
    values : mapping
        ``beam_energy`` (kV, or V) and ``convergence_angle`` (mrad), where known.

    Returns
    -------
    Calibration
        Of these two.
    """
    semiangle = Axis.of(values.get("convergence_angle"), "").scale
    return Calibration(
        voltage=kilovolt(values.get("beam_energy")),
        semiangle=semiangle if semiangle > 0 else None,
    )
