"""How far from the truth the positions are, and whether the error bars say so."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import erfc

from fcunet_dask.train.judge.match import Found, match
from fcunet_dask.train.judge.truth import Judged
from fcunet_dask.types import Array

_RAYLEIGH = 1.1774
"""Median distance from the truth over σ of an axis, of normal errors."""


@dataclass(frozen=True, slots=True, eq=False)
class Errors:
    """Every matched disk of a set, one row each.

    Attributes
    ----------
    key : array
        int (k, 3): specimen and thickness of the pattern, and reflection.
    error : array
        float64 (k, 2) as (y, x): found − true, px.
    whitened : array
        float64 (k, 2): errors along the axes of their error ellipse, in σ.
    bound : array
        float64 (k,): Cramér–Rao bound of one component, px.
    q_step : array
        float64 (k,): 1/Å of a pixel.
    thickness : array
        float64 (k,), nm.
    """

    key: Array
    error: Array
    whitened: Array
    bound: Array
    q_step: Array
    thickness: Array

    def take(self, keep: Array) -> "Errors":
        """Return some of the disks."""
        parts = (getattr(self, name)[keep] for name in self.__dataclass_fields__)
        return Errors(*parts)

    def shared_with(self, other: "Errors") -> "Errors":
        """Return the disks that `other` has, too."""
        theirs = {tuple(k) for k in other.key.tolist()}
        return self.take(
            np.array([tuple(k) in theirs for k in self.key.tolist()], bool)
        )

    def summary(self) -> dict[str, float]:
        """Return the figures of the table of positions."""
        distance = np.linalg.norm(self.error, axis=1)
        if not len(distance):
            return {"disks": 0}
        within = np.abs(self.whitened[np.isfinite(self.whitened)])
        return {
            "disks": len(distance),
            "rmse_px": _rms(distance),
            "rmse_inverse_angstrom": _rms(distance * self.q_step),
            "median_px": float(np.median(distance)),
            "bias_y_px": float(self.error[:, 0].mean()),
            "bias_x_px": float(self.error[:, 1].mean()),
            "within_1_sigma": float((within < 1).mean()) if len(within) else np.nan,
            "within_2_sigma": float((within < 2).mean()) if len(within) else np.nan,
            "median_over_bound": float(np.median(distance / (_RAYLEIGH * self.bound))),
        }

    @property
    def rmse(self) -> float:
        """Root mean square distance from the truth, px."""
        return _rms(np.linalg.norm(self.error, axis=1))

    @property
    def least_rmse(self) -> float:
        """The same, px, of an estimator that reaches the bound of every disk."""
        return float(np.sqrt(2)) * _rms(self.bound)


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2))) if len(values) else float("nan")


def position_errors(found: Sequence[Found], judged: Sequence[Judged]) -> Errors:
    """Errors of all detections that belong to a visible reflection.

    Parameters
    ----------
    found : sequence of Found
        Of each pattern.
    judged : sequence of Judged
        The patterns.

    Returns
    -------
    Errors
    """
    rows = []
    for f, j in zip(found, judged, strict=True):
        matched = match(f.position, j)
        n = len(matched.found)
        error = f.position[matched.found] - j.position[matched.true]
        edge = float(j.probe.attrs["edge"])
        bound = [
            centre_bound(j.flux[t], j.background[t], j.radius, edge)
            for t in matched.true
        ]
        rows.append(
            Errors(
                np.column_stack([np.tile(j.key, (n, 1)), matched.true]).astype(int),
                error,
                whiten(error, f.covariance[matched.found]),
                np.array(bound),
                np.full(n, j.q_step),
                np.full(n, j.condition["thickness"]),
            )
        )
    parts = (
        np.concatenate([getattr(r, name) for r in rows])
        for name in Errors.__dataclass_fields__
    )
    return Errors(*parts)


def whiten(error: Array, covariance: Array) -> Array:
    """Errors in units of their standard deviation, along the axes of the ellipse.

    Parameters
    ----------
    error : array
        (n, 2) as (y, x).
    covariance : array
        (n, 3): yy, yx, xx; NaN gives NaN.

    Returns
    -------
    numpy.ndarray
        float64 (n, 2): with right covariances 68 % lie within ±1.
    """
    yy, yx, xx = covariance.T
    ok = np.isfinite(covariance).all(axis=1) & (yy > 0) & (yy * xx > yx**2)
    result = np.full(error.shape, np.nan)
    matrix = np.stack([np.stack([yy, yx], -1), np.stack([yx, xx], -1)], -2)[ok]
    values, vectors = np.linalg.eigh(matrix)
    turned = np.einsum("nij,ni->nj", vectors, error[ok])
    result[ok] = turned / np.sqrt(values)
    return result


def centre_bound(flux: float, background: float, radius: float, edge: float) -> float:
    """Cramér–Rao bound of a disk's centre along one axis.

    Poisson counts A T(r) (1 + s·r/R) + b with the outline T known and A, b and the
    slope s of the filling not: ∂/∂c and ∂/∂s share their angular dependence, so of the
    Fisher information I_cc − I_cs² / I_ss is left.

    Parameters
    ----------
    flux : float
        Electrons in the disk.
    background : float
        Electrons on a pixel.
    radius, edge : float
        px.

    Returns
    -------
    float
        Standard deviation, px.
    """
    edge = max(edge, 0.3)
    r = np.linspace(1e-3, radius + 5 * edge, 200)
    outline = 0.5 * erfc((r - radius) / (np.sqrt(2) * edge))
    fall = np.exp(-((r - radius) ** 2) / (2 * edge**2)) / (np.sqrt(2 * np.pi) * edge)
    height = flux / (np.pi * radius**2)
    by_centre, by_slope = height * fall, height * outline * r / radius
    mean = np.maximum(height * outline + background, 1e-9)
    weight = np.pi * r * (r[1] - r[0]) / mean
    cross, own = weight @ (by_centre * by_slope), weight @ by_slope**2
    information = weight @ by_centre**2 - cross**2 / max(own, 1e-300)
    return float(1 / np.sqrt(max(information, 1e-300)))
