"""Lattices fitted to Bragg vectors, all positions of a block at once.

Model: q = o + h g₁ + k g₂ for every indexed disk. Disks are weighted by
1 / (σ² + s²), σ² the variance that came with the disk and s² the scatter that the disks
of this pattern show beyond it (structure inside disks, mostly; found from the median
residual), and those far off the lattice count less, or not at all (Tukey's biweight). The
covariance of the result is that of the weighted estimate under σ² + s², with the full
covariance of every disk.
"""

from dataclasses import dataclass, replace
from enum import IntFlag

import numpy as np
from scipy.special import bdtrc

from fcunet_dask.kernels.planes import fit_planes, moment_matrix
from fcunet_dask.kernels.pulls import IndexedDisks, Pulls, pulled_covariance
from fcunet_dask.kernels.strain import strain_tensor
from fcunet_dask.types import Array

MIN_DISKS = 4
"""Disks a lattice needs: three determine it, the fourth says whether it is one."""
_EXACT = 1e-12
"""Variance of a disk without error, over the squared shortest lattice vector."""
_TUKEY = 6.0
"""Residual, in standard deviations, from which on a disk does not count."""
_LOOSE = 0.1
"""Largest residual over the shortest lattice vector; chance leaves 0.18."""
_NEAR = 0.25
"""Distance from a lattice point, over the shortest lattice vector, up to which a disk is
on it."""
_CHANCE = 0.02
"""Probability, at most, that as many disks at random places would be on the lattice."""
_STRETCH = 0.15
"""Largest principal strain against the basis: beyond it, it is another lattice, on which
the disks were indexed step by step."""
_CHI2_MEDIAN = 2 * np.log(2.0)


class LatticeStatus(IntFlag):
    """Why a position has no lattice; 0 = it has one."""

    TOO_FEW_DISKS = 1
    """Fewer than four disks on the lattice."""
    COLLINEAR = 2
    """All disks on one line: one lattice vector is not determined."""
    MISFIT = 4
    """Less than half of √intensity, or of the disks, the direct beam apart, lies on the
    lattice, or no more than random places might; or they scatter about it by more than a
    tenth of the shortest lattice vector, as disks do that are near lattice points by
    chance; or it is stretched by more than 15 % against the basis: another lattice."""


@dataclass(frozen=True, slots=True)
class LatticeFit:
    """Fitted lattices, one row a position; NaN where `status` is not 0.

    Attributes
    ----------
    parameters : numpy.ndarray
        (n, 6): origin_y, origin_x, g1_y, g1_x, g2_y, g2_x.
    covariance : numpy.ndarray
        (n, 6, 6).
    residual : numpy.ndarray
        (n,): weighted root mean square distance of a disk from the lattice.
    n_indexed : numpy.ndarray
        int (n,).
    quality : numpy.ndarray
        (n,): share of √intensity, the direct beam apart, that lies on the lattice, 0 to 1.
    deformation : numpy.ndarray
        (n,): √(|U − 1|² + |R − 1|²) of stretch U and rotation R against the basis.
    status : numpy.ndarray
        uint8 (n,): `LatticeStatus`.
    """

    parameters: Array
    covariance: Array
    residual: Array
    n_indexed: Array
    quality: Array
    deformation: Array
    status: Array


def fit_lattices(
    position: Array,
    covariance: Array,
    intensity: Array,
    basis: Array,
    origin: Array,
    pulls: Pulls | None = None,
) -> LatticeFit:
    """Index the disks of every position on `basis` and fit origin, g₁ and g₂.

    Parameters
    ----------
    position : numpy.ndarray
        (n, peaks, 2): y, x; NaN = none.
    covariance : numpy.ndarray
        (n, peaks, 3): yy, yx, xx.
    intensity : numpy.ndarray
        (n, peaks).
    basis : numpy.ndarray
        (4,): g1_y, g1_x, g2_y, g2_x, the start.
    origin : numpy.ndarray
        (n, 2): the start.
    pulls : Pulls, optional
        Errors that the disks of a pattern share; the covariance has them on top.

    Returns
    -------
    LatticeFit

    Notes
    -----
    A disk is indexed where it is within a quarter of the shortest lattice vector of a
    lattice point, in units of the fit before, of which there are three; the first takes
    only the inner disks.
    """
    disks, fit, checked = _fitted(position, covariance, intensity, basis, origin)
    if pulls is None or not pulls.variance.any():
        return checked
    fitted = checked.status == 0
    indexed = _indexed_disks(disks, fit, fitted)
    covariance = checked.covariance.copy()
    covariance[fitted] += pulled_covariance(indexed, basis, pulls)
    return replace(checked, covariance=covariance)


def index_disks(
    position: Array, covariance: Array, intensity: Array, basis: Array, origin: Array
) -> tuple[LatticeFit, IndexedDisks]:
    """Return the lattices, as `fit_lattices` without pulls, and the disks on them.

    Parameters are those of `fit_lattices`. Positions without a lattice have no row in
    the disks.
    """
    disks, fit, checked = _fitted(position, covariance, intensity, basis, origin)
    return checked, _indexed_disks(disks, fit, checked.status == 0)


def _fitted(
    position: Array, covariance: Array, intensity: Array, basis: Array, origin: Array
) -> "tuple[_Disks, _Fit, LatticeFit]":
    """Index and fit three times, and set what cannot be trusted to NaN."""
    disks = _disks(position, covariance, intensity)
    n = len(position)
    start = np.concatenate(
        [np.broadcast_to(origin, (n, 2)).T, np.broadcast_to(basis, (n, 4)).T]
    ).astype(float)
    shortest = np.sqrt((np.reshape(basis, (2, 2)) ** 2).sum(1).min())
    reach = _reach(disks, start[:2], 2.4 * shortest)
    fit = _fit_once(disks, start, shortest, reach, passes=1)
    for passes in (1, 2):
        usable = np.where(fit.determined, fit.parameters, start)
        fit = _fit_once(disks, usable, shortest, disks.present, passes)
    return disks, fit, _checked(disks, fit, np.asarray(basis, float))


@dataclass(frozen=True, slots=True)
class _Disks:
    """Arrays (peaks, n): y, x, variances, √intensity; absent disks are 0.

    Positions come last here and below, so that sums over disks are sums of rows.
    """

    y: Array
    x: Array
    yy: Array
    yx: Array
    xx: Array
    root: Array
    present: Array


@dataclass(frozen=True, slots=True)
class _Fit:
    parameters: Array
    inverse: Array
    weight: Array
    variance: Array
    scatter: Array
    h: Array
    k: Array
    on: Array
    distance2: Array
    determined: Array


def _disks(position: Array, covariance: Array, intensity: Array) -> _Disks:
    present = np.isfinite(position[..., 0]) & np.isfinite(intensity)
    most = int(np.flatnonzero(present.any(axis=0)).max(initial=0)) + 1
    present = np.ascontiguousarray(present[:, :most].T)

    def column(values: Array) -> Array:
        return np.where(present, np.nan_to_num(values[:, :most].T), 0.0)

    return _Disks(
        y=column(position[..., 0]),
        x=column(position[..., 1]),
        yy=column(covariance[..., 0]),
        yx=column(covariance[..., 1]),
        xx=column(covariance[..., 2]),
        root=np.sqrt(np.maximum(column(intensity), 0)),
        present=present,
    )


def _indexed_disks(disks: _Disks, fit: _Fit, where: Array) -> IndexedDisks:
    """Disks of the positions that have a lattice, positions first."""

    def rows(*columns: Array) -> Array:
        return np.stack([c[:, where].T for c in columns], axis=-1)

    return IndexedDisks(
        position=rows(disks.y, disks.x),
        index=rows(fit.h, fit.k),
        weight=fit.weight[:, where].T,
        variance=np.where(fit.on, fit.variance, np.inf)[:, where].T,
    )


def _reach(disks: _Disks, origin: Array, radius: float) -> Array:
    """Present disks within `radius` of the origin: the ones indexed first."""
    y, x = disks.y - origin[0], disks.x - origin[1]
    near: Array = disks.present & (y * y + x * x < radius**2)
    return near


def _fit_once(
    disks: _Disks, start: Array, shortest: float, candidates: Array, passes: int
) -> _Fit:
    """Index on `start`, then weighted least squares with weights from its residuals."""
    h, k, residual_y, residual_x = _indexed(disks, start)
    distance2 = residual_y**2 + residual_x**2
    on = candidates & (distance2 < (_NEAR * shortest) ** 2)
    own, floor = 0.5 * (disks.yy + disks.xx), _EXACT * shortest**2
    scatter = np.zeros(start.shape[1])
    variance, robust = own + floor, on.astype(float)
    for _ in range(passes):
        parameters = _planes(disks, robust, on, variance, h, k)[1]
        residual_y, residual_x = _residuals(disks, parameters, h, k)
        distance2 = residual_y**2 + residual_x**2
        scatter = _extra_variance(distance2, own, on)
        variance = own + scatter + floor
        z = np.sqrt(distance2 / variance)
        robust = on * np.maximum(0, 1 - (z / _TUKEY) ** 2) ** 2
    weight, parameters, inverse, determined = _planes(disks, robust, on, variance, h, k)
    residual_y, residual_x = _residuals(disks, parameters, h, k)
    return _Fit(
        parameters,
        inverse,
        weight,
        variance,
        scatter,
        h,
        k,
        on,
        residual_y**2 + residual_x**2,
        determined,
    )


def _planes(
    disks: _Disks, robust: Array, on: Array, variance: Array, h: Array, k: Array
) -> tuple[Array, Array, Array, Array]:
    """Weights, and the planes by them; all disks where what is left determines none."""
    weight, values = robust / variance, (disks.y, disks.x)
    planes = fit_planes(values, weight, h, k)
    determined = planes[2]
    if not determined.all():
        weight = np.where(determined, weight, on / variance)
        planes = fit_planes(values, weight, h, k)
    return weight, *planes


def _indexed(disks: _Disks, start: Array) -> tuple[Array, Array, Array, Array]:
    """Nearest lattice point h, k of each disk and the distance from it."""
    oy, ox, ay, ax, by, bx = start
    y, x = disks.y - oy, disks.x - ox
    determinant = ay * bx - ax * by
    determinant = np.where(determinant == 0, np.inf, determinant)
    h = np.rint((y * bx - x * by) / determinant)
    k = np.rint((x * ay - y * ax) / determinant)
    return h, k, y - h * ay - k * by, x - h * ax - k * bx


def _residuals(
    disks: _Disks, parameters: Array, h: Array, k: Array
) -> tuple[Array, Array]:
    oy, ox, ay, ax, by, bx = parameters
    return disks.y - oy - h * ay - k * by, disks.x - ox - h * ax - k * bx


def _extra_variance(distance2: Array, variance: Array, on: Array) -> Array:
    """Scatter s² beyond the disks' own variance, from the median residual.

    For Gaussian residuals of variance v in each direction the median of d²/2 is v ln 2;
    the fit of three parameters to n disks takes (n − 3)/n of it.
    """
    number = on.sum(0)
    correction = number / np.maximum(number - 3, 1) / _CHI2_MEDIAN
    excess = np.where(on, distance2 * correction - variance, np.inf)
    excess.sort(axis=0)
    middle = np.maximum(number - 1, 0)
    column = np.arange(len(number))
    median = 0.5 * (excess[middle // 2, column] + excess[(middle + 1) // 2, column])
    usable = (number > 3) & np.isfinite(median)
    return np.where(usable, np.maximum(median, 0), 0.0)


def _covariance(disks: _Disks, fit: _Fit) -> Array:
    """Covariance (n, 6, 6) of the estimate: N⁻¹ (Σ w² C ⊗ a aᵀ) N⁻¹."""
    w2 = fit.weight**2
    extra = fit.scatter
    blocks = {}
    for name, c in (
        ("yy", disks.yy + extra),
        ("yx", disks.yx),
        ("xx", disks.xx + extra),
    ):
        inner = moment_matrix(w2 * c, fit.h, fit.k)
        blocks[name] = fit.inverse @ inner @ fit.inverse
    out = np.empty((w2.shape[1], 6, 6))
    out[:, 0::2, 0::2] = blocks["yy"]
    out[:, 1::2, 1::2] = blocks["xx"]
    out[:, 0::2, 1::2] = blocks["yx"]
    out[:, 1::2, 0::2] = np.swapaxes(blocks["yx"], 1, 2)
    return out


def _shortest2(parameters: Array) -> Array:
    """Squared length of the shorter of g₁ and g₂, (n,)."""
    _, _, ay, ax, by, bx = parameters
    return np.minimum(ay * ay + ax * ax, by * by + bx * bx)


def _checked(disks: _Disks, fit: _Fit, basis: Array) -> LatticeFit:
    """Set what cannot be trusted to NaN, with the reason."""
    number = fit.on.sum(0)
    quality, enough_on = _share(disks, fit, basis)
    stretch, deformation = _deformed(fit, basis)
    weights = np.maximum(fit.weight.sum(0), 1e-30)
    residual = np.sqrt((fit.weight * fit.distance2).sum(0) / weights)
    loose = residual > _LOOSE * np.sqrt(_shortest2(fit.parameters))
    poor = (
        (quality < 0.5) | ~enough_on | (fit.determined & (loose | (stretch > _STRETCH)))
    )
    status = np.zeros(len(number), np.uint8)
    status |= np.where(number < MIN_DISKS, LatticeStatus.TOO_FEW_DISKS, 0).astype("u1")
    enough = number >= MIN_DISKS
    status |= np.where(enough & ~fit.determined, LatticeStatus.COLLINEAR, 0).astype(
        "u1"
    )
    status |= np.where(enough & poor, LatticeStatus.MISFIT, 0).astype("u1")
    bad = status > 0
    covariance = _covariance(disks, fit)
    return LatticeFit(
        parameters=np.where(bad, np.nan, fit.parameters).T,
        covariance=np.where(bad[:, None, None], np.nan, covariance),
        residual=np.where(bad, np.nan, residual),
        n_indexed=number.astype(np.int32),
        quality=quality,
        deformation=np.where(bad, np.nan, deformation),
        status=status,
    )


def _share(disks: _Disks, fit: _Fit, basis: Array) -> tuple[Array, Array]:
    """Share of √intensity on the lattice, and whether enough of the disks are.

    Half of them, and more than chance would put there. The direct beam, on any lattice
    and brighter than all the rest, is not asked.
    """
    beam = fit.on & (fit.h == 0) & (fit.k == 0)
    present, on = disks.present & ~beam, fit.on & ~beam
    total = np.maximum((disks.root * present).sum(0), 1e-30)
    g1, g2 = basis[:2], basis[2:]
    area = abs(g1[0] * g2[1] - g1[1] * g2[0])
    near = min(np.pi * _NEAR**2 * min(g1 @ g1, g2 @ g2) / area, 1.0)
    number, of = on.sum(0), present.sum(0)
    by_chance = np.where(number > 0, bdtrc(np.maximum(number, 1) - 1.0, of, near), 1.0)
    enough = (number >= 0.5 * of) & (by_chance <= _CHANCE)
    return (disks.root * on).sum(0) / total, enough


def _deformed(fit: _Fit, basis: Array) -> tuple[Array, Array]:
    """Largest principal strain against the basis, and all of the deformation, (n,)."""
    vectors = np.where(fit.determined, fit.parameters[2:], basis[:, None]).T
    strain, _ = strain_tensor(vectors, np.broadcast_to(basis, vectors.shape))
    xx, yy, xy, angle = strain.T
    stretch = np.abs(0.5 * (xx + yy)) + np.hypot(0.5 * (xx - yy), xy)
    turned = 2 * np.sin(0.5 * angle)
    return stretch, np.sqrt(xx**2 + yy**2 + 2 * xy**2 + 2 * turned**2)
