"""Which of the true reflections can be seen in a pattern, and how well.

The truth of a simulated pattern lists every reflection near the Ewald sphere; most of
them cannot be seen. What can is measured on the expected pattern, free of noise: it is
the sum of disks at the true positions, of flux f_j ≥ 0, and a smooth background, and

    min_f ‖I − Σ f_j D(q − q_j)‖²_K + λ g(0) Σ (f_j / c_j)²,   K = δ − B,

where D is the disk's outline of unit sum, B the mean over a disk 1.6 times as large,
which makes the fit blind to smooth backgrounds, and c_j the strength of a reflection
relative to the strongest within one radius of it: disks that lie on each other share
their light as their structure factors say. All disks being alike, the normal equations
are a correlation of the pattern, read at the positions, and a function g of distances.
"""

from dataclasses import replace
from enum import IntEnum
from functools import lru_cache
from typing import Final

import numpy as np
import scipy.fft
from scipy.sparse import coo_array
from scipy.spatial import cKDTree
from scipy.special import j0, jv

from fcunet_dask.simulate.artefacts import Artefacts, Clean, expect
from fcunet_dask.types import Array

MIN_VISIBLE: Final = 3.0
"""Flux over its standard deviation from which a disk counts as visible."""
MIN_FAINT: Final = 1.5
"""Flux over its standard deviation below which a disk counts as absent."""

_WINDOW: Final = 1.6
"""Radius of B over that of the disk."""
_RIDGE: Final = 0.003
"""λ."""
_WEAKEST: Final = 0.1
"""Least c_j."""
_MISFIT: Final = 0.03
"""Share of its neighbours' overlap with a disk that the model is trusted to leave over:
disks are not evenly filled, nor quite round."""
_SWEEPS: Final = 80
_NODES: Final = 64
"""Nodes of tabulated functions per cycle of the fastest of their factors."""


class Visibility(IntEnum):
    """What a detector is asked of a reflection."""

    ABSENT = 0
    """Not to be seen, or outside the frame: a detection here is false."""
    FAINT = 1
    """Doubtful, cut by the frame, or covered by a stronger disk: nothing is asked."""
    VISIBLE = 2
    """To be found."""


def disk_significance(
    expected_counts: Array,
    positions_px: Array,
    radius: float,
    edge: float,
    strength: Array | None = None,
    elastic: Array | None = None,
) -> tuple[Array, Array]:
    """Flux of each reflection's own disk, and its significance in shot noise.

    Parameters
    ----------
    expected_counts : array
        (rows, columns) expected electrons: a pattern without noise.
    positions_px : array
        (n, 2) as (y, x), px from the middle of the first pixel; NaN is none.
    radius, edge : float
        Of the disks and of their blurred edge, px.
    strength : array, optional
        (n,) |V_g|, in any unit: how disks closer than a radius share their light. By
        default evenly.
    elastic : array, optional
        (rows, columns) what of `expected_counts` is in disks, from `elastic_pattern`:
        crowded disks explain any background, too, so it is better not to have it in.

    Returns
    -------
    significance : numpy.ndarray
        float64 (n,): flux / √(all counts in the disk). 0 outside the frame.
    flux : numpy.ndarray
        float64 (n,): electrons of the disk itself, without background and neighbours.
        0 outside the frame.
    """
    measured = _measure(expected_counts, positions_px, radius, edge, strength, elastic)
    return measured[0], measured[1]


def visible_disks(
    expected_counts: Array,
    positions_px: Array,
    radius: float,
    edge: float,
    strength: Array | None = None,
    elastic: Array | None = None,
) -> Array:
    """Which reflections a detector must find, may find, or must not find.

    Parameters
    ----------
    expected_counts, positions_px, radius, edge, strength, elastic
        As those of `disk_significance`.

    Returns
    -------
    numpy.ndarray
        int8 (n,), `Visibility`. Visible from 3 σ, absent below 1.5 σ. At most faint is
        a disk that is not wholly in the frame, is closer than a radius to one of more
        flux, or does not stand out by 3 σ from its surroundings: of disks that tile the
        plane evenly each has its flux, but none can be seen.
    """
    significance, flux, prominence = _measure(
        expected_counts, positions_px, radius, edge, strength, elastic
    )
    label = np.zeros(len(flux), np.int8)
    label[significance >= MIN_FAINT] = Visibility.FAINT
    label[significance >= MIN_VISIBLE] = Visibility.VISIBLE
    positions = np.asarray(positions_px, float)
    room = frame_distance(positions, expected_counts.shape)
    hidden = _outshone(positions, flux, radius) | (room < radius)
    hidden |= prominence < MIN_VISIBLE
    label[hidden] = np.minimum(label[hidden], Visibility.FAINT)
    return label


def _measure(
    counts: Array,
    positions_px: Array,
    radius: float,
    edge: float,
    strength: Array | None,
    elastic: Array | None,
) -> tuple[Array, Array, Array]:
    """Significance and flux of each disk, and by how many σ it stands out."""
    positions = np.asarray(positions_px, float)
    inside = frame_distance(positions, counts.shape) >= 0
    result = np.zeros((3, len(positions)))
    if not inside.any():
        return result[0], result[1], result[2]
    place = positions[inside]
    share = _shares(place, radius, None if strength is None else strength[inside])
    mean, contrast = disk_contrast(counts, place, radius, edge)
    if elastic is not None:
        _, contrast = disk_contrast(elastic, place, radius, edge)
    overlap = _overlaps(place, radius, edge)
    alone = overlap.diagonal()
    flux = _nonnegative(overlap, contrast, share)
    others = np.abs(overlap) @ flux / alone - flux
    electrons = np.maximum(mean * np.pi * radius**2, flux) + 1e-12
    deviation = np.hypot(np.sqrt(electrons), _MISFIT * others)
    result[:, inside] = flux / deviation, flux, contrast / alone / deviation
    return result[0], result[1], result[2]


def elastic_pattern(
    clean: Clean, artefacts: Artefacts, second: Clean | None = None
) -> Array:
    """Part of an expected pattern that is in disks, without inelastic and amorphous.

    Parameters
    ----------
    clean, artefacts, second
        As those of `fcunet_dask.simulate.artefacts.expect`.

    Returns
    -------
    numpy.ndarray
        float32 (rows, columns), shares of the incident beam.
    """
    alone = replace(artefacts, loss=0.0, thermal=0.0, amorphous=0.0)
    kept = (1 - artefacts.loss) * (1 - artefacts.amorphous)
    return kept * expect(clean, alone, second).pattern


def frame_distance(positions: Array, shape: tuple[int, ...]) -> Array:
    """Distance of positions (n, 2), px, to the nearest border; negative outside.

    Parameters
    ----------
    positions : array
        (n, 2) as (y, x), px; NaN counts as outside.
    shape : tuple of int
        Rows and columns.

    Returns
    -------
    numpy.ndarray
        float64 (n,), px.
    """
    last = np.array(shape[-2:]) - 1
    room = np.minimum(positions, last - positions).min(axis=1)
    return np.where(np.isfinite(room), room, -np.inf)


def _outshone(positions: Array, flux: Array, radius: float) -> Array:
    """Whether a reflection lies within a radius of one of more flux."""
    place = np.where(np.isfinite(positions), positions, -1e6)
    first, second = cKDTree(place).query_pairs(radius, output_type="ndarray").T
    weaker = np.where(flux[first] < flux[second], first, second)
    hidden = np.zeros(len(flux), bool)
    hidden[weaker] = True
    return hidden


def _shares(place: Array, radius: float, strength: Array | None) -> Array:
    """c_j: strength relative to the strongest within a radius, at least `_WEAKEST`."""
    if strength is None:
        return np.ones(len(place))
    value = np.maximum(np.asarray(strength, float), 1e-12)
    top = value.copy()
    first, second = cKDTree(place).query_pairs(radius, output_type="ndarray").T
    np.maximum.at(top, first, value[second])
    np.maximum.at(top, second, value[first])
    return np.maximum(value / top, _WEAKEST)


def disk_contrast(
    image: Array, place: Array, radius: float, edge: float
) -> tuple[Array, Array]:
    """Mean of an image under a disk, and that minus the mean of its surroundings.

    Parameters
    ----------
    image : array
        (rows, columns).
    place : array
        (n, 2) as (y, x), px, inside the image.
    radius, edge : float
        Of the disk and of its blurred edge, px.

    Returns
    -------
    mean, contrast : numpy.ndarray
        float64 (n,), in the units of the image.
    """
    border = int(np.ceil((1 + _WINDOW) * radius + 3))
    padded = np.pad(np.asarray(image, np.float32), border, mode="edge")
    shape = tuple(scipy.fft.next_fast_len(n, real=True) for n in padded.shape)
    spectrum = scipy.fft.rfft2(padded, shape)
    ky, kx = np.fft.fftfreq(shape[0]), np.fft.rfftfreq(shape[1])
    nodes, disk, smooth = _spectra(round(radius, 4), round(edge, 4))
    k = np.hypot(ky[:, None], kx)
    outline = np.interp(k, nodes, disk).astype(np.float32)
    around = np.interp(k, nodes, disk * smooth).astype(np.float32)
    mean, background = (
        _read(scipy.fft.irfft2(spectrum * filter_, shape), place + border)
        for filter_ in (outline, around)
    )
    return mean, mean - background


def _read(image: Array, place: Array) -> Array:
    """Values at sub-pixel places (n, 2), by cubic convolution (Keys 1981, a = −½)."""
    pixel = np.floor(place).astype(int)
    t = place - pixel
    t2, t3 = t * t, t * t * t
    weights = np.stack(
        [-t3 + 2 * t2 - t, 3 * t3 - 5 * t2 + 2, -3 * t3 + 4 * t2 + t, t3 - t2]
    )
    steps = np.arange(-1, 3)
    rows = pixel[:, 0, None, None] + steps[:, None]
    columns = pixel[:, 1, None, None] + steps
    window = image[rows, columns]
    values: Array = np.einsum("nij,in,jn->n", window, weights[..., 0], weights[..., 1])
    return values / 4


@lru_cache(maxsize=64)
def _spectra(radius: float, edge: float) -> tuple[Array, Array, Array]:
    """Frequencies up to √½ per px, and there the disk's and the window's transform."""
    window = _WINDOW * radius
    k = np.linspace(0, np.sqrt(0.5), int(_NODES * (1 + window)))
    disk = _airy(radius * k) * np.exp(-2 * (np.pi * edge * k) ** 2)
    return k, disk, _airy(window * k)


def _airy(x: Array) -> Array:
    """Fourier transform of a disk of unit sum, x = radius · frequency."""
    argument = np.maximum(2 * np.pi * x, 1e-9)
    return np.asarray(2 * jv(1, argument) / argument)


@lru_cache(maxsize=64)
def _overlap(radius: float, edge: float) -> tuple[Array, Array]:
    """Distances, and g(d) = ∫ D̂² (1 − B̂) J₀(2πkd) 2πk dk there."""
    k, disk, smooth = _spectra(radius, edge)
    k, disk, smooth = k[::8], disk[::8], smooth[::8]
    reach = (2 + _WINDOW) * radius + 4 * edge
    distance = np.linspace(0, reach, 4 * int(np.ceil(reach)))
    weight = disk**2 * (1 - smooth) * 2 * np.pi * k * (k[1] - k[0])
    return distance, j0(2 * np.pi * np.outer(distance, k)) @ weight


def _overlaps(place: Array, radius: float, edge: float) -> coo_array:
    """Overlaps of all pairs of disks, without those of a disk with itself."""
    distance, overlap = _overlap(round(radius, 4), round(edge, 4))
    pairs = cKDTree(place).query_pairs(distance[-1], output_type="ndarray")
    apart = np.linalg.norm(place[pairs[:, 0]] - place[pairs[:, 1]], axis=1)
    values = np.interp(apart, distance, overlap)
    n = len(place)
    rows = np.concatenate([pairs[:, 0], pairs[:, 1], np.arange(n)])
    columns = np.concatenate([pairs[:, 1], pairs[:, 0], np.arange(n)])
    values = np.concatenate([values, values, np.full(n, overlap[0])])
    return coo_array((values, (rows, columns)), shape=(n, n)).tocsr()


def _nonnegative(gram: coo_array, target: Array, share: Array) -> Array:
    """Non-negative f of the regularised normal equations, by accelerated descent."""
    diagonal = gram.diagonal()
    ridge = _RIDGE * diagonal
    # in u = f / c all disks are alike to the ridge; each has the step of its own row
    step = 1 / (share * (np.abs(gram) @ share) + ridge)
    u = np.zeros(len(target))
    ahead, momentum = u, 1.0
    for _ in range(_SWEEPS):
        slope = share * (gram @ (share * ahead) - target) + ridge * ahead
        new = np.maximum(ahead - step * slope, 0)
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = new + (momentum - 1) / following * (new - u)
        u, momentum = new, following
    return share * u
