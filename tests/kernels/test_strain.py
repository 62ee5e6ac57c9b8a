"""Strain is what a deformation gradient says, for any finite deformation."""

import numpy as np
import pytest
import scipy.linalg
from fcunet_dask.kernels.strain import (
    axes_matrix,
    deformed_vectors,
    strain_covariance,
    strain_tensor,
)
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import angles, bases, quick, seeds, strains

SQUARE = np.array([0.0, 1.0, 1.0, 0.0])


def vectors_of(F, reference):
    """Lattice vectors under F, which acts on (x, y): g = F⁻ᵀ g₀ one by one."""
    inverse = np.linalg.inv(F).T
    turned = [inverse @ pair[::-1] for pair in reference.reshape(2, 2)]
    return np.concatenate([pair[::-1] for pair in turned])


@quick
@given(strains(), angles, bases())
def test_strain_tensor_undoes_deformed_vectors(strain, rotation, reference):
    vectors = deformed_vectors(reference, strain, rotation)
    found = strain_tensor(vectors, reference)[0]
    np.testing.assert_allclose(found, [*strain, rotation], atol=1e-10)


@quick
@given(seeds, bases())
def test_it_is_the_polar_decomposition_of_f(seed, reference):
    F = np.eye(2) + np.random.default_rng(seed).uniform(-0.2, 0.2, (2, 2))
    R, U = scipy.linalg.polar(F, side="right")
    found = strain_tensor(vectors_of(F, reference), reference)[0]
    truth = [U[0, 0] - 1, U[1, 1] - 1, U[0, 1], np.arctan2(R[1, 0], R[0, 0])]
    np.testing.assert_allclose(found, truth, atol=1e-10)


def test_a_stretch_of_the_crystal_along_x_is_positive():
    F = np.array([[1.02, 0], [0, 1]])
    found = strain_tensor(vectors_of(F, SQUARE), SQUARE)[0]
    np.testing.assert_allclose(found, [0.02, 0, 0, 0], atol=1e-14)


def test_a_turn_from_x_towards_y_is_positive():
    c, s = np.cos(0.1), np.sin(0.1)
    turned = strain_tensor(vectors_of(np.array([[c, -s], [s, c]]), SQUARE), SQUARE)[0]
    np.testing.assert_allclose(turned, [0, 0, 0, 0.1], atol=1e-14)


@quick
@given(angles, bases())
def test_a_rigid_rotation_is_no_strain(rotation, reference):
    vectors = deformed_vectors(reference, np.zeros(3), rotation)
    np.testing.assert_allclose(
        strain_tensor(vectors, reference)[0][:3], 0, rtol=0, atol=1e-12
    )


@quick
@given(strains(), st.floats(-1, 1), bases())
def test_jacobian_is_the_derivative(strain, rotation, reference):
    vectors = deformed_vectors(reference, strain, rotation)
    jacobian = strain_tensor(vectors, reference)[1]
    step = 1e-6 * np.hypot(*vectors[:2])
    ahead = strain_tensor(vectors + step * np.eye(4), reference)[0]
    behind = strain_tensor(vectors - step * np.eye(4), reference)[0]
    np.testing.assert_allclose(
        jacobian * step, ((ahead - behind) / 2).T, atol=1e-9 * 3, rtol=1e-5
    )


@quick
@given(angles, angles)
def test_turns_of_the_axes_add_up(first, second):
    both = axes_matrix(second) @ axes_matrix(first)
    np.testing.assert_allclose(both, axes_matrix(first + second), atol=1e-12)


@quick
@given(strains(), angles)
def test_turned_axes_are_a_similarity_transform(strain, angle):
    xx, yy, xy = strain
    c, s = np.cos(angle), np.sin(angle)
    Q = np.array([[c, -s], [s, c]])  # columns: the new axes
    turned = Q.T @ np.array([[xx, xy], [xy, yy]]) @ Q
    found = axes_matrix(angle) @ [xx, yy, xy, 0.3]
    truth = [turned[0, 0], turned[1, 1], turned[0, 1], 0.3]
    np.testing.assert_allclose(found, truth, atol=1e-12)


def test_covariance_is_what_scatter_shows():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(4, 4)) * 1e-4
    vectors = deformed_vectors(SQUARE, np.array([0.03, -0.01, 0.02]), 0.2)
    jacobian = strain_tensor(vectors, SQUARE)[1]
    sample = vectors + rng.normal(size=(40_000, 4)) @ root.T
    scatter = np.cov(strain_tensor(sample, SQUARE)[0].T)
    said = strain_covariance(jacobian, root @ root.T)
    np.testing.assert_allclose(said, scatter, atol=0.03 * np.abs(scatter).max())


@pytest.mark.parametrize("vectors", [[0, 1, 0, 2], [0, 0, 1, 0], [np.nan] * 4])
def test_no_lattice_is_nan(vectors):
    strain, _ = strain_tensor(np.array(vectors, float), SQUARE)
    assert np.isnan(strain).all()
