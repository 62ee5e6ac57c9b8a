"""One disk that is marked twice is told from two disks."""

import numpy as np
import pytest
from fcunet_dask.kernels.doubles import seen_twice
from hypothesis import given, settings
from hypothesis import strategies as st

RADIUS = 5.0


def twice(mark, outline, odds, disk=None, image=None):
    mark, outline = np.array(mark, float), np.array(outline, float)
    image = np.zeros(len(mark), int) if image is None else np.array(image)
    disk = mark if disk is None else np.array(disk, float)
    return seen_twice(image, mark, outline, disk, np.array(odds, float), RADIUS)


def test_a_mark_whose_fit_walks_over_to_a_likelier_one_is_that_one():
    found = twice([[20, 20], [20, 27]], [[20, 20.1], [20, 20.5]], [0.9, 0.6])
    np.testing.assert_array_equal(found, [False, True])


def test_it_is_the_less_likely_that_goes_whatever_their_order():
    found = twice([[20, 27], [20, 20]], [[20, 20.5], [20, 20.1]], [0.6, 0.9])
    np.testing.assert_array_equal(found, [True, False])


@pytest.mark.parametrize("ends", [26.8, 30.0, np.nan])
def test_an_outline_of_its_own_or_none_is_no_reason(ends):
    found = twice([[20, 20], [20, 27]], [[20, 20], [20, ends]], [0.9, 0.6])
    assert not found.any()


def test_the_likelier_one_stays_where_its_fit_walks_to_the_other():
    found = twice([[20, 20], [20, 27]], [[20, 26.9], [20, 27]], [0.9, 0.6])
    assert not found.any()


def test_disks_of_other_patterns_and_far_ones_are_others():
    marks, ends = [[20, 20], [20, 27]], [[20, 20], [20, 20]]
    assert not twice(marks, ends, [0.9, 0.6], image=[0, 1]).any()
    assert not twice([[20, 20], [20, 29]], ends, [0.9, 0.6]).any()


def test_nothing_is_nothing():
    assert twice(np.zeros((0, 2)), np.zeros((0, 2)), []).shape == (0,)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_it_is_what_all_pairs_say(seed, m):
    """Brute force over all pairs; the number of patterns does not matter."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 3, m)
    mark = rng.uniform(0, 40, (m, 2))
    disk = mark + rng.normal(0, 0.5, (m, 2))
    outline = mark + rng.normal(0, 4, (m, 2))
    outline[rng.random(m) < 0.2] = np.nan
    odds = rng.permutation(m) / m
    expected = np.zeros(m, bool)
    for i in range(m):
        for j in range(m):
            beside = np.hypot(*(mark[i] - mark[j])) <= 1.55 * RADIUS
            over = np.hypot(*(outline[i] - disk[j])) < 0.75 * RADIUS
            likelier = odds[i] < odds[j] and image[i] == image[j]
            expected[i] |= likelier and beside and over
    found = seen_twice(image, mark, outline, disk, odds, RADIUS)
    np.testing.assert_array_equal(found, expected)
