"""What detectors make once in a process, for one shape of patterns."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from numbers import Integral, Real
from threading import Lock
from typing import Any, Final, Generic, TypeVar

import numpy as np

from fcunet_dask.errors import ParameterError
from fcunet_dask.kernels.camera import CameraNoise
from fcunet_dask.types import Array

_MOST: Final = 8
T = TypeVar("T")


class Recent(Generic[T]):
    """The last few of what was made, by key; made once however many threads ask."""

    def __init__(self) -> None:
        self._made: OrderedDict[Hashable, T] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what belongs to `key`, from `make` if it is not there."""
        with self._lock:
            if key not in self._made:
                self._made[key] = make()
                while len(self._made) > _MOST:
                    self._made.popitem(last=False)
            return self._made[key]


def camera_of(detector: Any) -> CameraNoise:
    """Return what a detector knows of the noise of its camera."""
    return CameraNoise(
        detector.gain, detector.readout, detector.dark, detector.saturation
    )


def check_camera(detector: Any) -> None:
    """Refuse what cannot be the noise of a camera.

    Parameters
    ----------
    detector : object
        With `gain`, `readout` and `dark`, counts.

    Raises
    ------
    ParameterError
        If one is no finite number, the gain not positive, or the readout negative.
    """
    for name in ("gain", "readout", "dark"):
        _check_finite(detector, name, ", in counts")
    if not detector.gain > 0:
        msg = f"gain must be positive, got {detector.gain!r}"
        raise ParameterError(msg)
    if not detector.readout >= 0:
        msg = f"readout must not be negative, got {detector.readout!r}"
        raise ParameterError(msg)


def _check_finite(detector: Any, name: str, unit: str = "") -> None:
    value = getattr(detector, name)
    if not (isinstance(value, Real) and np.isfinite(float(value))):
        msg = f"{name} must be a finite number{unit}, got {value!r}"
        raise ParameterError(msg)


def shape_of(patterns: Array) -> tuple[int, int]:
    """Return rows and columns of patterns that a detector can take.

    Parameters
    ----------
    patterns : array
        (n, rows, columns), counts.

    Returns
    -------
    (int, int)

    Raises
    ------
    ParameterError
        If they are no stack of patterns, or not real numbers.
    """
    if patterns.ndim != 3:
        one = ": pass patterns[None] for a single one" if patterns.ndim == 2 else ""
        msg = (
            f"a detector takes patterns (n, rows, columns), got an array of shape "
            f"{patterns.shape}{one}"
        )
        raise ParameterError(msg)
    if patterns.dtype.kind not in "biuf":
        msg = f"patterns are counts, real numbers, got {patterns.dtype}"
        raise ParameterError(msg)
    return int(patterns.shape[1]), int(patterns.shape[2])


def measuring(detector: Any, shape: tuple[int, int]) -> Array:
    """Return 1.0 where a camera measures, for patterns that can hold a disk.

    Parameters
    ----------
    detector : object
        With `radius`, px, and `shape` and `mask`: rows and columns of the patterns that
        it was made for, and bool, True where the camera measures; or None.
    shape : (int, int)
        Rows and columns of the patterns.

    Returns
    -------
    numpy.ndarray
        float64 (rows, columns).

    Raises
    ------
    ParameterError
        If the patterns are not those that the detector was made for, or the disk does
        not fit into them.
    """
    if detector.shape is not None and tuple(detector.shape) != shape:
        rows, columns = detector.shape
        msg = (
            f"the probe has {rows} × {columns} px, the patterns {shape[0]} × {shape[1]}: "
            "estimate the probe from this scan, or pass radius and edge, px of the "
            "patterns, instead of the probe"
        )
        raise ParameterError(msg)
    if 2 * detector.radius + 4 > min(shape):
        msg = (
            f"the probe's disk (radius {detector.radius:.1f} px) does not fit into "
            f"patterns of {shape[0]} × {shape[1]} px: check the probe, or pass its radius"
        )
        raise ParameterError(msg)
    mask = detector.mask
    weight = np.ones(shape) if mask is None else np.asarray(mask, float)
    if weight.shape != shape:
        msg = f"the mask has shape {weight.shape}, the patterns {shape}"
        raise ParameterError(msg)
    return weight


def check_numbers(detector: Any, positive: Iterable[str], least: Iterable[str]) -> None:
    """Refuse parameters of a detector that are no numbers or have the wrong sign.

    Parameters
    ----------
    detector : object
        Whose parameters; None stands for a default.
    positive, least : iterable of str
        Names of those that must be more than zero, and at least zero.

    Raises
    ------
    ParameterError
        Naming the first that is wrong.
    """
    positive = tuple(positive)
    for name in (*positive, *least):
        value = getattr(detector, name)
        if value is None:
            continue
        _check_finite(detector, name)
        if value < 0 or (name in positive and not value):
            sign = "be positive" if name in positive else "not be negative"
            msg = f"{name} must {sign}, got {value!r}"
            raise ParameterError(msg)
    if not isinstance(detector.max_peaks, Integral):
        msg = f"max_peaks must be a whole number, got {detector.max_peaks!r}"
        raise ParameterError(msg)
    if detector.image is not None and not np.any(detector.image):
        msg = "the image of the probe is empty: measure the probe again"
        raise ParameterError(msg)
