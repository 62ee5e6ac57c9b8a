"""Empty places and removed disks: a detector that completes lattices is found out."""

import numpy as np
from fcunet_dask.train.judge.completion import (
    empty_places,
    false_rate,
    remove_disks,
    removed_rate,
)
from tests.train.judge.scenes import detections, echo


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


def test_rate_of_removed_disks(scenes, judged):
    removed = []
    for scene, j in zip(scenes, judged, strict=True):
        without, places = remove_disks(scene, j)
        removed.append((without.judged(), places))
    number = sum(len(p) for _, p in removed)
    assert removed_rate(echo, removed) == (0, number)
    assert removed_rate(lambda j: detections(j.position), removed) == (number, number)
