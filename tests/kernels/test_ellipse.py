"""Rings become round again; the direction of the distortion is not mistaken."""

import numpy as np
import pytest
from fcunet_dask.errors import AnalysisError
from fcunet_dask.kernels.ellipse import ring_transform

RADII = np.array([14.0, 19.8, 28.0, 33.0])


def rings(stretch, scale=1.0, shape=(129, 149)):
    """Image of rings that were circles of RADII before `stretch` (y, x)."""
    y, x = np.indices(shape)
    q = np.stack([y - shape[0] // 2, x - shape[1] // 2], -1)
    before = np.hypot(*np.moveaxis(q @ np.linalg.inv(stretch).T, -1, 0)) / scale
    return sum(np.exp(-(((before - r) / 1.2) ** 2) / 2) for r in RADII)


def stretch_along(degrees, ratio):
    """Symmetric stretch of determinant 1, longest at an angle from +x towards +y."""
    a = np.radians(degrees)
    axis = np.array([np.sin(a), np.cos(a)])
    other = np.array([np.cos(a), -np.sin(a)])
    return np.sqrt(ratio) * np.outer(axis, axis) + np.outer(other, other) / np.sqrt(
        ratio
    )


@pytest.mark.parametrize("degrees", [0, 30, 90, 120, 165])
def test_a_known_ellipse_is_undone(degrees):
    stretch = stretch_along(degrees, 1.05)
    found = ring_transform(rings(stretch), RADII)
    assert found is not None
    transform, scale, residual = found
    np.testing.assert_allclose(transform @ stretch, np.eye(2), atol=0.004)
    assert np.linalg.det(transform) == pytest.approx(1, abs=1e-9)
    assert scale == pytest.approx(1, abs=0.004)
    assert residual < 0.01


@pytest.mark.parametrize("ratio", [1.0008, 1.002, 1.01, 1.04, 1.1])
def test_small_and_large_ellipses_are_measured_alike(ratio):
    """What is left of the difference of the strains along the axes, and of the scale."""
    stretch = stretch_along(35, ratio)
    transform, scale, _ = ring_transform(rings(stretch, shape=(151, 161)), RADII)
    left = np.linalg.svd(transform @ stretch)[1]
    assert left[0] / left[1] - 1 < 1e-3
    assert scale == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("scale", [0.95, 1.06])
def test_scale_is_true_over_measured(scale):
    found = ring_transform(rings(np.eye(2), scale), RADII)
    assert found is not None
    assert found[1] == pytest.approx(1 / scale, abs=0.006)


def test_half_of_the_directions_are_enough():
    stretch = stretch_along(30, 1.04)
    image = rings(stretch)
    y, x = np.indices(image.shape)
    image[(y < 64) & (x < 74)] = 0.0
    found = ring_transform(image, RADII)
    assert found is not None
    np.testing.assert_allclose(found[0] @ stretch, np.eye(2), atol=0.008)


@pytest.mark.parametrize("given", [0.63, 0.75, 0.88, 1.14, 1.3, 1.6])
def test_radii_that_are_far_off_give_the_same_ellipse(given):
    stretch = stretch_along(30, 1.05)
    transform, scale, _ = ring_transform(rings(stretch), RADII * given)
    np.testing.assert_allclose(transform @ stretch, np.eye(2), atol=0.004)
    assert scale == pytest.approx(given, rel=0.004)


@pytest.mark.parametrize("given", [0.3, 0.4, 2.5, 3.5])
def test_radii_that_are_farther_off_are_refused(given):
    with pytest.raises(AnalysisError):
        ring_transform(rings(np.eye(2)), RADII * given)


def test_one_ring_among_several_could_be_any():
    with pytest.raises(AnalysisError, match="about equally well"):
        ring_transform(rings(np.eye(2)), RADII[1:2])


def test_rings_in_a_twelfth_of_the_directions_are_too_few():
    image = rings(np.eye(2))
    y, x = np.indices(image.shape)
    image[np.abs(np.arctan2(y - 64, x - 74)) > np.pi / 12] = 0.0
    with pytest.raises(AnalysisError, match="directions"):
        ring_transform(image, RADII)


@pytest.mark.parametrize("image", [np.ones((129, 129)), np.zeros((129, 129))])
def test_an_image_without_rings_is_refused(image):
    with pytest.raises(AnalysisError):
        ring_transform(image, RADII)
