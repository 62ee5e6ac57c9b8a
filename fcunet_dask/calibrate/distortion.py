"""Elliptic distortion and scale of the detector, from what is known of a crystal."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import xarray as xr

from fcunet_dask._axes import calibration_of, detector_axes
from fcunet_dask.calibration import Calibration
from fcunet_dask.errors import AnalysisError, ParameterError
from fcunet_dask.kernels.ellipse import ring_transform
from fcunet_dask.schema import PATTERN, q_units, validate
from fcunet_dask.types import Array

_MOST_OFF: Final = 0.5, 2.0
"""Least and largest ratio of a ring's radius to that by the assumed step."""
_LARGEST_RING: Final = 0.2, 1.1
"""Where the largest is in a map in px: shares of its half side."""


def measure_ellipse(
    basis: xr.Dataset, lengths: tuple[float, float], angle: float
) -> tuple[Array, float]:
    """Distortion and scale from a known, unstrained lattice.

    The linear map from the measured to the known lattice is split into a turn, which is
    the crystal's, and a symmetric stretch, which is the microscope's: A has determinant
    1, s is the remaining scale.

    Parameters
    ----------
    basis : xarray.Dataset
        Measured ``g1``, ``g2`` (grain, component) or (component).
    lengths : (float, float)
        True |g₁| and |g₂|, 1/Å.
    angle : float
        True angle between them, degrees.

    Returns
    -------
    transform : numpy.ndarray
        A, (2, 2), y before x, for `apply_calibration`.
    scale : float
        s.

    Raises
    ------
    ParameterError
        If the known lattice is impossible, or cannot be the measured one.
    """
    if min(lengths) <= 0 or not 0 < angle < 180:
        msg = f"lengths must be > 0, 0 < angle < 180; got {lengths}, {angle}"
        raise ParameterError(msg)
    g1, g2 = (np.atleast_2d(basis[n].values)[0] for n in ("g1", "g2"))
    measured = np.stack([g1, g2], axis=1)
    turn = np.radians(angle)
    true = np.array(
        [
            [0.0, lengths[1] * np.sin(turn)],
            [lengths[0], lengths[1] * np.cos(turn)],
        ]
    )
    _, stretch, right = np.linalg.svd(true @ np.linalg.inv(measured))
    if stretch[0] > 1.25 * stretch[1]:
        msg = (
            f"the measured lattice is {stretch[0] / stretch[1]:.2f} times more stretched "
            f"one way than the other against lengths {lengths} and {angle}°: these are "
            "not the same vectors (mind the order of g1 and g2, and 60° against 120°)"
        )
        raise ParameterError(msg)
    symmetric = right.T @ np.diag(stretch) @ right
    scale = float(np.sqrt(abs(np.linalg.det(symmetric))))
    return symmetric / scale, scale


def measure_rings(
    bragg_map: xr.DataArray, spacings: Sequence[float]
) -> tuple[Array, float, float]:
    """Distortion and scale from the rings of a known powder or polycrystal.

    The assumed step may be off by a factor of 1.6. Of a map in px the radii of the rings
    tell the scale by their ratios, if the largest of them is between a quarter of the
    half side of the map and all of it.

    Parameters
    ----------
    bragg_map : xarray.DataArray
        (q_y, q_x): a Bragg-vector map or mean pattern, zero at the origin.
    spacings : sequence of float
        |g| of its rings, 1/Å, all of them up to the largest: as many as can be seen.

    Returns
    -------
    transform : numpy.ndarray
        A, (2, 2), y before x.
    scale : float
        s; of a map in px, 1/Å per px.
    residual : float
        Root mean square distance of the rings from circles after it, relative.

    Raises
    ------
    ParameterError
        If spacings are not positive and finite.
    AnalysisError
        If the rings are not seen, or two scales explain them about equally well, or the
        assumed step is off by more.
    """
    given = np.sort(np.asarray(spacings, float))
    good = np.isfinite(given) & (given > 0)
    if given.ndim != 1 or not len(given) or not good.all():
        msg = f"spacings are positive and finite (1/Å), got {spacings!r}"
        raise ParameterError(msg)
    radii = given / abs(float(bragg_map["q_y"][1] - bragg_map["q_y"][0]))
    within = _MOST_OFF
    if q_units(bragg_map.to_dataset(name="map")) == "px":
        half = min(bragg_map.shape) // 2
        within = tuple(share * half / radii[-1] for share in _LARGEST_RING)
    try:
        return ring_transform(np.asarray(bragg_map), radii, within)
    except AnalysisError as error:
        msg = (
            f"no rings that match {given.tolist()} (1/Å) in the map: {error}; pass all "
            "spacings up to the largest that is seen, and look at the map"
        )
        raise AnalysisError(msg) from error


def with_scale(known: xr.Dataset | Calibration, scale: float) -> Calibration:
    """Return the calibration of a scan with its detector pixel corrected by `scale`.

    Parameters
    ----------
    known : xarray.Dataset or Calibration
        A scan, whose coordinates say how large its pixels are: also binned. Or a
        calibration, of a scan that has the pixels it says.
    scale : float
        s, from `measure_ellipse` or `measure_rings`.

    Returns
    -------
    Calibration
        For `run`.

    Raises
    ------
    SchemaError
        If `known` is no scan.
    CalibrationError
        If the corrected pixel is not positive and finite.
    """
    if isinstance(known, Calibration):
        return replace(known, q_step=(known.q_step or 1.0) * scale)
    calibration = calibration_of(validate(known, PATTERN))
    _, (step, _) = detector_axes(known)
    if q_units(known) == "1/Å":
        step = calibration.q_step or step
    return replace(calibration, q_step=abs(step) * scale)
