"""Cramér–Rao bound of the strain of a pattern of flat disks, without fcunet_dask.

Poisson counts μ = A T(q − c) + b in the pixels nearer to a disk than to any other; T is
known, and A, b and c are free for every disk. The Fisher information of all centres is
propagated to origin, g₁ and g₂, and from there to the strain.
"""

import numpy as np


def centre_information(centre, electrons, background, profile, reach):
    """Fisher information (2, 2) of a disk's centre (y, x), px⁻².

    `electrons` are in the disk, `background` on a pixel; pixels within `reach` count.
    `profile` is T at a distance from the centre.
    """
    size = int(reach) + 1
    axis = np.arange(-size, size + 1)
    middle = np.rint(centre)
    y = (middle[0] + axis - centre[0])[:, None] * np.ones(axis.size)
    x = (middle[1] + axis - centre[1]) * np.ones((axis.size, 1))
    r = np.maximum(np.hypot(y, x), 1e-9)
    T = profile(r)
    slope = (profile(r - 1e-4) - profile(r + 1e-4)) / 2e-4
    height = electrons / T.sum()
    inside = r < reach
    mean = np.maximum(height * T + background, 1e-12)[inside]
    gradient = [height * slope * y / r, height * slope * x / r, T, np.ones_like(T)]
    J = np.stack([g[inside] for g in gradient])
    information = (J / mean) @ J.T
    known = 3 if background == 0 else 4
    cross, nuisance = information[:2, 2:known], information[2:known, 2:known]
    return information[:2, :2] - cross @ np.linalg.inv(nuisance) @ cross.T


def strain_bound(vectors, origin, disks, profile, reach):
    """Least standard deviation of ε_xx, ε_yy, ε_xy of one pattern.

    Parameters
    ----------
    vectors, origin : array
        (4,) g1_y, g1_x, g2_y, g2_x and (2,), px.
    disks : iterable
        Indices (2,), electrons and background on a pixel, of each disk.
    profile : callable
        T at a distance from the centre, px.
    reach : float
        Distance to which the pixels are a disk's own, px.
    """
    g = np.reshape(vectors, (2, 2))
    total = np.zeros((6, 6))
    for index, electrons, background in disks:
        information = centre_information(
            origin + index @ g, electrons, background, profile, reach
        )
        design = np.kron(np.array([1.0, *index]), np.eye(2))
        total += design.T @ information @ design
    covariance = np.linalg.inv(total)[2:, 2:]
    jacobian = _small_strain_jacobian(g)
    return np.sqrt(np.diag(jacobian @ covariance @ jacobian.T))


def _small_strain_jacobian(g):
    """Return the derivatives (3, 4) of ε_xx, ε_yy, ε_xy by g₁ and g₂ at zero strain.

    G = F⁻ᵀ G₀ gives dF = −(dG G⁻¹)ᵀ, and ε is its symmetric part.
    """
    rows = []
    for unit in np.eye(4):
        dF = -np.linalg.inv(g) @ unit.reshape(2, 2)
        rows.append([dF[1, 1], dF[0, 0], 0.5 * (dF[0, 1] + dF[1, 0])])
    return np.array(rows).T
