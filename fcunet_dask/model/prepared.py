"""What detectors make once in a process, for one shape of patterns."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from numbers import Real
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
        value = getattr(detector, name)
        if not (isinstance(value, Real) and np.isfinite(float(value))):
            msg = f"{name} must be a finite number, in counts, got {value!r}"
            raise ParameterError(msg)
    if not detector.gain > 0:
        msg = f"gain must be positive, got {detector.gain!r}"
        raise ParameterError(msg)
    if not detector.readout >= 0:
        msg = f"readout must not be negative, got {detector.readout!r}"
        raise ParameterError(msg)


def measuring(mask: Array | None, radius: float, shape: tuple[int, int]) -> Array:
    """Return 1.0 where a camera measures, for patterns that can hold a disk.

    Parameters
    ----------
    mask : array or None
        bool (rows, columns), True where it measures; everywhere by default.
    radius : float
        Of the disks, px.
    shape : (int, int)
        Rows and columns of the patterns.

    Returns
    -------
    numpy.ndarray
        float64 (rows, columns).

    Raises
    ------
    ParameterError
        If the disk does not fit into the pattern, or the mask has another shape.
    """
    if 2 * radius + 4 > min(shape):
        msg = (
            f"the probe's disk (radius {radius:.1f} px) does not fit into patterns of "
            f"{shape[0]} × {shape[1]} px: check the probe, or pass its radius"
        )
        raise ParameterError(msg)
    weight = np.ones(shape) if mask is None else np.asarray(mask, float)
    if weight.shape != shape:
        msg = f"the mask has shape {weight.shape}, the patterns {shape}"
        raise ParameterError(msg)
    return weight
