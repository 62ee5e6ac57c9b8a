"""Scores of detectors that are perfect, useless, or right in a known share."""

import numpy as np
import pytest
from fcunet_dask.train.judge.contender import tune
from fcunet_dask.train.judge.detection import (
    GROUPS,
    Tally,
    Threshold,
    bins,
    by_group,
    curve,
    tally,
    total,
)
from tests.train.judge.scenes import detections, echo


def test_rates():
    one = Tally(hits=6, false=2, missed=4)
    assert one.precision == 0.75
    assert one.recall == 0.6
    assert one.f1 == pytest.approx(2 * 0.75 * 0.6 / 1.35)
    assert (one + one).hits == 12
    assert np.isnan(Tally().f1)


def test_a_perfect_detector(judged):
    found = [echo(j) for j in judged]
    assert total([tally(f, j) for f, j in zip(found, judged, strict=True)]).f1 == 1
    scored = curve(found, judged)
    assert scored.average_precision == pytest.approx(1)
    assert scored.best()[1] == pytest.approx(1)


def test_a_random_detector_is_worth_little(judged):
    rng = np.random.default_rng(1)
    found = [detections(rng.uniform(0, 128, (60, 2)), rng.random(60)) for _ in judged]
    assert total([tally(f, j) for f, j in zip(found, judged, strict=True)]).f1 < 0.25
    assert curve(found, judged).average_precision < 0.1


def test_the_threshold_that_separates_right_from_wrong_is_found(judged):
    found = []
    for j in judged:
        right = echo(j).position
        wrong = np.random.default_rng(2).uniform(10, 118, (30, 2))
        score = np.r_[np.full(len(right), 0.8), np.full(len(wrong), 0.3)]
        found.append(detections(np.r_[right, wrong], score))
    threshold = tune(found, judged)
    assert threshold.ranking == "score"
    assert 0.3 < threshold.value <= 0.8
    kept = [threshold(f) for f in found]
    assert total([tally(f, j) for f, j in zip(kept, judged, strict=True)]).f1 == 1
    assert not len(Threshold("score", 0.9)(found[0]).position)


def test_average_precision_of_a_known_ranking(judged):
    j = judged[0]
    places = j.position[j.label == 2]
    half = len(places) // 2
    # half of the disks first, then as many false ones as there are right ones
    wrong = np.random.default_rng(3).uniform(10, 118, (2000, 2))
    far = np.linalg.norm(wrong[:, None] - j.position, axis=-1).min(1) > j.tolerance + 1
    found = detections(
        np.r_[places[:half], wrong[far][:50]], np.r_[np.ones(half), np.zeros(50)]
    )
    assert curve([found], [j]).average_precision == pytest.approx(half / len(places))


def test_groups(judged):
    tallies = [Tally(i, 1, 2) for i in range(len(judged))]
    tables = by_group(tallies, judged)
    assert set(tables) == set(GROUPS)
    for table in tables.values():
        assert total(list(table.values())) == total(tallies)
    assert [GROUPS["thickness"](j) for j in judged] == [
        "< 15 nm",
        "15 – 35 nm",
        "35 – 55 nm",
        "≥ 55 nm",
    ]
    assert bins("dose", (1e7,))(judged[0]) == "< 1e+07"
