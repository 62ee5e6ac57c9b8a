"""The image of the probe and its slopes."""

import numpy as np
import pytest
from fcunet_dask.kernels.aperture import (
    OFFSETS,
    cell_offsets,
    disk_image,
    edge_profile,
    image_table,
    normalized_aperture,
    round_table,
    smooth_modes,
    window_pixels,
)


def test_the_disk_has_the_area_and_place_of_a_disk():
    image = disk_image((60, 72), (28.3, 40.7), 9.0, 0.6)
    y, x = np.indices(image.shape)
    assert image.sum() == pytest.approx(np.pi * (9.0**2 + 0.6**2), rel=1e-3)
    centre = (image * y).sum() / image.sum(), (image * x).sum() / image.sum()
    assert centre == pytest.approx((28.3, 40.7), abs=1e-3)
    assert image[28, 40] == pytest.approx(1)


def test_the_window_is_round_and_symmetric():
    y, x = window_pixels(4)
    assert np.hypot(y, x).max() <= 4.5
    assert set(zip(y, x, strict=True)) == set(zip(-x, y, strict=True))


def shape_at(offset, radius, edge, half):
    y, x = window_pixels(half)
    return edge_profile(np.hypot(y - offset[0], x - offset[1]), radius, edge)


@pytest.mark.parametrize("make", ["round", "image"])
def test_slopes_are_derivatives_by_the_centre(make):
    half, radius, edge = 9, 5.0, 1.0
    table = round_table(radius, edge, half)
    if make == "image":
        image = disk_image((41, 45), (20.3, 21.9), radius, edge)
        table = image_table(image, (20.3, 21.9), half)
    for i, j in ((3, 5), (8, 8), (15, 0)):
        here = np.array([cell_offsets()[i], cell_offsets()[j]])
        truth = [shape_at(here, radius, edge, half)]
        for step in np.eye(2) * 1e-4:
            ahead, behind = (
                shape_at(here + s * step, radius, edge, half) for s in (1, -1)
            )
            truth.append((ahead - behind) / 2e-4)
        np.testing.assert_allclose(table[:, i * OFFSETS + j], truth, atol=0.015)


def test_a_measured_probe_loses_background_and_scale():
    image = 500 * disk_image((48, 52), (20.2, 30.4), 7.0, 0.5) + 30
    clean = normalized_aperture(image, (20.2, 30.4), 7.0)
    truth = disk_image((48, 52), (20.2, 30.4), 7.0, 0.5)
    np.testing.assert_allclose(clean, truth, atol=0.015)
    assert clean[0, 0] == 0


def test_modes_have_zero_mean_and_are_orthonormal_on_the_disk():
    y, x = window_pixels(12)
    modes, variances = smooth_modes(y, x, 9.0, 9)
    assert modes.shape == (10, len(y))
    inside = np.hypot(y, x) <= 1.15 * 9
    gram = modes[:, inside] @ modes[:, inside].T / inside.sum()
    np.testing.assert_allclose(gram, np.eye(10), atol=1e-3)
    assert (np.diff(variances) <= 1e-12).all()
    assert 0.5 < variances.sum() <= 1


@pytest.mark.parametrize("radius", [0.8, 1.0, 1.5])
def test_tiny_disks_have_fewer_modes(radius):
    y, x = window_pixels(3)
    modes, variances = smooth_modes(y, x, radius, 9)
    assert np.isfinite(modes).all()
    assert len(modes) == len(variances) + 1
