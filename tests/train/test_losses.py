"""The loss, number by number."""

import keras
import numpy as np
import pytest
from fcunet_dask.train.losses import disk_loss


@pytest.fixture
def case():
    rng = np.random.default_rng(12)
    target = rng.random((3, 5, 6, 6)).astype(np.float32)
    target[..., 4:] = rng.random((3, 5, 6, 2)) < 0.5
    target[2, ..., 5] = 0
    output = rng.normal(0, 2, (3, 5, 6, 5)).astype(np.float32)
    return target, output


def by_hand(target, output):
    """Pixel by pixel."""
    losses = []
    for t, o in zip(target.astype(float), output.astype(float), strict=True):
        images, disks, near = 0.0, 0.0, 0.0
        for at in np.ndindex(t.shape[:2]):
            heat, structure, dy, dx, asked, close = t[at]
            wrong = (o[at][1] - structure) ** 2
            images += asked * (1 + 10 * heat) * ((o[at][0] - heat) ** 2 + wrong)
            log = min(max(o[at][4], -4), 1.5)
            miss = (o[at][2] - dy) ** 2 + (o[at][3] - dx) ** 2
            surprise = miss / (2 * np.exp(log) ** 2) + 2 * log
            disks += asked * close * (0.5 * wrong + 0.15 * np.exp(log) * surprise)
            near += asked * close
        losses.append(images / t[..., 0].size + disks / (near + 1))
    return losses


def test_agrees_with_a_loop(case):
    np.testing.assert_allclose(disk_loss(*case), by_hand(*case), rtol=1e-5)


def test_pixels_of_which_nothing_is_asked_do_not_matter(case):
    """Whatever the network says there: so their gradient is zero."""
    target, output = case
    other = np.where(target[..., 4:5] == 0, 1e3 - output, output)
    np.testing.assert_array_equal(disk_loss(target, other), disk_loss(target, output))
    near = (target[..., 5:] == 0) & (np.arange(5) >= 2)
    other = np.where(near, 1e3 - output, output)
    np.testing.assert_array_equal(disk_loss(target, other), disk_loss(target, output))


def test_who_cannot_know_a_position_learns_how_far_off_it_is():
    """Disks 0.5 px away on either side: offset 0, σ² = |error|²/2 of one coordinate."""
    target = np.zeros((2, 1, 1, 6), np.float32)
    target[..., 4:] = 1
    target[:, 0, 0, 2:4] = [(0.3, -0.4), (-0.3, 0.4)]
    network = keras.Sequential([keras.Input((1, 1, 1)), keras.layers.Conv2D(5, 1)])
    network.compile(keras.optimizers.Adam(0.03), loss=disk_loss)
    for _ in range(300):
        network.train_on_batch(np.zeros((2, 1, 1, 1)), target)
    bias = np.asarray(network.layers[0].bias)
    np.testing.assert_allclose(bias[2:4], 0, atol=0.01)
    assert np.exp(bias[4]) == pytest.approx(0.5 / np.sqrt(2), rel=0.02)
