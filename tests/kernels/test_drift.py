"""Beams are followed from pattern to pattern."""

import numpy as np
import pytest
from fcunet_dask.kernels.drift import (
    common_step,
    drift_coefficients,
    median_plane,
    most_common,
)
from fcunet_dask.kernels.surfaces import surface_at


@pytest.mark.parametrize("number", [1, 2, 5, 6])
def test_the_step_of_most_disks(number):
    rng = np.random.default_rng(number)
    first = 10.0 * rng.permutation(8)[:number, None] + rng.uniform(-1, 1, (number, 2))
    second = rng.permutation(first + np.array([0.7, -0.4]))
    second[: (number - 1) // 2] += 30.0  # others take their place
    empty = np.full((1, 2), np.nan)
    pairs = [np.concatenate([d, empty])[None] for d in (first, second)]
    np.testing.assert_allclose(common_step(*pairs, 3.0), [[0.7, -0.4]], atol=1e-12)


def test_no_disk_is_found_again():
    first, second = np.zeros((1, 2, 2)), np.full((1, 2, 2), 5.0)
    assert np.isnan(common_step(first, second, 3.0)).all()
    assert np.isnan(common_step(first, second * np.nan, 3.0)).all()


@pytest.mark.parametrize(("kind", "terms"), [("plane", 3), ("parabola", 6)])
def test_the_surface_of_a_lattice_that_moves(kind, terms):
    rng = np.random.default_rng(terms)
    truth = rng.uniform(-2, 2, (terms, 2))
    y, x = np.arange(0, 40, 2), np.arange(0, 30, 3)
    lattice = 4.0 * np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1]), -1).reshape(-1, 2)
    moved = surface_at(truth, y[:, None], x, (39, 29))
    disks = moved[:, :, None] + lattice
    found = drift_coefficients(disks, (y, x), (39, 29), kind, reach=2.0)
    np.testing.assert_allclose(found[1:], truth[1:], atol=1e-6)
    assert (found[0] == 0).all()


def test_the_plane_of_usual_steps():
    y, x = np.arange(0, 12, 2), np.arange(0, 9)
    position = y[:, None, None] * [0.5, -1.0] + x[:, None] * [2.0, 0.3]
    position[2, 3], position[4, 4] = np.nan, 50.0
    plane = median_plane(position, (y, x), (11, 8))
    surface = surface_at(plane, y[:, None], x, (11, 8))
    away = position - surface
    np.testing.assert_allclose(away[0, 0], away[-1, -1], atol=1e-12)


def test_the_place_of_most():
    rng = np.random.default_rng(0)
    crowd, others = rng.normal(3.0, 0.01, (400, 2)), rng.uniform(-50, 50, (600, 2))
    place, number = most_common(np.concatenate([others, crowd]), 0.5)
    np.testing.assert_allclose(place, 3.0, atol=0.01)
    assert 400 <= number < 420
