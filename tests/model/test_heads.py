"""Peaks of maps that were made by hand."""

import keras
import numpy as np
import pytest
from fcunet_dask.kernels.aperture import disk_image
from fcunet_dask.model import compiled
from fcunet_dask.model.compiled import compiled_images, compiled_peaks
from fcunet_dask.model.heads import FIELDS, extract_peaks
from fcunet_dask.model.network import build_network
from tests.matched_filter import matched_filter


@pytest.fixture
def output():
    """Two maps of 9 × 11: three spots of the first, of which one is faint; none."""
    maps = np.zeros((2, 9, 11, 6), np.float32)
    for y, x, height in ((2, 3, 0.5), (6, 8, 0.9), (8, 0, 0.2), (4, 5, 0.04)):
        maps[0, y, x] = [height, 0.7 * height, 0.25, -0.4, -1.5, 0.6]
    maps[0, 6, 7, 0] = maps[0, 5, 8, 0] = 0.6
    return maps


def test_peaks_come_highest_first_with_all_that_is_known(output):
    found = np.asarray(extract_peaks(output, 5, 0.05))
    assert found.shape == (2, 5, len(FIELDS))
    expected = [
        [0.9, 6.25, 7.6, 0.63, -1.5, 0.6],
        [0.5, 2.25, 2.6, 0.35, -1.5, 0.6],
        [0.2, 8.25, -0.4, 0.14, -1.5, 0.6],
    ]
    np.testing.assert_allclose(found[0, :3], expected, rtol=1e-5)
    assert not found[0, 3:, 0].any()
    assert not found[1, :, 0].any()


def test_the_highest_are_kept(output):
    found = np.asarray(extract_peaks(output, 2, 0.05))
    np.testing.assert_allclose(found[0, :, 0], [0.9, 0.5])


def test_offsets_are_believed_up_to_a_pixel_and_a_half(output):
    output[0, 6, 8, 2:4] = 7, -9
    found = np.asarray(extract_peaks(output, 1, 0.05))
    np.testing.assert_allclose(found[0, 0, 1:3], [7.5, 6.5])


def test_a_network_without_likeness_has_none(output):
    found = np.asarray(extract_peaks(output[..., :5], 3, 0.05))
    assert np.isnan(found[..., 5]).all()
    np.testing.assert_allclose(found[0, 0, :5], [0.9, 6.25, 7.6, 0.63, -1.5], rtol=1e-5)


def test_batches_do_not_matter(monkeypatch):
    """Seven patterns, three at a time, are the same as one by one."""
    rng = np.random.default_rng(9)
    shape = (24, 32)
    monkeypatch.setattr(compiled, "_PIXELS", 3 * 24 * 32)
    probe = disk_image(shape, (12, 16), 3.0, 0.5)
    places = rng.uniform((5, 5), (19, 27), (7, 2))
    mean = 0.3 + 40 * np.array([disk_image(shape, tuple(p), 3.0, 0.5) for p in places])
    patterns = rng.poisson(mean).astype(np.uint16)
    mask = np.ones(shape)
    network = matched_filter()
    peaks = compiled_peaks(network, 3, 0.05)
    found = peaks(patterns, probe, mask)
    assert found.shape == (7, 3, len(FIELDS))
    for i in range(7):
        np.testing.assert_allclose(
            peaks(patterns[i : i + 1], probe, mask)[0], found[i], atol=1e-5
        )
    np.testing.assert_allclose(found[:, 0, 1:3], places, atol=0.8)
    np.testing.assert_allclose(found[..., 5], found[..., 0], atol=1e-5)  # likeness
    images = compiled_images(network)(patterns, probe, mask)
    assert images.shape == patterns.shape
    np.testing.assert_allclose(images.max(axis=(1, 2)), found[:, 0, 0] ** 2, rtol=1e-3)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="is TensorFlow's")
def test_patterns_of_many_shapes_are_no_retracing(caplog):
    """TensorFlow warns of it from the fifth call on; each shape is compiled once."""
    peaks = compiled_peaks(matched_filter(), 3, 0.05)
    for rows in range(24, 52, 4):
        ones = np.ones((rows, 24))
        assert peaks(ones[None], ones, ones).shape == (1, 3, len(FIELDS))
    assert "retracing" not in caplog.text


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_mirrored_look_sees_mirror_images_alike(mirrored):
    """Whatever the network: here one of random weights, and a probe that is no disk."""
    keras.utils.set_random_seed(3)
    rng = np.random.default_rng(20)
    network = build_network("fcunet", filters=[4], gates=[2])
    network.set_weights(
        [w + 0.1 * rng.normal(size=w.shape) for w in network.get_weights()]
    )
    peaks = compiled_peaks(network, 400, -1e9, mirrored=mirrored)
    shape = np.array((16, 24))
    pattern, probe, mask = (
        rng.poisson(3.0, (1, *shape)),
        np.zeros(shape),
        np.ones(shape),
    )
    probe[7:10, 11:14] = [[0, 0, 1], [1, 3, 2], [1, 2, 0]]
    mask[2, 5:9] = 0

    def flipped(*axes):
        there = peaks(
            np.flip(pattern, [1 + axis for axis in axes]),
            np.roll(np.flip(probe, axes), [1] * len(axes), axes),
            np.flip(mask, axes),
        )[0]
        for axis in axes:
            there[:, 1 + axis] = shape[axis] - 1 - there[:, 1 + axis]
        return there[np.lexsort(there[:, 1:3].T.round(2))]

    here = flipped()
    assert len(here) > 10
    for axes in ((0,), (1,), (0, 1)):
        assert np.allclose(here, flipped(*axes), atol=1e-4) == mirrored
