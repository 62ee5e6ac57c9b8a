"""False disks where a lattice has a place, but nothing is to be seen."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from scipy.spatial import cKDTree

from fcunet_dask.kernels.aperture import edge_profile
from fcunet_dask.simulate.visibility import Visibility, frame_distance
from fcunet_dask.train.judge.match import Found, near
from fcunet_dask.train.judge.truth import ABSENT_SHARE, Judged, Scene
from fcunet_dask.types import Array

MOST_REMOVED = 4
"""Disks taken from a pattern."""


def empty_places(judged: Judged) -> dict[str, Array]:
    """Places of a pattern at which there is nothing to be seen.

    Returns
    -------
    dict
        Positions (n, 2), px, all whole in the frame and clear of every disk that is or
        may be visible: ``forbidden``, where |V_g| is less than a thousandth of the
        strongest; ``lattice``, other reflections that cannot be seen; ``elsewhere``, as
        many places drawn between the reflections, for comparison.
    """
    weak = judged.potential < ABSENT_SHARE * judged.potential[1:].max(initial=0)
    absent = judged.label == Visibility.ABSENT
    lit = judged.position[judged.label != Visibility.ABSENT]
    clear = 1.5 * judged.radius + judged.tolerance

    def free(points: Array) -> Array:
        room = frame_distance(points, judged.counts.shape) > judged.radius + 1
        return np.asarray(points[room & ~near(points, lit, clear)])

    rng = np.random.default_rng([7, *judged.key])
    drawn = rng.uniform(0, min(judged.counts.shape), (2000, 2))
    between = drawn[~near(drawn, judged.position, 1.5 * judged.tolerance)]
    return {
        "forbidden": free(judged.position[absent & weak]),
        "lattice": free(judged.position[absent & ~weak]),
        "elsewhere": free(between)[:50],
    }


def false_rate(found: Found, places: Array, judged: Judged) -> tuple[int, int]:
    """Empty places with a detection within the tolerance, and all of them."""
    return int(near(places, found.position, judged.tolerance).sum()), len(places)


def remove_disks(scene: Scene, judged: Judged) -> tuple[Scene, Array]:
    """Take some visible, well separated disks out of a pattern before it is counted.

    Parameters
    ----------
    scene : Scene
        The pattern without noise.
    judged : Judged
        What is visible of it.

    Returns
    -------
    scene : Scene
        The same with background in the place of these disks.
    places : numpy.ndarray
        (k, 2): where they were, px; none where no disk stands alone.
    """
    visible = judged.label == Visibility.VISIBLE
    lit = judged.position[judged.label != Visibility.ABSENT]
    apart = cKDTree(lit).query(judged.position, 2)[0][:, 1] > 2.6 * judged.radius
    room = frame_distance(judged.position, judged.counts.shape) > 2 * judged.radius
    choice = np.flatnonzero(visible & apart & room)
    rng = np.random.default_rng([8, *judged.key])
    chosen = rng.permutation(choice)[:MOST_REMOVED]
    image, elastic = scene.expected.pattern.copy(), scene.elastic.copy()
    for place in judged.position[chosen]:
        _erase(image, place, judged.radius)
        _erase(elastic, place, judged.radius)
    expected = replace(scene.expected, pattern=image)
    without = replace(scene, expected=expected, elastic=elastic)
    return without, judged.position[chosen]


def _erase(image: Array, place: Array, radius: float) -> None:
    """Replace a disk by the plane through the ring around it, in place."""
    y, x = np.indices(image.shape) - np.reshape(place, (2, 1, 1))
    r = np.hypot(y, x)
    ring = (r > 1.25 * radius + 0.5) & (r < 1.6 * radius + 1)
    design = np.stack([np.ones_like(r), y, x], -1)
    fit = np.linalg.lstsq(design[ring], image[ring], rcond=None)[0]
    plane = np.maximum(design @ fit, 0)
    share = edge_profile(r, 1.2 * radius + 0.5, 0.5)
    image[...] = (1 - share) * image + share * plane


def removed_rate(
    find: Callable[[Judged], Found], removed: Sequence[tuple[Judged, Array]]
) -> tuple[int, int]:
    """Places of removed disks with a detection, and all of them."""
    hits = [false_rate(find(j), places, j) for j, places in removed]
    return sum(h for h, _ in hits), sum(n for _, n in hits)
