"""Strain from lattice vectors.

G = [g₁ g₂] holds the measured lattice vectors as columns, G₀ the unstrained ones. The
deformation gradient F of the real lattice obeys G = F⁻ᵀ G₀, and F = R U with a rotation
R and a symmetric stretch U. The strain is ε = U − I (Biot): positive = expansion of the
real lattice, exactly zero for any rigid rotation, and equal to the small strain
(F + Fᵀ)/2 − I to first order. Arrays hold y before x; the rotation is positive from +x
towards +y.
"""

from itertools import product
from typing import Final

import numpy as np

from fcunet_dask.types import Array

_INTEGERS: Final = np.array(list(product(range(-2, 3), repeat=4))).reshape(-1, 2, 2)
_UNIMODULAR: Final = _INTEGERS[np.abs(np.rint(np.linalg.det(_INTEGERS))) == 1]
"""By what pairs of short vectors of one lattice differ."""


def strain_tensor(vectors: Array, reference: Array) -> tuple[Array, Array]:
    """Strain and rotation.

    Parameters
    ----------
    vectors : numpy.ndarray
        (..., 4): g1_y, g1_x, g2_y, g2_x.
    reference : numpy.ndarray
        (..., 4), the same of the unstrained lattice.

    Returns
    -------
    strain : numpy.ndarray
        (..., 4): ε_xx, ε_yy, ε_xy and the rotation, rad.
    jacobian : numpy.ndarray
        (..., 4, 4): derivatives of these (first axis) by the `vectors` (second).

    Examples
    --------
    >>> reference = np.array([0.0, 1.0, 1.0, 0.0])
    >>> stretched = np.array([0.0, 1 / 1.02, 1.0, 0.0])  # 2 % along x
    >>> strain_tensor(stretched, reference)[0].round(6) + 0.0
    array([0.02, 0.  , 0.  , 0.  ])
    """
    G = _columns(vectors)
    G_inverse = _inverse(G)
    F_transposed = _columns(reference) @ G_inverse
    F = np.swapaxes(F_transposed, -1, -2)
    angle, cosine, sine = _angle(F)
    R = _rotation(cosine, sine)
    R_transposed = np.swapaxes(R, -1, -2)
    U = R_transposed @ F
    strain = np.stack(
        [U[..., 1, 1] - 1, U[..., 0, 0] - 1, U[..., 0, 1], angle], axis=-1
    )
    columns = []
    for unit in np.eye(4):
        dF = -np.swapaxes(F_transposed @ _columns(unit) @ G_inverse, -1, -2)
        turned = R_transposed @ dF
        d_angle = (turned[..., 0, 1] - turned[..., 1, 0]) / (
            U[..., 0, 0] + U[..., 1, 1]
        )
        dU = turned - d_angle[..., None, None] * (np.array([[0, 1], [-1, 0]]) @ U)
        columns.append(
            np.stack([dU[..., 1, 1], dU[..., 0, 0], dU[..., 0, 1], d_angle], axis=-1)
        )
    return strain, np.stack(columns, axis=-1)


def matching_vectors(reference: Array, basis: Array) -> tuple[Array, float]:
    """Describe the lattice of a reference by those of its vectors that a basis has.

    A lattice has many pairs of vectors: of a square one (g₁, g₂) and (g₂, −g₁) are as
    good. Taken are those, g₀' = M g₀ with integer M, |det M| = 1, that deform least into
    the basis.

    Parameters
    ----------
    reference, basis : numpy.ndarray
        (4,): g1_y, g1_x, g2_y, g2_x.

    Returns
    -------
    vectors : numpy.ndarray
        (4,): the reference in the vectors of the basis.
    deformation : float
        Largest principal strain that is left between the two; ∞ where one is none.

    Examples
    --------
    >>> turned, left = matching_vectors(
    ...     np.array([1.0, 0, 0, 1]), np.array([0, 1.01, -1, 0])
    ... )
    >>> turned.tolist(), round(left, 3)
    ([0.0, 1.0, -1.0, 0.0], 0.01)
    """
    candidates = _UNIMODULAR @ reference.reshape(2, 2)
    change = _inverse(candidates) @ basis.reshape(2, 2)
    if not np.isfinite(change).all():
        return reference, float("inf")
    best = int(np.argmin(((change - np.eye(2)) ** 2).sum((1, 2))))
    stretch = np.linalg.svd(change[best], compute_uv=False)
    return candidates[best].ravel(), float(np.abs(stretch - 1).max())


def strain_covariance(jacobian: Array, covariance: Array) -> Array:
    """Propagate the covariance of the lattice vectors.

    Parameters
    ----------
    jacobian : numpy.ndarray
        (..., 4, 4) from `strain_tensor`.
    covariance : numpy.ndarray
        (..., 4, 4) of g1_y, g1_x, g2_y, g2_x.

    Returns
    -------
    numpy.ndarray
        (..., 4, 4) of ε_xx, ε_yy, ε_xy, rotation.
    """
    return np.asarray(jacobian @ covariance @ np.swapaxes(jacobian, -1, -2))


def axes_matrix(angle: Array | float) -> Array:
    """Matrices that refer (ε_xx, ε_yy, ε_xy, rotation) to turned axes.

    ε' = Qᵀ ε Q; the rotation of the lattice does not depend on the axes.

    Parameters
    ----------
    angle : numpy.ndarray or float
        (...,), from the old x axis to the new one, positive towards +y, rad.

    Returns
    -------
    numpy.ndarray
        float64 (..., 4, 4), to be applied to vectors of these four.

    Examples
    --------
    >>> (axes_matrix(np.pi / 2) @ [0.02, 0.01, 0.003, 0.1]).round(6)
    array([ 0.01 ,  0.02 , -0.003,  0.1  ])
    """
    c, s = np.cos(angle), np.sin(angle)
    cc, ss, sc, zero = c * c, s * s, s * c, 0 * c
    flat = [cc, ss, 2 * sc, zero, ss, cc, -2 * sc, zero]
    flat += [-sc, sc, cc - ss, zero, zero, zero, zero, zero + 1]
    return np.stack(flat, axis=-1).reshape(*np.shape(angle), 4, 4)


def deformed_vectors(reference: Array, strain: Array, rotation: Array) -> Array:
    """Lattice vectors of a strained crystal: the inverse of `strain_tensor`.

    Parameters
    ----------
    reference : numpy.ndarray
        (4,): g1_y, g1_x, g2_y, g2_x.
    strain : numpy.ndarray
        (..., 3): ε_xx, ε_yy, ε_xy.
    rotation : numpy.ndarray
        (...,), rad.

    Returns
    -------
    numpy.ndarray
        (..., 4).
    """
    xx, yy, xy = np.moveaxis(np.asarray(strain, float), -1, 0)
    U = np.stack([1 + yy, xy, xy, 1 + xx], axis=-1).reshape(*xx.shape, 2, 2)
    F = _rotation(np.cos(rotation), np.sin(rotation)) @ U
    G = np.swapaxes(_inverse(F), -1, -2) @ _columns(np.asarray(reference, float))
    return np.swapaxes(G, -1, -2).reshape(*xx.shape, 4)


def _columns(vectors: Array) -> Array:
    """(..., 4) as matrices (..., 2, 2) with g₁ and g₂ as columns."""
    return np.swapaxes(vectors.reshape(*vectors.shape[:-1], 2, 2), -1, -2)


def _inverse(M: Array) -> Array:
    """Inverse of 2 × 2 matrices; NaN where singular."""
    a, b, c, d = M[..., 0, 0], M[..., 0, 1], M[..., 1, 0], M[..., 1, 1]
    determinant = a * d - b * c
    determinant = np.where(determinant == 0, np.nan, determinant)
    flat = np.stack([d, -b, -c, a], axis=-1) / determinant[..., None]
    return flat.reshape(M.shape)


def _angle(F: Array) -> tuple[Array, Array, Array]:
    """Rotation of the polar decomposition: angle, cosine, sine."""
    along, across = F[..., 0, 0] + F[..., 1, 1], F[..., 0, 1] - F[..., 1, 0]
    length = np.hypot(along, across)
    length = np.where(length == 0, np.nan, length)
    return np.arctan2(across, along), along / length, across / length


def _rotation(cosine: Array, sine: Array) -> Array:
    """Turn from +x towards +y, for vectors (y, x): (..., 2, 2)."""
    flat = np.stack([cosine, sine, -sine, cosine], axis=-1)
    return flat.reshape(*np.shape(cosine), 2, 2)
