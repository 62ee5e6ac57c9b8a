"""False disks where a lattice has a place, but nothing is to be seen."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from fcunet_dask.simulate.artefacts import expect
from fcunet_dask.simulate.erasure import lonely_disks, without_disks
from fcunet_dask.simulate.visibility import (
    Visibility,
    elastic_pattern,
    frame_distance,
)
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
    """Take some visible, well separated disks out of the simulated pattern.

    Parameters
    ----------
    scene : Scene
        The pattern without noise.
    judged : Judged
        What is visible of it.

    Returns
    -------
    scene : Scene
        The same, with the same artefacts, had these reflections not been there.
    places : numpy.ndarray
        (k, 2): where they were, px, those at which nothing is to be seen any more (about
        one disk in thirty leaves some of its light); none where no disk stands alone.
    """
    shape = judged.counts.shape
    choice = lonely_disks(judged.position, judged.label, judged.radius, shape)
    rng = np.random.default_rng([8, *judged.key])
    rows = rng.permutation(choice)[:MOST_REMOVED]
    clean = without_disks(scene.clean, rows, judged.radius)
    without = replace(
        scene,
        clean=clean,
        expected=expect(clean, scene.artefacts),
        elastic=elastic_pattern(clean, scene.artefacts),
    )
    dose = float(judged.condition["dose"])
    _, label = without.truth(dose, judged.radius, judged.edge)
    return without, judged.position[rows[label[rows] == Visibility.ABSENT]]


def removed_rate(
    find: Callable[[Judged], Found], removed: Sequence[tuple[Judged, Array]]
) -> tuple[int, int]:
    """Places of removed disks with a detection, and all of them."""
    hits = [false_rate(find(j), places, j) for j, places in removed]
    return sum(h for h, _ in hits), sum(n for _, n in hits)


def strict_value(
    candidates: Sequence[Found],
    removed: Sequence[tuple[Judged, Array]],
    ranking: str,
    share: float,
) -> float:
    """Least value of a ranking at which few removed disks are found.

    Parameters
    ----------
    candidates : sequence of Found
        All candidates in each of `removed`.
    removed : sequence of (Judged, array)
        Patterns without some of their disks, and where these were.
    ranking : str
        One of `fcunet_dask.train.judge.detection.RANKINGS`.
    share : float
        Of the places, at most.

    Returns
    -------
    float
        −∞ where so few are found at any value.
    """
    best = [
        getattr(f, ranking)[near(f.position, place[None], j.tolerance)].max(
            initial=-np.inf
        )
        for f, (j, places) in zip(candidates, removed, strict=True)
        for place in places
    ]
    allowed = int(share * len(best))
    value = np.sort(best)[::-1][allowed] if len(best) > allowed else -np.inf
    return float(np.nextafter(value, np.inf)) if np.isfinite(value) else -np.inf
