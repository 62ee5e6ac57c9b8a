"""Targets, pixel by pixel."""

import numpy as np
import pytest
from fcunet_dask.simulate.visibility import Visibility
from fcunet_dask.train.targets import REACH, SIGMA, render_target

SHAPE = (20, 28)


def by_hand(positions, labels, strength, radius):
    """Every pixel asks every disk."""
    target = np.zeros((*SHAPE, 6))
    for y, x in np.ndindex(SHAPE):
        asked, best = 1.0, None
        for (py, px), label, value in zip(positions, labels, strength, strict=True):
            distance = np.hypot(py - y, px - x)
            if label == Visibility.FAINT and distance < max(1.5, radius / 2):
                asked = 0.0
            if label == Visibility.VISIBLE and (best is None or distance < best[0]):
                best = distance, py - y, px - x, value
        if best is not None:
            distance, dy, dx, value = best
            heat = np.exp(-(distance**2) / (2 * SIGMA**2)) * (distance <= 4 * SIGMA)
            target[y, x, :2] = heat, heat * np.sqrt(value)
            if distance < REACH:
                target[y, x, 2:4] = dy, dx
                target[y, x, 5] = 1
            if distance < 2 * SIGMA:
                asked = 1.0
        target[y, x, 4] = asked
    return target


@pytest.mark.parametrize("radius", [2.0, 4.5])
@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_a_loop(radius, seed):
    rng = np.random.default_rng(seed)
    positions = rng.uniform((-3, -3), (22, 30), (9, 2))
    labels = rng.integers(0, 3, 9)
    strength = rng.uniform(0, 1, 9)
    found = render_target(positions, labels, strength, SHAPE, radius)
    assert found.dtype == np.float32
    np.testing.assert_allclose(
        found, by_hand(positions, labels, strength, radius), atol=2e-5
    )


def test_offsets_point_to_the_disk_and_the_spot_is_of_unit_height():
    target = render_target(
        np.array([[10.0, 7.25]]), np.array([2]), np.array([0.25]), SHAPE, 3.0
    )
    top = np.unravel_index(target[..., 0].argmax(), SHAPE)
    assert top == (10, 7)
    np.testing.assert_allclose(target[top][2:4], [0, 0.25], atol=1e-6)
    assert target[top][1] == pytest.approx(0.5 * target[top][0])
    whole = render_target(
        np.array([[10.0, 7.0]]), np.array([2]), np.array([1.0]), SHAPE, 3.0
    )
    assert whole[10, 7, 0] == 1


def test_no_disk_asks_for_nothing_everywhere():
    target = render_target(np.empty((0, 2)), np.empty(0, int), np.empty(0), SHAPE, 3.0)
    assert (target[..., 4] == 1).all()
    assert not target[..., [0, 1, 2, 3, 5]].any()


def test_places_of_disks_taken_out_count_three_times_as_much_as_disks():
    """The weight of a pixel is asked · (1 + 10 heat): 1 + 10 in the middle of a disk."""
    disk, gone = np.array([[10.0, 7.0]]), np.array([[10.0, 20.0], [-50.0, 3.0]])
    target = render_target(disk, np.array([2]), np.ones(1), SHAPE, 3.0, gone)
    weight = target[..., 4] * (1 + 10 * target[..., 0])
    emptied, lit = weight[5:16, 15:26] - 1, weight[5:16, 2:13] - 1
    np.testing.assert_allclose(emptied, 3 * lit, atol=1e-4)
    assert weight[10, 20] == pytest.approx(31)
    assert not target[:, 15:26, [0, 1, 2, 3, 5]].any()
    doubtful = render_target(gone, np.array([1, 0]), np.ones(2), SHAPE, 3.0, gone)
    assert doubtful[10, 20, 4] == 0


def test_positions_that_are_no_numbers_are_left_out():
    positions = np.array([[np.nan, np.nan], [10, 10]])
    one = render_target(positions, np.array([2, 2]), np.ones(2), SHAPE, 3.0)
    two = render_target(positions[1:], np.array([2]), np.ones(1), SHAPE, 3.0)
    np.testing.assert_array_equal(one, two)
