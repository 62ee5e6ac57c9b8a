"""Atoms of a rotated, strained and bent crystal inside a box: no supercell."""

import itertools
from collections.abc import Iterator
from typing import Final

import numpy as np

from fcunet_dask.types import Array

SEGMENT: Final = 60.0
"""Depth that is searched at once, Å: keeps the search box of a tilted slab small."""


def cut_slab(
    cell: Array,
    positions: Array,
    extent: tuple[float, float, float],
    *,
    rotation: Array,
    origin: Array,
    bending: Array | None = None,
) -> tuple[Array, Array]:
    """Atoms of an infinite crystal that lie in a box.

    The crystal's Cartesian frame is turned into the lab frame, r = R (n + f) A + o
    with o counted from the middle of the entrance face, then bent:
    u_z = ½ Σ_ij κ_ij x_i x_j, which tilts the lattice planes away from the middle of
    the box and leaves their mean orientation and the in-plane spacings alone.

    Parameters
    ----------
    cell : array
        (3, 3) lattice vectors as rows in the crystal's frame, strain applied, Å.
    positions : array
        (n, 3) fractional coordinates.
    extent : (float, float, float)
        Size of the box along x, y and z, Å; it begins at the origin of the lab frame.
    rotation : array
        (3, 3) crystal to lab frame; the beam runs along +z.
    origin : array
        (3,) where the crystal's origin lies from the middle of the entrance face, Å.
    bending : array or None
        (2, 2) symmetric curvature κ in (x, y), 1/Å.

    Returns
    -------
    coordinates : array
        float64 (m, 3) as (x, y, z), Å.
    site : array
        int (m,), which of `positions` each atom is.
    """
    size = np.asarray(extent, dtype=float)
    lab = np.asarray(cell, dtype=float) @ np.asarray(rotation, dtype=float).T
    kappa = np.zeros((2, 2)) if bending is None else np.asarray(bending, dtype=float)
    middle = np.array([size[0] / 2, size[1] / 2, 0.0])
    shift = middle + np.asarray(origin, dtype=float)
    found, sites = [], []
    for low, high in _segments(size[2], _sag(kappa, size)):
        box = np.array([[0.0, 0.0, low], [size[0], size[1], high]])
        corners = _lattice_points(lab, box - shift) @ lab + shift
        for site, fraction in enumerate(np.asarray(positions) @ lab):
            atoms = corners + fraction
            atoms = atoms[((atoms >= box[0]) & (atoms < box[1])).all(1)]
            found.append(atoms)
            sites.append(np.full(len(atoms), site))
    atoms, site_of = np.concatenate(found), np.concatenate(sites)
    flat = atoms[:, :2] - middle[:2]
    atoms[:, 2] += 0.5 * ((flat @ kappa) * flat).sum(1)
    inside = (atoms[:, 2] >= 0) & (atoms[:, 2] < size[2])
    return atoms[inside], site_of[inside]


def _sag(kappa: Array, size: Array) -> float:
    """Return the largest |u_z| in the box."""
    half = size[:2] / 2
    return float(0.5 * (np.abs(kappa) * np.outer(half, half)).sum())


def _segments(depth: float, margin: float) -> Iterator[tuple[float, float]]:
    """Split the depth, with a margin beyond both faces."""
    edges = np.linspace(-margin, depth + margin, int(np.ceil(depth / SEGMENT)) + 1)
    return itertools.pairwise(edges)


def _lattice_points(lab: Array, box: Array) -> Array:
    """Lattice points whose cell may touch a box: int (n, 3)."""
    corners = np.array([[box[i, 0], box[j, 1], box[k, 2]]
                        for i in (0, 1) for j in (0, 1) for k in (0, 1)])  # fmt: skip
    fractional = corners @ np.linalg.inv(lab)
    low = np.floor(fractional.min(0)).astype(int) - 1
    high = np.ceil(fractional.max(0)).astype(int) + 1
    axes = [np.arange(a, b + 1) for a, b in zip(low, high, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    place = points @ lab
    reach = np.linalg.norm(lab, axis=1).sum()
    near = ((place > box[0] - reach) & (place < box[1] + reach)).all(1)
    return np.asarray(points[near])
