"""Bad pixels are told from sharp edges."""

import numpy as np
import pytest
from fcunet_dask.kernels.aperture import disk_image
from fcunet_dask.kernels.masks import find_bad_pixels


def patterns(rng, n=12, level=40.0):
    images = [
        level * disk_image((40, 48), (20 + dy, 24 + dx), 6.0, 0.3) + 0.2
        for dy, dx in rng.uniform(-0.5, 0.5, (n, 2))
    ]
    return rng.poisson(images).astype(np.uint16)


def test_good_pixels_are_good_beside_bright_disks():
    for seed in range(20):
        assert not find_bad_pixels(patterns(np.random.default_rng(seed))).any()


def test_dark_pixels_at_the_foot_of_a_disk_are_good():
    rng = np.random.default_rng(1)
    sharp = 300.0 * (disk_image((40, 48), (20, 24), 6.0, 0.05) > 0.5)
    counts = rng.poisson(sharp, (20, 40, 48))
    assert not find_bad_pixels(counts).any()


def test_hot_pixels_are_found_wherever_they_are():
    counts = patterns(np.random.default_rng(2))
    hot = [(0, 0), (3, 40), (20, 24), (39, 47)]
    for y, x in hot:
        counts[:, y, x] = 60_000
    assert {tuple(p) for p in np.argwhere(find_bad_pixels(counts))} == set(hot)


def test_the_unit_of_the_counts_does_not_matter():
    rng = np.random.default_rng(5)
    sharp = patterns(rng, level=3.0).astype(float)
    sharp[:, 3, 40] = 60.0
    for gain in (1e-3, 150.0):
        found = find_bad_pixels(gain * sharp, gain)
        assert np.argwhere(found).tolist() == [[3, 40]]
    assert find_bad_pixels(150.0 * sharp).sum() > 5


def test_a_pixel_that_is_hot_once_is_not_bad():
    counts = patterns(np.random.default_rng(3))
    counts[4, 10, 10] = 60_000
    assert not find_bad_pixels(counts).any()


def test_dead_pixels_are_found_in_the_light():
    counts = patterns(np.random.default_rng(4))
    counts[:, 20, 25] = 0
    counts[:, 2, 2] = 0
    assert np.argwhere(find_bad_pixels(counts)).tolist() == [[20, 25]]


def test_pixels_without_numbers_are_bad():
    counts = patterns(np.random.default_rng(5)).astype(np.float32)
    counts[:, 20, 25] = np.nan
    counts[:, 5, 6] = np.inf
    counts[2, 8, 8] = np.nan  # once only
    assert np.argwhere(find_bad_pixels(counts)).tolist() == [[5, 6], [20, 25]]


def test_bytes_cannot_overflow():
    counts = np.full((3, 9, 9), 255, np.uint8)
    assert not find_bad_pixels(counts).any()


def framed(rng, level, width):
    """Diffuse patterns in a dark frame that fades over two lines; none at the right."""
    y, x = np.indices((96, 96))
    smooth = level * (0.3 + np.exp(-np.hypot(y - 48, x - 48) / 20))
    counts = rng.poisson(smooth, (4, 96, 96)).astype(float)
    for image in (counts, counts.swapaxes(1, 2)):
        for i, share in enumerate([*width * [0.0], 0.01, 0.4]):
            image[:, i] *= share
    counts[:, -width:] = 0
    return counts


@pytest.mark.parametrize("width", [1, 2, 4])
@pytest.mark.parametrize("gain", [1.0, 1e-4])
def test_a_dark_frame_does_not_measure(width, gain):
    counts = gain * framed(np.random.default_rng(6), 100.0, width)
    expected = np.zeros((96, 96), bool)
    expected[: width + 3] = expected[:, : width + 3] = expected[-width - 1 :] = True
    np.testing.assert_array_equal(find_bad_pixels(counts, gain), expected)


@pytest.mark.parametrize("level", [0.05, 1.0, 1e4])
def test_a_background_that_falls_off_is_no_frame(level):
    rng = np.random.default_rng(7)
    y, x = np.indices((96, 96))
    smooth = level * np.exp(-np.hypot(y - 48, x - 48) / 12)
    assert not find_bad_pixels(rng.poisson(smooth, (16, 96, 96))).any()


@pytest.mark.parametrize(("rows", "columns", "radius"), [(12, 14, 4), (18, 18, 6)])
def test_an_empty_margin_before_a_row_of_disks_is_no_frame(rows, columns, radius):
    y, x = (np.arange(a, 112 - radius - 1, a) for a in (rows, columns))
    expected = 0.05 + sum(
        100 * disk_image((112, 112), (i, j), radius, 0.6) for i in y for j in x
    )
    counts = np.random.default_rng(9).poisson(expected, (9, 112, 112))
    assert not find_bad_pixels(counts).any()
