"""The probe is measured: its place, size and edge, and the radius of disks is found."""

import numpy as np
import pytest
from fcunet_dask.kernels.aperture import disk_image
from fcunet_dask.kernels.probe import measure_disk, search_radius
from hypothesis import given
from tests.strategies import lattice_patterns, quick, seeds


@quick
@given(seeds)
def test_a_disk_is_measured_to_its_error_bars(seed):
    rng = np.random.default_rng(seed)
    centre = tuple(rng.uniform((20, 24), (44, 56)))
    radius, edge = rng.uniform(3, 14), rng.uniform(0.4, 1.2)
    image = rng.poisson(1e4 * disk_image((64, 80), centre, radius, edge) + 20)
    found = measure_disk(image)
    assert found.center == pytest.approx(centre, abs=0.01)
    assert found.radius == pytest.approx(radius, abs=0.02)
    assert found.edge == pytest.approx(edge, abs=0.05)
    assert found.likeness > 0.99


def test_the_errors_of_a_disk_are_as_large_as_they_are_said_to_be():
    rng = np.random.default_rng(3)
    z = []
    for _ in range(60):
        centre = tuple(rng.uniform((20, 24), (44, 56)))
        radius, edge = rng.uniform(3, 14), rng.uniform(0.4, 1.2)
        image = rng.poisson(1e4 * disk_image((64, 80), centre, radius, edge) + 20)
        found = measure_disk(image)
        z.append(
            [
                (found.center[0] - centre[0]) / found.center_std,
                (found.radius - radius) / found.radius_std,
                (found.edge - edge) / found.edge_std,
            ]
        )
    assert np.sqrt(np.mean(np.square(z), axis=0)) == pytest.approx(1, abs=0.25)


def test_a_large_disk_and_a_sharp_spot():
    large = measure_disk(1e3 * disk_image((512, 480), (250.3, 244.7), 60.0, 0.6))
    assert large.radius == pytest.approx(60, abs=0.02)
    spot = measure_disk(1e5 * disk_image((64, 64), (30.3, 31.6), 1.8, 0.5))
    assert spot.center == pytest.approx((30.3, 31.6), abs=0.02)
    assert spot.radius == pytest.approx(1.8, abs=0.1)


def test_hot_pixels_and_a_beam_stop_do_not_count():
    rng = np.random.default_rng(1)
    image = rng.poisson(500 * disk_image((64, 72), (30.4, 35.8), 8.0, 0.5)).astype(
        float
    )
    image[5, 60] = 1e7
    image[20, 20] = np.nan
    mask = np.ones(image.shape, bool)
    mask[32:36, :30] = False
    image[~mask] = 0
    found = measure_disk(image, mask)
    assert found.center == pytest.approx((30.4, 35.8), abs=0.05)
    assert found.radius == pytest.approx(8, abs=0.05)


def test_a_bullseye_is_not_like_a_plain_disk():
    y, x = np.indices((80, 80))
    r = np.hypot(y - 40.2, x - 39.7)
    rings = (0.5 + 0.5 * np.cos(2 * np.pi * r / 5)) * disk_image(
        (80, 80), (40.2, 39.7), 14.0, 0.6
    )
    found = measure_disk(1e4 * rings)
    assert found.likeness < 0.97
    assert found.center == pytest.approx((40.2, 39.7), abs=0.1)


@pytest.mark.parametrize("image", [np.zeros((32, 32)), np.full((32, 32), np.nan)])
def test_no_counts_are_no_disk(image):
    assert np.isnan(measure_disk(image).radius)


@pytest.mark.parametrize(
    ("radius", "shape"),
    [
        (1.8, (64, 72)),
        (3.0, (96, 80)),
        (5.0, (128, 128)),
        (8.0, (128, 160)),
        (21.0, (256, 256)),
    ],
)
def test_the_radius_of_the_disks_of_a_scan(radius, shape):
    patterns, _, _ = lattice_patterns(np.random.default_rng(2), radius, shape)
    found = search_radius(patterns, np.ones(shape, bool))
    assert found == pytest.approx(radius, abs=max(0.12 * radius, 0.4))


def test_the_radius_in_the_presence_of_bad_pixels():
    patterns, _, _ = lattice_patterns(np.random.default_rng(3), 4.0, (96, 96))
    patterns = patterns.astype(float)
    mask = np.ones((96, 96), bool)
    mask[10, 20] = mask[50, 50] = False
    patterns[:, 10, 20] = np.nan
    patterns[:, 50, 50] = 6e4
    assert search_radius(patterns, mask) == pytest.approx(4, rel=0.12)


def test_noise_has_no_radius():
    rng = np.random.default_rng(4)
    for mean in (0.0, 0.3, 20.0):
        patterns = rng.poisson(mean, (9, 96, 96))
        assert np.isnan(search_radius(patterns, np.ones((96, 96), bool)))
