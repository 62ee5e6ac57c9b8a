"""One-to-one matching, against cases that can be counted by hand."""

from dataclasses import replace

import numpy as np
from fcunet_dask.train.judge.match import find, match, near, pairs
from tests.train.judge.scenes import detections


def hand_made(judged, position, label):
    return replace(judged, position=np.array(position, float), label=np.array(label))


def test_pairs_are_one_to_one_and_as_many_as_possible():
    # the nearest pair (0.0, 0.9) would leave the other two apart by more than 2
    first = np.array([[0.0, 0.0], [0.0, 1.9]])
    second = np.array([[0.0, 0.9], [0.0, -1.5]])
    rows, columns = pairs(first, second, 2.0)
    assert dict(zip(rows.tolist(), columns.tolist(), strict=True)) == {0: 1, 1: 0}


def test_beyond_the_tolerance_is_no_pair():
    rows, _ = pairs(np.zeros((1, 2)), np.array([[0.0, 2.01]]), 2.0)
    assert len(rows) == 0
    assert len(pairs(np.zeros((0, 2)), np.zeros((3, 2)), 2.0)[0]) == 0


def test_a_second_detection_of_a_disk_is_false(judged):
    one = hand_made(judged[0], [[40, 40]], [2])
    matched = match(np.array([[40.0, 40.2], [40.0, 41.0]]), one)
    assert matched.found.tolist() == [0]
    assert matched.false.tolist() == [1]
    assert matched.missed.tolist() == []


def test_detections_of_doubtful_disks_and_at_the_border_count_for_nothing(judged):
    one = hand_made(judged[0], [[40, 40], [60, 60], [80, 80]], [2, 1, 0])
    matched = match(np.array([[60.0, 60.5], [2.0, 70.0], [80.0, 80.0]]), one)
    assert len(matched.found) == 0
    assert matched.false.tolist() == [2]
    assert matched.missed.tolist() == [0]


def test_near():
    assert near(np.array([[0.0, 0], [5, 5]]), np.array([[0.0, 1]]), 1.5).tolist() == [
        True,
        False,
    ]


def test_detections_of_a_detector_are_those_that_it_filled_in(judged):
    class OneDisk:
        max_peaks = 3

        def __call__(self, patterns):
            from fcunet_dask.model import Peaks  # noqa: PLC0415

            peaks = Peaks.empty(len(patterns), 3)
            peaks.position[:, 0] = (7, 8)
            peaks.score[:, 0] = 0.5
            return peaks

    found = find(OneDisk(), judged[0].counts)
    assert found.position.tolist() == [[7, 8]]
    assert found.score.tolist() == [0.5]
    assert len(found.take(found.score > 0.6).position) == 0
    assert len(detections([[1, 2]]).position) == 1
