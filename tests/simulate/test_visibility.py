"""Flux and visibility of reflections, against patterns whose disks are known."""

import numpy as np
import pytest
from fcunet_dask.kernels.aperture import disk_image
from fcunet_dask.simulate.artefacts import Artefacts, Clean
from fcunet_dask.simulate.visibility import (
    Visibility,
    disk_significance,
    elastic_pattern,
    frame_distance,
    visible_disks,
)

SHAPE = (160, 160)


def pattern(positions, flux, radius, background=0.0):
    image = np.full(SHAPE, float(background))
    for place, electrons in zip(positions, flux, strict=True):
        disk = disk_image(SHAPE, tuple(place), radius, 0.5)
        image += electrons * disk / disk.sum()
    return image


def lattice(spacing, radius):
    steps = np.arange(-12, 13)
    grid = np.stack(np.meshgrid(steps, steps), -1).reshape(-1, 2)
    places = 80.3 + grid @ np.array(
        [[spacing, 0.2 * spacing], [-0.1 * spacing, spacing]]
    )
    return places[frame_distance(places, SHAPE) > radius + 1]


@pytest.mark.parametrize(("radius", "spacing"), [(3.0, 9.0), (5.0, 14.0), (8.0, 18.0)])
def test_flux_of_apart_and_of_overlapping_disks_is_what_was_put_in(radius, spacing):
    rng = np.random.default_rng(1)
    places = lattice(spacing, radius)
    flux = 10 ** rng.uniform(2, 4, len(places))
    image = pattern(places, flux, radius, background=2)

    significance, found = disk_significance(image, places, radius, 0.5)

    strong = flux > 1000
    np.testing.assert_allclose(found[strong], flux[strong], rtol=0.15)
    counts = flux + 2 * np.pi * radius**2
    ratio = significance[strong] / (flux / np.sqrt(counts))[strong]
    assert 0.9 < np.median(ratio) < 1.05


def test_smooth_background_is_no_flux():
    y, x = np.mgrid[:160, :160] - 80
    image = 5 + 300 * np.exp(-np.hypot(y, x) / 25)
    places = np.random.default_rng(2).uniform(10, 150, (40, 2))
    off = np.linalg.norm(places - 80, axis=1) > 15  # the tip is not smooth

    significance, _ = disk_significance(image, places, 4.0, 0.5)

    assert significance[off].max() < 1.5


def test_light_is_not_counted_for_an_empty_neighbour():
    places = np.array([[80.0, 80.0], [80.0, 86.0], [80.0, 92.5]])
    image = pattern(places, [1e4, 0, 1e3], 5.0, background=1)

    _, flux = disk_significance(image, places, 5.0, 0.5)

    assert flux[1] < 100
    np.testing.assert_allclose(flux[[0, 2]], [1e4, 1e3], rtol=0.1)


def test_disks_on_each_other_share_as_their_strengths_say():
    places = np.array([[80.0, 80.0], [80.0, 80.3]])
    image = pattern(places[:1], [1e4], 5.0)

    _, even = disk_significance(image, places, 5.0, 0.5)
    _, uneven = disk_significance(image, places, 5.0, 0.5, np.array([1.0, 0.01]))

    assert even[1] > 0.05 * even[0]
    assert uneven[1] < 0.02 * uneven[0]


def test_labels():
    places = np.array(
        [[40, 40], [40, 80], [40, 120], [120, 40], [120, 43], [1, 80], [-9, 80]], float
    )
    area = np.pi * 4.0**2
    sigma = np.sqrt(10 * area)
    flux = np.array([6 * sigma, 2.5 * sigma, 0, 1e4, 3e3, 1e4, 1e4])
    image = pattern(places, flux, 4.0, background=10)

    label = visible_disks(image, places, 4.0, 0.5)

    assert label.tolist() == [
        Visibility.VISIBLE,
        Visibility.FAINT,
        Visibility.ABSENT,
        Visibility.VISIBLE,
        Visibility.FAINT,  # closer than a radius to a stronger one
        Visibility.FAINT,  # cut by the frame
        Visibility.ABSENT,  # outside
    ]


def test_no_reflection_at_all():
    nothing = np.full((3, 2), np.nan)
    assert visible_disks(np.ones(SHAPE), nothing, 4.0, 0.5).tolist() == [0, 0, 0]
    assert len(visible_disks(np.ones(SHAPE), np.empty((0, 2)), 4.0, 0.5)) == 0


def test_more_dose_shows_more():
    places = lattice(14.0, 5.0)
    flux = np.geomspace(1, 100, len(places))
    image = pattern(places, flux, 5.0, background=0.5)
    counts = [
        (visible_disks(image * dose, places, 5.0, 0.5) == Visibility.VISIBLE).sum()
        for dose in (0.1, 1, 10)
    ]
    assert counts[0] < counts[1] < counts[2]


def test_what_is_in_disks_is_what_was_not_scattered_elsewhere():
    """Half the frame is wide enough to hold what is scattered out of the disks."""
    middle = np.array(SHAPE) // 2
    places = middle + np.array([(0, 0), (20, -12)])
    image = pattern(places, (0.8, 0.2), 5.0)
    probe = pattern([middle], (1.0,), 5.0)
    clean = Clean(image, probe, np.array([[0, 0], [0.4, -0.24]]), np.ones(2), 0.02)
    np.testing.assert_allclose(elastic_pattern(clean, Artefacts()), image, atol=1e-9)
    lossy = Artefacts(loss=0.3, loss_width=0.05, amorphous=0.25)
    np.testing.assert_allclose(
        elastic_pattern(clean, lossy), 0.7 * 0.75 * image, atol=1e-9
    )
