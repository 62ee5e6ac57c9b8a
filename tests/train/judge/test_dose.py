"""Where F1 falls to a level, and that more dose is never worse for a perfect eye."""

import numpy as np
import pytest
from fcunet_dask.model import TemplateMatching
from fcunet_dask.train.judge.dose import DOSES, cpu_milliseconds, dose_at, dose_series
from tests.train.judge.scenes import echo


def test_dose_is_interpolated_in_its_logarithm():
    assert dose_at([1e3, 1e4, 1e5], [0.6, 0.7, 0.9]) == pytest.approx(10**4.5)
    assert np.isnan(dose_at([1e3, 1e4], [0.9, 0.7]))
    assert dose_at([1e3, 1e4], [0.85, 0.9]) == 0
    # the fall nearest to the largest dose is the one that counts
    assert dose_at([1e2, 1e3, 1e4], [0.9, 0.7, 0.9]) == pytest.approx(10**3.5)
    # a dose at which nothing was to be found says nothing; null in a file
    assert dose_at([1e2, 1e3, 1e4], [None, 0.7, 0.9]) == pytest.approx(10**3.5)
    assert np.isnan(dose_at([1e2, 1e3], [None, None]))


def test_series_of_a_perfect_eye(scenes):
    series = dose_series(echo, scenes[:2])
    assert series["dose"] == list(DOSES)
    assert series["f1"] == [1.0] * len(DOSES)
    assert series["f1_of_brightest"][-1] == 1
    assert np.all(np.diff(series["f1_of_brightest"]) > -0.05)
    assert series["f1_of_brightest"][0] < 0.9


def test_cost_is_measured():
    def make(probe):
        return TemplateMatching(radius=probe.attrs["radius"])

    assert 0 < cpu_milliseconds(make, 64) < 1000
