"""Structure-factor correlation of detectors that know it, guess it, or invert it."""

from dataclasses import replace

import numpy as np
import pytest
from fcunet_dask.train.judge.detection import GROUPS
from fcunet_dask.train.judge.structure import by_thickness, correlations
from tests.train.judge.scenes import echo


def test_one_that_knows_it(judged):
    figures = correlations(echo(judged[0]), judged[0])
    assert figures["rank"] == pytest.approx(1)
    assert figures["linear"] == pytest.approx(1)


def test_without_one_the_root_of_the_intensity_is_taken(judged):
    found = echo(judged[0])
    unknown = np.full(len(found.score), np.nan)
    figures = correlations(replace(found, structure_factor=unknown), judged[0])
    # flux ∝ |V|² in these patterns
    assert figures["rank"] > 0.98
    assert figures["linear"] > 0.98


def test_an_inverted_one(judged):
    found = echo(judged[0])
    inverted = replace(found, structure_factor=-found.structure_factor)
    assert correlations(inverted, judged[0])["rank"] == pytest.approx(-1)


def test_too_few_disks_are_not_counted(judged):
    few = echo(judged[0]).take(np.arange(5))
    assert np.isnan(correlations(few, judged[0])["rank"])
    table = by_thickness([few], judged[:1], GROUPS["thickness"])
    assert table["all"] == {"patterns": 0}


def test_groups_by_thickness(judged):
    found = [echo(j) for j in judged]
    table = by_thickness(found, judged, GROUPS["thickness"])
    assert table["all"]["patterns"] == 4
    assert table["≤ 50 nm"]["patterns"] == 3
    assert table["≥ 55 nm"]["patterns"] == 1
