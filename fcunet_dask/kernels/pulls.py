"""Disks of a pattern that err together: all pulled outwards, or all inwards.

What fills a disk moves with strain, tilt and thickness, and takes the place that is found
for it along, by much the same share of its radius in all disks of a pattern. A lattice
takes that for strain, and its disks agree on it. Model: q = o + h g₁ + k g₂ + P u, u the
unit vector from the beam to the disk and P = Σ pᵢ nᵢ nᵢᵀ the pull of this pattern along
two axes n of the scan.

That patterns are pulled shows where two halves of their disks, each with a lattice of its
own, tell of the same pull. Errors that each disk has for itself do not, however large
they are beside their error bars.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from fcunet_dask.types import Array

FEWEST: Final = 16
"""Patterns that tell what pulls a scan has."""
SPLITS: Final = 4
"""Ways to halve the disks of a pattern."""
_LOOSE: Final = 0.25
"""Pull, over the shortest lattice vector, that is believed of half a pattern."""
_OUTLIER: Final = 7.5
"""Distance from the median, over the median of such distances, of a wrong lattice."""
_POOR: Final = 4.0
"""Variance of what halves tell, over that of the middle pattern, from which on it is not
asked. All others count alike: large pulls make large variances, too."""
_SURE: Final = 3.0
"""Standard errors by which the variance of pulls is taken to be smaller than it seems."""
_LEAST: Final = 1e-4
"""Variance of pulls, over that of what halves tell of them, that is not rounding."""


@dataclass(frozen=True, slots=True)
class IndexedDisks:
    """Disks of n patterns, on lattices.

    Attributes
    ----------
    position : numpy.ndarray
        (n, peaks, 2): y, x.
    index : numpy.ndarray
        (n, peaks, 2): h, k.
    weight : numpy.ndarray
        (n, peaks), in the fit of the lattice; 0 = none.
    variance : numpy.ndarray
        (n, peaks): along one axis, the scatter of the pattern included; ∞ = none.
    """

    position: Array
    index: Array
    weight: Array
    variance: Array


@dataclass(frozen=True, slots=True)
class Pulls:
    """How the patterns of a scan are pulled.

    Attributes
    ----------
    axes : numpy.ndarray
        (2, 2): two orthogonal unit vectors (y, x).
    variance : numpy.ndarray
        (2,): of the pulls along these.
    """

    axes: Array
    variance: Array


def no_pulls() -> Pulls:
    """Return those of a scan whose disks err each for itself."""
    return Pulls(np.eye(2), np.zeros(2))


def pulled_covariance(disks: IndexedDisks, basis: Array, pulls: Pulls) -> Array:
    """Covariance that pulls add to that of lattices fitted without them.

    Parameters
    ----------
    disks : IndexedDisks
        Those of a pattern determine a lattice.
    basis : numpy.ndarray
        (4,): gives the directions of the disks.
    pulls : Pulls
        Of the scan.

    Returns
    -------
    numpy.ndarray
        (n, 6, 6): of origin_y, origin_x, g1_y, g1_x, g2_y, g2_x.
    """
    lattice = _terms(disks.index)
    along = np.swapaxes(_direction(disks.index, basis) @ pulls.axes.T, 1, 2)
    normal = _products(lattice, disks.weight, lattice)
    response = np.linalg.inv(normal) @ _products(lattice, disks.weight, along)
    columns = response[:, :, None, :] * pulls.axes.T
    columns = columns.reshape(len(response), 6, 2)
    return (columns * pulls.variance) @ np.swapaxes(columns, 1, 2)


def _direction(index: Array, basis: Array) -> Array:
    """Return unit vectors (n, peaks, 2) from the beam to the disks; 0 for the beam."""
    vector = index @ np.reshape(basis, (2, 2))
    length = np.sqrt((vector**2).sum(-1, keepdims=True))
    out: Array = vector / np.where(length > 0, length, 1)
    return out


def _terms(*columns: Array) -> Array:
    """(n, terms, peaks): 1 and the columns (n, peaks, …)."""
    ones = np.ones((*columns[0].shape[:2], 1))
    terms = np.concatenate([ones, *columns], axis=-1)
    return np.ascontiguousarray(np.swapaxes(terms, 1, 2))


def _products(left: Array, weight: Array, right: Array) -> Array:
    """Σ w a bᵀ over the disks, (n, terms, terms)."""
    out: Array = (left * weight[:, None]) @ np.swapaxes(right, 1, 2)
    return out


def pulls_of_halves(disks: IndexedDisks, basis: Array) -> tuple[Array, Array]:
    """Measure the pulls that halves of the disks of each pattern tell of.

    Parameters
    ----------
    disks : IndexedDisks
        The disks.
    basis : numpy.ndarray
        (4,): gives the directions of the disks.

    Returns
    -------
    pulls : numpy.ndarray
        (n, splits, 2, 2, 2): of each half, by component and direction.
    variance : numpy.ndarray
        (n, splits): of such a pull, the geometric mean of both halves.
    """
    terms = _terms(disks.index, _direction(disks.index, basis))
    loose = _LOOSE**2 * (np.reshape(basis, (2, 2)) ** 2).sum(1).min()
    found, spread = [], []
    for split in range(SPLITS):
        first = _first_half(disks.index, split)
        for half in (first, ~first):
            weight = half / disks.variance
            normal = _products(terms, weight, terms)
            normal[:, [3, 4], [3, 4]] += 1 / loose
            size = np.trace(normal, axis1=1, axis2=2)[:, None, None]
            inverse = np.linalg.inv(normal + 1e-10 * size * np.eye(5))[:, 3:]
            right = terms @ (weight[..., None] * disks.position)
            found.append(np.swapaxes(inverse @ right, 1, 2))
            spread.append(inverse[:, 0, 3] + inverse[:, 1, 4])
    shape = len(terms), SPLITS, 2
    pulls = np.stack(found, axis=1).reshape(*shape, 2, 2)
    return pulls, np.sqrt(np.stack(spread, axis=1).reshape(shape).prod(axis=-1))


def _first_half(index: Array, split: int) -> Array:
    """Whether disks are of the first half: a hash of h, k and the split."""
    h, k = (index[..., i].astype(np.int64).astype(np.uint64) for i in (0, 1))
    mixed = h * np.uint64(0x9E3779B97F4A7C15) + k * np.uint64(0xC2B2AE3D27D4EB4F)
    mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    out: Array = (mixed >> np.uint64(40 + split)) & np.uint64(1) == 1
    return out


def common_pulls(pulls: Array, variance: Array) -> Pulls:
    """Find the pulls of a scan in those of halves of many patterns.

    Parameters
    ----------
    pulls : numpy.ndarray
        (n, splits, 2, 2, 2), from `pulls_of_halves`; NaN = none.
    variance : numpy.ndarray
        (n, splits).

    Returns
    -------
    Pulls
        Along the axes in which the halves agree most and least; the variance is what
        three standard errors leave of that which they have in common. None where there
        are fewer than 16 patterns.
    """
    variance = variance.mean(axis=1)
    usual = _usual(pulls.mean(axis=(1, 2)))
    if not usual.any():
        return no_pulls()
    middle = np.median(variance[usual])
    usual &= variance <= _POOR * middle
    pulls = pulls[usual]
    if len(pulls) < FEWEST:
        return no_pulls()
    a, b = np.moveaxis(pulls - pulls.mean(axis=0), 2, 0)
    agreement = np.einsum("nsad,nsbd->ab", a, b)
    axes = np.linalg.eigh(agreement + agreement.T)[1].T
    a, b = (np.einsum("ic,nscd,id->nsi", axes, half, axes) for half in (a, b))
    shared = (a * b).mean(axis=1)
    error = shared.std(axis=0) / np.sqrt(len(shared))
    sure = shared.mean(axis=0) - _SURE * error
    return Pulls(axes, np.where(sure > _LEAST * middle, sure, 0))


def _usual(pull: Array) -> Array:
    """Whether each (n, 2, 2) is known and no outlier, (n,)."""
    known = np.asarray(np.isfinite(pull).all(axis=(1, 2)))
    if not known.any():
        return known
    away = np.sqrt(((pull - np.median(pull[known], axis=0)) ** 2).sum(axis=(1, 2)))
    return np.asarray(away <= _OUTLIER * np.median(away[known]))
