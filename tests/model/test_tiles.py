"""Windows over an image find all that is in it, where it is."""

import numpy as np
import pytest
from fcunet_dask.kernels.aperture import disk_image
from fcunet_dask.model.tiles import in_tiles

FIELDS = 6


def every_pixel(patterns, probe, mask):
    """Peaks of a network that sees each bright pixel, and its height; the rest is 0."""
    assert patterns.shape[1:] == probe.shape == mask.shape
    found = np.zeros((len(patterns), 64, FIELDS), np.float32)
    for row, image in zip(found, patterns * mask, strict=True):
        place = np.argwhere(image)
        row[: len(place), 0] = image[tuple(place.T)]
        row[: len(place), 1:3] = place
        row[: len(place), 3] = probe[tuple(place.T)]
    return found


@pytest.mark.parametrize(
    "shape", [(32, 32), (20, 27), (20, 80), (33, 56), (100, 131), (128, 64)]
)
def test_each_peak_is_found_where_it_is(shape):
    rng = np.random.default_rng(3)
    patterns = np.where(rng.random((3, *shape)) < 0.02, rng.uniform(1, 2, shape), 0)
    patterns[:, [0, -1], [0, -1]] = 1.5
    found = in_tiles(every_pixel, patterns, np.zeros(shape), np.ones(shape), 32)
    for image, peaks in zip(patterns, found, strict=True):
        seen, times = np.unique(peaks[peaks[:, 0] > 0], axis=0, return_counts=True)
        order = np.lexsort(seen[:, [2, 1]].T)
        place = np.argwhere(image)
        np.testing.assert_array_equal(seen[order, 1:3], place)
        np.testing.assert_allclose(seen[order, 0], image[tuple(place.T)], rtol=1e-6)
        assert times.mean() < 1.2  # twice where two windows meet


def test_a_peak_is_seen_from_as_deep_inside_as_can_be():
    """The window that answers for a pixel holds it well away from its borders."""
    shape, tile = (100, 131), 32
    depth = np.zeros(shape)

    def look(patterns, probe, mask):
        found = every_pixel(patterns, probe, mask)
        inner = np.minimum(found[..., 1:3], tile - 1 - found[..., 1:3]).min(axis=-1)
        found[..., 3] = inner
        return found

    for y, x in np.argwhere(np.ones(shape))[::37]:
        image = np.zeros((1, *shape))
        image[0, y, x] = 1
        found = in_tiles(look, image, np.zeros(shape), np.ones(shape), tile)[0]
        depth[y, x] = found[found[:, 0] > 0, 3].min()
        border = min(y, x, shape[0] - 1 - y, shape[1] - 1 - x)
        assert depth[y, x] >= min(border, tile // 8 - 1)


@pytest.mark.parametrize("shape", [(20, 27), (64, 33), (31, 90), (32, 32)])
@pytest.mark.parametrize("tile", [32, 48])
def test_the_middle_of_the_probe_stays_in_the_middle(shape, tile):
    probe = disk_image(shape, (shape[0] // 2, shape[1] // 2), 4.0, 0.5)
    seen = []

    def look(patterns, small, mask):
        seen.append(small)
        return every_pixel(patterns, small, mask)

    in_tiles(look, np.zeros((1, *shape)), probe, np.ones(shape), tile)
    expected = disk_image((tile, tile), (tile // 2, tile // 2), 4.0, 0.5)
    np.testing.assert_allclose(
        seen, np.broadcast_to(expected, np.shape(seen)), atol=1e-9
    )


def test_what_is_filled_up_does_not_measure():
    seen = []

    def look(patterns, probe, mask):
        seen.append(mask)
        return every_pixel(patterns, probe, mask)

    in_tiles(look, np.ones((1, 20, 27)) * 0, np.zeros((20, 27)), np.ones((20, 27)), 32)
    expected = np.zeros((32, 32))
    expected[:20, :27] = 1
    np.testing.assert_array_equal(seen[0], expected)


@pytest.mark.parametrize("error", [-0.3, 0.3])
def test_windows_that_disagree_on_a_position_lose_nothing(error):
    """No two windows give a disk the same fraction of a pixel."""
    shape, tile, sign = (32, 80), 32, []

    def look(patterns, probe, mask):
        sign.append((-1) ** len(sign))
        found = every_pixel(patterns, probe, mask)
        found[..., 2] += error * sign[-1]
        return found

    image = np.zeros((1, *shape))
    image[0, 16] = 1
    places = []
    for column in range(shape[1]):
        sign.clear()
        image[:] = 0
        image[0, 16, column] = 1
        found = in_tiles(look, image, np.zeros(shape), np.ones(shape), tile)[0]
        places.append((found[:, 0] > 0).sum())
    assert min(places) >= 1
