"""The Bragg-vector map, and the lattice vectors that explain it."""

import itertools
from dataclasses import dataclass

import numpy as np
import scipy.ndimage

from fcunet_dask.kernels.variants import two_variants
from fcunet_dask.types import Array

OUTLIERS = 0.02
"""Share of the weight that may lie off the lattice of a single crystal."""
_MOST_VECTORS = 90
_MOST_COMPARED = 40
_MOST_DIFFERENCES = 30
_MOST_POLISHED = 8
_MOST_POINTS = 400


def bragg_histogram(
    position: Array, weight: Array, shape: tuple[int, int], step: float
) -> Array:
    """Histogram of Bragg vectors, each spread bilinearly over four bins.

    Parameters
    ----------
    position : numpy.ndarray
        (..., 2): y, x, relative to the origin; NaN = none.
    weight : numpy.ndarray
        (...,).
    shape : (int, int)
        Bins; the origin is in the middle of bin ``shape // 2``.
    step : float
        Width of a bin, in the unit of `position`.

    Returns
    -------
    numpy.ndarray
        float64 `shape`; the sum of the weights that fall inside.
    """
    flat = position.reshape(-1, 2)
    value = weight.reshape(-1)
    good = np.isfinite(flat).all(1) & np.isfinite(value)
    bins = flat[good] / step + np.array([s // 2 for s in shape])
    value = value[good]
    low = np.floor(bins).astype(int)
    rest = bins - low
    out = np.zeros(shape[0] * shape[1])
    for dy, dx in itertools.product((0, 1), (0, 1)):
        y, x = low[:, 0] + dy, low[:, 1] + dx
        inside = (y >= 0) & (y < shape[0]) & (x >= 0) & (x < shape[1])
        share = np.abs(1 - dy - rest[:, 0]) * np.abs(1 - dx - rest[:, 1]) * value
        index = (y * shape[1] + x)[inside]
        out += np.bincount(index, share[inside], minlength=out.size)
    return out.reshape(shape)


def histogram_maxima(histogram: Array, step: float, blur: float) -> tuple[Array, Array]:
    """Spots of a Bragg-vector map: where, and how strong.

    Parameters
    ----------
    histogram : numpy.ndarray
        From `bragg_histogram`.
    step : float
        Width of a bin.
    blur : float
        Standard deviation of the smoothing, in the unit of `step`; spots closer than
        twice this merge.

    Returns
    -------
    position : numpy.ndarray
        float64 (m, 2): y, x, strongest first.
    weight : numpy.ndarray
        float64 (m,): smoothed height.
    """
    sigma = max(blur / step, 0.5)
    smooth = scipy.ndimage.gaussian_filter(histogram, sigma, mode="constant")
    size = 2 * int(np.ceil(sigma)) + 1
    highest = scipy.ndimage.maximum_filter(smooth, size=size, mode="constant")
    found = (smooth == highest) & (smooth > 1e-4 * smooth.max(initial=0))
    row, column = np.nonzero(found)
    order = np.argsort(-smooth[row, column], kind="stable")[:_MOST_POINTS]
    row, column = row[order], column[order]
    position = _centroids(smooth, row, column, size // 2 + 1)
    middle = np.array([s // 2 for s in histogram.shape])
    return (position - middle) * step, smooth[row, column]


def _centroids(image: Array, row: Array, column: Array, half: int) -> Array:
    """Centres of mass in windows around the spots, bins."""
    padded = np.pad(image, half)
    axis = np.arange(2 * half + 1)
    windows = padded[row[:, None, None] + axis[:, None], column[:, None, None] + axis]
    windows = np.maximum(windows - windows.min(axis=(1, 2), keepdims=True), 0)
    total = np.maximum(windows.sum(axis=(1, 2)), 1e-30)
    offset = axis - half
    y = (windows.sum(2) * offset).sum(1) / total
    x = (windows.sum(1) * offset).sum(1) / total
    return np.stack([row + y, column + x], axis=-1)


@dataclass(frozen=True, slots=True)
class Basis:
    """Two lattice vectors and how well they explain the spots.

    Attributes
    ----------
    vectors : numpy.ndarray
        (4,): g1_y, g1_x, g2_y, g2_x, reduced: g₁ the shortest vector (of equal ones
        that closest to +x), g₂ on its side towards +y (of equal ones that closest to
        g₁).
    explained : float
        Share of the weight of the spots on the lattice, 0 to 1.
    n_spots : int
        Number of spots on the lattice.
    """

    vectors: Array
    explained: float
    n_spots: int


def find_basis(
    position: Array,
    weight: Array,
    tolerance: float,
    shortest: float,
    outliers: float = OUTLIERS,
) -> Basis | None:
    """Find the lattice that explains the spots best.

    Every pair of spots, and of differences that many of them have, is tried: the shortest
    spots may be missing. One with a unit cell area A is given the log-likelihood
    Σ w log[ε + (1 − ε) A N(d; σ)], d the distance of a spot from the nearest lattice
    point: a fine lattice that passes near everything gains less than a coarse one that
    hits. Missing spots cost nothing. The best few are fitted before they are compared.

    Parameters
    ----------
    position : numpy.ndarray
        (m, 2): y, x, relative to the origin.
    weight : numpy.ndarray
        (m,), such as the root of the intensity.
    tolerance : float
        σ, the standard deviation of spots about lattice points.
    shortest : float
        Lattice vectors are longer than this.
    outliers : float
        ε: share of the weight that may lie anywhere (satellites, other grains,
        mistakes), 0 to 1.

    Returns
    -------
    Basis or None
        None where no three spots lie on a lattice.
    """
    length = np.hypot(*position.T)
    away = length > shortest
    if away.sum() < 2:
        return None
    vectors = _candidates(position[away], weight[away], shortest, tolerance)
    pairs = _pairs(vectors, shortest)
    if not len(pairs):
        return None
    share = weight / weight.sum()
    score = _log_likelihood(pairs, position, share, tolerance, outliers)
    likely = pairs[np.argsort(-score, kind="stable")[:_MOST_POLISHED]]
    fitted = np.array([_polished(p, position, weight, tolerance) for p in likely])
    score = _log_likelihood(fitted, position, share, tolerance, outliers)
    best = fitted[int(np.argmax(score))]
    away_on = _on_lattice(best, position, 3 * tolerance) & away
    if np.linalg.matrix_rank(position[away_on], tol=0.1 * shortest) < 2:
        return None
    return _explained(best, position, weight, tolerance, away)


def _explained(
    vectors: Array, position: Array, weight: Array, tolerance: float, away: Array
) -> Basis:
    on = _on_lattice(vectors, position, 3 * tolerance)
    share = weight[on & away].sum() / weight[away].sum()
    return Basis(vectors, float(share), int(on.sum()))


def _candidates(
    position: Array, weight: Array, shortest: float, tolerance: float
) -> Array:
    """Spots, and differences that many of them have, as possible lattice vectors."""
    order = np.argsort(-weight, kind="stable")
    strongest = position[order]
    inner = strongest[np.argsort(np.hypot(*strongest.T), kind="stable")]
    few = strongest[:10]
    plain = (few[:, None] - few[None]).reshape(-1, 2)
    some = order[:_MOST_COMPARED]
    frequent = _frequent_differences(position[some], weight[some], shortest, tolerance)
    vectors = np.concatenate([strongest[:30], inner[:30], plain, frequent])
    vectors = _forward(vectors)
    length = np.hypot(*vectors.T)
    vectors = vectors[length > shortest]
    vectors = vectors[np.argsort(np.hypot(*vectors.T), kind="stable")]
    distinct: list[Array] = []
    for vector in vectors:
        if all(np.hypot(*(vector - v)) > 0.1 * shortest for v in distinct):
            distinct.append(vector)
    return np.array(distinct[:_MOST_VECTORS]).reshape(-1, 2)


def _frequent_differences(
    position: Array, weight: Array, shortest: float, tolerance: float
) -> Array:
    """Differences of spots that most pairs have, each the mean of those alike."""
    first, second = np.triu_indices(len(position), 1)
    difference = _forward(position[first] - position[second])
    long = np.hypot(*difference.T) > shortest
    difference, strength = difference[long], np.minimum(weight[first], weight[second])
    away = difference[:, None] - difference
    alike = np.hypot(away[..., 0], away[..., 1]) < 2 * tolerance
    support = alike @ strength[long]
    found: list[Array] = []
    while len(found) < _MOST_DIFFERENCES and support.any():
        best = alike[int(np.argmax(support))]
        found.append(np.average(difference[best], axis=0, weights=strength[long][best]))
        support[best] = 0
    return np.array(found).reshape(-1, 2)


def _forward(vectors: Array) -> Array:
    """Of each pair ±v the one towards +x."""
    along = (vectors[:, 1] > 0) | ((vectors[:, 1] == 0) & (vectors[:, 0] > 0))
    return np.where(along[:, None], vectors, -vectors)


def _pairs(vectors: Array, shortest: float) -> Array:
    """Pairs (p, 4) that span a cell at least `shortest` high."""
    first, second = np.triu_indices(len(vectors), 1)
    pairs = np.concatenate([vectors[first], vectors[second]], axis=1)
    area = np.abs(pairs[:, 0] * pairs[:, 3] - pairs[:, 1] * pairs[:, 2])
    longest = np.maximum(np.hypot(*pairs[:, :2].T), np.hypot(*pairs[:, 2:].T))
    return pairs[area > 0.7 * shortest * longest]


def _distance2(pairs: Array, position: Array) -> tuple[Array, Array]:
    """Squared distance (p, m) of the spots from the lattices; cell areas (p,)."""
    ay, ax, by, bx = (c[:, None] for c in pairs.T)
    determinant = ay * bx - ax * by
    y, x = position[:, 0], position[:, 1]
    h = np.rint((y * bx - x * by) / determinant)
    k = np.rint((x * ay - y * ax) / determinant)
    distance2 = (y - h * ay - k * by) ** 2 + (x - h * ax - k * bx) ** 2
    return distance2, np.abs(determinant[:, 0])


def _log_likelihood(
    pairs: Array, position: Array, weight: Array, sigma: float, outliers: float
) -> Array:
    distance2, area = _distance2(pairs, position)
    density = np.exp(-distance2 / (2 * sigma**2)) / (2 * np.pi * sigma**2)
    hit = (1 - outliers) * area[:, None] * density
    return np.asarray((weight * np.log(outliers + hit)).sum(1))


def _on_lattice(vectors: Array, position: Array, tolerance: float) -> Array:
    distance2, _ = _distance2(vectors[None], position)
    return np.asarray(distance2[0] < tolerance**2)


def _polished(vectors: Array, position: Array, weight: Array, sigma: float) -> Array:
    """Reduce the pair and fit it to the spots it explains, inner ones first."""
    radius = np.hypot(*position.T)
    for reach in (2.5, 5.0, np.inf):
        vectors = reduced(vectors)
        near = radius < reach * np.hypot(*vectors[2:])
        on = near & _on_lattice(vectors, position, 4 * sigma)
        G = vectors.reshape(2, 2)
        indices = np.rint(position @ np.linalg.inv(G))
        root = np.sqrt(weight * on)[:, None]
        if np.linalg.matrix_rank(indices[on]) == 2:
            G = np.linalg.lstsq(indices * root, position * root, rcond=None)[0]
        vectors = G.reshape(4)
    return reduced(vectors)


def reduced(vectors: Array) -> Array:
    """Lagrange–Gauss reduction, then the order and signs of `Basis.vectors`.

    Parameters
    ----------
    vectors : numpy.ndarray
        (4,): g1_y, g1_x, g2_y, g2_x.

    Returns
    -------
    numpy.ndarray
        (4,), of the same lattice; unchanged where they span none.

    Examples
    --------
    >>> reduced(np.array([1.0, 5.0, 1.0, 4.0])) + 0.0
    array([0., 1., 1., 0.])
    """
    a, b = np.array(vectors[:2], float), np.array(vectors[2:], float)
    if not abs(a[0] * b[1] - a[1] * b[0]) > 1e-9 * np.hypot(*a) * np.hypot(*b):
        return np.concatenate([a, b])
    while True:
        if a @ a > b @ b:
            a, b = b, a
        shorter = b - np.rint(a @ b / (a @ a)) * a
        if not shorter @ shorter < (1 - 1e-12) * (b @ b):  # at ±½ it would alternate
            break
        b = shorter
    shortest = [v for v in (a, b, b - a, b + a) if v @ v < 1.02**2 * (a @ a)]
    first = max(shortest, key=lambda v: (round(abs(v[1]) / np.hypot(*v), 6), abs(v[0])))
    rest = [v for v in (a, b) if abs(np.linalg.det([first, v])) > 1e-9 * (a @ a)]
    second = min(rest, key=lambda v: float(v @ v))
    first = first if (first[1], first[0]) > (0, 0) else -first
    cross = first[1] * second[0] - first[0] * second[1]
    second = second if cross > 0 else -second
    equal = (second, second - first, second + first)
    least = min(v @ v for v in equal) * (1 + 1e-9)
    second = max((v for v in equal if v @ v <= least), key=lambda v: float(v @ first))
    return np.concatenate([first, second])


def find_bases(
    position: Array, weight: Array, tolerance: float, shortest: float, most: int
) -> list[Basis]:
    """Find the lattices of several grains, one after another.

    The one lattice that explains the spots of two twins best is finer than theirs, and
    holds both: where two may be found, it is split (`kernels.variants`).

    Parameters
    ----------
    position, weight, tolerance, shortest
        As for `find_basis`; `shortest` also separates lattices.
    most : int
        At most this many.

    Returns
    -------
    list of Basis
        Those that explain a tenth of the weight still unexplained and, after the first,
        at least six spots; possibly none.
    """
    found: list[Basis] = []
    left = np.ones(len(position), bool)
    away = np.hypot(*position.T) > shortest
    while len(found) < most and (left & away).sum() >= 3:
        use = left | ~away
        outliers = max(OUTLIERS, 0.6 * (1 - 1 / (most - len(found))))
        basis = find_basis(position[use], weight[use], tolerance, shortest, outliers)
        enough = basis is not None and (basis.n_spots >= 6 or not found)
        if basis is None or not enough or basis.explained < 0.1:
            break
        lattices = [basis.vectors]
        if most - len(found) > 1:
            lattices = _variants(basis.vectors, position[use], weight[use], tolerance)
        for vectors in lattices:
            use = left | ~away
            parts = position[use], weight[use], tolerance, away[use]
            found.append(_explained(vectors, *parts))
            left &= ~_on_lattice(vectors, position, 3 * tolerance)
    return found


def _variants(
    vectors: Array, position: Array, weight: Array, tolerance: float
) -> list[Array]:
    """Vectors of two variants that share a lattice, or those of that lattice."""
    on = _on_lattice(vectors, position, 3 * tolerance)
    G = vectors.reshape(2, 2)
    indices = np.rint(position[on] @ np.linalg.inv(G)).astype(int)
    away = indices.any(axis=1)
    pair = two_variants(indices[away], weight[on][away])
    if pair is None:
        return [vectors]
    coarse = [(matrix @ G).reshape(4) for matrix in pair]
    return [_polished(v, position, weight, tolerance) for v in coarse]
