"""Empty places and removed disks: a detector that completes lattices is found out."""

from dataclasses import replace

import numpy as np
from fcunet_dask.kernels.aperture import disk_image
from fcunet_dask.simulate.artefacts import expect
from fcunet_dask.simulate.visibility import elastic_pattern
from fcunet_dask.train.judge.completion import (
    empty_places,
    false_rate,
    remove_disks,
    removed_rate,
    strict_value,
)
from fcunet_dask.train.judge.match import near
from tests.train.judge.scenes import RADIUS, detections, echo, make_scene


def test_forbidden_places_are_reflections_without_strength(judged):
    j = judged[0]
    places = empty_places(j)
    forbidden = j.position[j.potential == 0]
    assert len(places["forbidden"])
    for place in places["forbidden"]:
        assert np.linalg.norm(forbidden - place, axis=1).min() == 0
    for points in places.values():
        lit = j.position[j.label > 0]
        distance = np.linalg.norm(points[:, None] - lit, axis=-1)
        assert not distance.size or distance.min() > 1.5 * j.radius


def test_a_detector_that_completes_the_lattice_is_caught(judged):
    j = judged[0]
    places = empty_places(j)["forbidden"]
    completed = detections(j.position)
    assert false_rate(completed, places, j) == (len(places), len(places))
    assert false_rate(echo(j), places, j)[0] == 0


def test_removed_disks_leave_the_background(scenes, judged):
    for scene, j in zip(scenes, judged, strict=True):
        without, places = remove_disks(scene, j)
        assert len(places)
        y, x = np.indices(j.counts.shape)
        for place in places:
            disk = np.hypot(y - place[0], x - place[1]) < j.radius
            left = without.expected.pattern[disk]
            before = scene.expected.pattern[disk] - 1e-7  # of the background
            assert np.abs(left - 1e-7).sum() < 0.1 * before.sum()
        again = without.judged()
        gone = [np.linalg.norm(again.position - p, axis=1).argmin() for p in places]
        assert (again.label[gone] == 0).all()


def test_a_place_that_keeps_light_is_not_called_empty():
    """Every other disk has a halo, which taking it out leaves."""
    scene = make_scene(seed=4)
    whole = scene.judged()
    every_other = scene.positions()[1::2]
    image = scene.clean.pattern.copy()
    for place in every_other:
        halo = disk_image(image.shape, tuple(place), 1.6 * RADIUS, 0.5)
        image += 1e-5 * halo.astype(np.float32)
    clean = replace(scene.clean, pattern=image)
    glowing = replace(
        scene,
        clean=clean,
        expected=expect(clean, scene.artefacts),
        elastic=elastic_pattern(clean, scene.artefacts),
    )
    _, clean_places = remove_disks(scene, whole)
    without, places = remove_disks(glowing, whole)
    kept = [near(p[None], every_other, 0.5)[0] for p in clean_places]
    assert any(kept)
    assert not all(kept)
    np.testing.assert_array_equal(places, clean_places[~np.array(kept)])
    assert without.expected.pattern.shape == image.shape


def test_rate_of_removed_disks(scenes, judged):
    removed = []
    for scene, j in zip(scenes, judged, strict=True):
        without, places = remove_disks(scene, j)
        removed.append((without.judged(), places))
    number = sum(len(p) for _, p in removed)
    assert removed_rate(echo, removed) == (0, number)
    assert removed_rate(lambda j: detections(j.position), removed) == (number, number)


def test_strict_enough_for_a_share_of_the_removed_disks(judged):
    """Places 0, 1, 2, … are found with scores 0.5, 0.6, 0.7, …"""
    places = [j.position[1:6] for j in judged]
    start = np.cumsum([0, *map(len, places)])
    found = [
        replace(detections(p), score=0.5 + 0.1 * (k + np.arange(len(p))))
        for k, p in zip(start, places, strict=False)
    ]
    removed = list(zip(judged, places, strict=True))
    number = start[-1]
    scores = 0.5 + 0.1 * np.arange(number)
    for allowed in (0, 1, 3):
        value = strict_value(found, removed, "score", (allowed + 0.5) / number)
        assert (scores >= value).sum() == allowed
    nothing = [f.take(np.zeros(len(f.score), bool)) for f in found]
    assert strict_value(nothing, removed, "score", 0.0) == -np.inf
    assert strict_value([], [], "score", 0.0) == -np.inf
