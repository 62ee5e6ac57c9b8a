"""Lattice vectors are found where spots are missing, foreign or mistaken."""

import numpy as np
import pytest
from fcunet_dask.kernels.basis import (
    bragg_histogram,
    find_bases,
    find_basis,
    histogram_maxima,
    reduced,
)
from hypothesis import given
from tests.strategies import bases, quick, seeds

LATTICES = {
    "square": (4.0, 0.0, 0.0, 4.0),
    "turned": (1.2, 3.9, 3.9, -1.2),
    "hexagonal": (0.0, 4.0, 4 * np.sin(np.pi / 3), 2.0),
    "oblique": (0.6, 4.0, 4.4, 1.7),
    "rectangular": (0.3, 3.0, 7.0, -0.7),
}


def spots_of(basis, reach=20.0):
    axis = np.arange(-9, 10)
    indices = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    spots = indices @ np.reshape(basis, (2, 2))
    return spots[np.hypot(*spots.T) < reach]


def weights_of(spots, rng):
    return np.exp(-(np.hypot(*spots.T) ** 2) / 200) * rng.uniform(0.3, 1, len(spots))


def same_lattice(a, b, tolerance):
    turn = np.reshape(a, (2, 2)) @ np.linalg.inv(np.reshape(b, (2, 2)))
    whole = np.rint(turn)
    return abs(abs(np.linalg.det(whole)) - 1) < 1e-9 and (
        np.abs(turn - whole).max() < tolerance
    )


@quick
@given(bases(), seeds)
def test_reduced_spans_the_same_lattice_and_is_minimal(basis, seed):
    rng = np.random.default_rng(seed)
    other = np.eye(2, dtype=int)
    for _ in range(4):  # any other pair of vectors of the lattice
        step = np.eye(2, dtype=int)
        step[tuple(rng.permutation(2))] = rng.integers(-3, 4)
        other = other @ step
    found = reduced((other @ basis.reshape(2, 2)).ravel())
    assert same_lattice(found, basis, 1e-6)
    lengths = np.sort(np.hypot(*spots_of(basis, np.inf).T))
    assert np.hypot(*found[:2]) <= 1.021 * lengths[1]
    assert np.dot(found[:2], found[2:]) ** 2 <= (
        0.271 * np.prod((found.reshape(2, 2) ** 2).sum(1))
    )


@quick
@given(bases())
def test_reduced_has_one_order_and_one_handedness(basis):
    found = reduced(basis)
    swapped = reduced(np.concatenate([-basis[2:], basis[:2]]))
    np.testing.assert_allclose(found, swapped, atol=1e-9 * np.abs(basis).max())
    assert found[1] * found[2] - found[0] * found[3] > 0
    assert found[1] >= -1e-9


@pytest.mark.parametrize("basis", [[0, 1, 0, 2], [0, 0, 1, 0], [np.nan, 1, 2, 3]])
def test_reduced_comes_to_an_end_where_there_is_no_lattice(basis):
    assert reduced(np.array(basis, float)).shape == (4,)


@pytest.mark.parametrize("name", LATTICES)
@pytest.mark.parametrize("seed", range(3))
def test_basis_is_found_with_missing_and_shifted_spots(name, seed):
    rng = np.random.default_rng(seed)
    spots = spots_of(LATTICES[name])
    spots = spots[rng.random(len(spots)) > 0.4] + rng.normal(scale=0.08, size=(1, 2))
    spots += rng.normal(scale=0.05, size=spots.shape)
    found = find_basis(spots, weights_of(spots, rng), 0.3, 1.5)
    assert found is not None
    assert same_lattice(found.vectors, LATTICES[name], 0.05)
    assert found.explained > 0.99


@pytest.mark.parametrize("name", LATTICES)
def test_basis_is_that_of_the_crystal_beside_strong_satellites(name):
    rng = np.random.default_rng(4)
    spots = spots_of(LATTICES[name])
    weight = weights_of(spots, rng)
    satellites = spots + np.array([0.9, 0.5])  # a superstructure that does not fit
    found = find_basis(
        np.concatenate([spots, satellites]),
        np.concatenate([weight, 0.4 * weight]),
        0.3,
        1.5,
    )
    assert found is not None
    assert same_lattice(found.vectors, LATTICES[name], 0.05)


def test_basis_is_found_among_random_outliers():
    rng = np.random.default_rng(5)
    spots = spots_of(LATTICES["turned"])
    junk = rng.uniform(-18, 18, (len(spots) // 2, 2))
    every = np.concatenate([spots, junk])
    weight = np.concatenate([weights_of(spots, rng), 0.2 * np.ones(len(junk))])
    found = find_basis(every, weight, 0.3, 1.5)
    assert found is not None
    assert same_lattice(found.vectors, LATTICES["turned"], 0.05)
    assert found.explained < 0.95


def test_centred_reflections_alone_give_the_centred_cell():
    spots = spots_of((4.0, 0.0, 0.0, 4.0))
    even = spots[np.rint(spots.sum(1) / 4) % 2 == 0]  # h + k even
    found = find_basis(even, np.ones(len(even)), 0.3, 1.5)
    assert found is not None
    assert abs(np.linalg.det(found.vectors.reshape(2, 2))) == pytest.approx(32)


def test_two_grains_are_told_apart():
    c, s = np.cos(0.4), np.sin(0.4)
    first = np.array(LATTICES["square"])
    second = (first.reshape(2, 2) @ [[c, s], [-s, c]]).ravel()
    a, b = spots_of(first), spots_of(second)
    rng = np.random.default_rng(6)
    found = find_bases(
        np.concatenate([a, b]),
        np.concatenate([weights_of(a, rng), 0.5 * weights_of(b, rng)]),
        0.25,
        1.5,
        3,
    )
    assert len(found) == 2
    assert same_lattice(found[0].vectors, first, 0.03)
    assert same_lattice(found[1].vectors, second, 0.03)


def test_three_grains_of_one_strength_are_told_apart():
    rng = np.random.default_rng(8)
    lattices = []
    for turn in (0.0, 0.4, 0.9):
        c, s = np.cos(turn), np.sin(turn)
        basis = np.reshape(LATTICES["rectangular"], (2, 2))
        lattices.append((basis @ [[c, s], [-s, c]]).ravel())
    spots = np.concatenate([spots_of(basis) for basis in lattices])
    weight = weights_of(spots, rng)
    spots = spots + rng.normal(scale=0.04, size=spots.shape)
    found = find_bases(spots, weight, 0.25, 1.5, 3)
    assert len(found) == 3
    for basis in lattices:
        assert any(same_lattice(f.vectors, basis, 0.05) for f in found)


@pytest.mark.parametrize("share", [0.5, 0.67, 0.83])
@pytest.mark.parametrize(("turn", "scale"), [(0.0, 1.0), (0.0, 0.99), (1.7, 1.0)])
def test_twins_are_two_lattices_and_not_the_finer_one_of_both(share, turn, scale):
    """Σ3 of fcc along <110>: all spots of both are on a lattice of a third of the cell."""
    a, c, s = np.radians(70.53), *np.cos(np.radians([turn, 90 - turn]))
    crystal = 4 * np.array([[0.0, 1.0], [np.sin(a), np.cos(a)]])
    twin = scale * crystal @ np.diag([-1.0, 1.0]) @ np.array([[c, s], [-s, c]])
    one, other = spots_of(crystal.ravel(), 13.0), spots_of(twin.ravel(), 13.0)
    rng = np.random.default_rng(11)
    spots = np.concatenate([one, other])
    weight = np.concatenate([share * weights_of(one, rng), weights_of(other, rng)])
    weight[len(one) :] *= 1 - share
    image = bragg_histogram(spots, weight, (301, 301), 0.1)
    found = find_bases(*histogram_maxima(image, 0.1, 0.2), 0.2, 1.1, 2)
    assert len(found) == 2
    for vectors in (crystal.ravel(), twin.ravel()):
        assert any(same_lattice(f.vectors, vectors, 0.02) for f in found)


@pytest.mark.parametrize("name", LATTICES)
@pytest.mark.parametrize("cells", [2, 3, 4])
def test_a_superlattice_stays_one_lattice_where_more_grains_are_allowed(name, cells):
    basis = np.reshape(LATTICES[name], (2, 2))
    spots = spots_of((basis / [[1.0], [cells]] * 2).ravel())
    strong = np.rint((spots @ np.linalg.inv(2 * basis))[:, 1] * cells) % cells == 0
    weight = weights_of(spots, np.random.default_rng(12)) * np.where(strong, 1.0, 0.5)
    found = find_bases(spots, weight, 0.15, 0.8, 3)
    assert len(found) == 1
    assert same_lattice(found[0].vectors, (basis / [[1.0], [cells]] * 2).ravel(), 0.02)


def test_a_few_spots_beside_a_crystal_are_no_grain():
    spots = spots_of(LATTICES["square"])
    stray = np.array([[2.0, 5.0], [-6.0, 2.2], [9.7, -6.1], [-10.1, -9.8]])
    weight = np.concatenate([weights_of(spots, np.random.default_rng(9)), np.ones(4)])
    found = find_bases(np.concatenate([spots, stray]), weight, 0.25, 1.5, 3)
    assert len(found) == 1
    assert same_lattice(found[0].vectors, LATTICES["square"], 0.03)


@pytest.mark.parametrize("most", [2, 3])
def test_spots_anywhere_are_no_grain(most):
    rng = np.random.default_rng(10)
    spots = rng.uniform(-18, 18, (150, 2))
    assert find_bases(spots, rng.uniform(0.3, 1, 150), 0.05, 1.5, most) == []


@pytest.mark.parametrize(
    "spots",
    [
        np.zeros((0, 2)),
        np.zeros((1, 2)),
        [[0.0, 0.0], [3.0, 1.0]],
        [[0.0, 3.0], [0.0, 6.0], [0.0, 9.0], [0.0, 0.0], [0.0, -3.0]],
    ],
    ids=["none", "one", "two", "collinear"],
)
def test_no_lattice_is_none(spots):
    spots = np.asarray(spots, float).reshape(-1, 2)
    assert find_basis(spots, np.ones(len(spots)), 0.3, 1.5) is None
    assert find_bases(spots, np.ones(len(spots)), 0.3, 1.5, 2) == []


@quick
@given(seeds)
def test_histogram_keeps_weight_and_place(seed):
    rng = np.random.default_rng(seed)
    position = rng.uniform(-2, 2, (3, 4, 2))
    weight = rng.uniform(1, 2, (3, 4))
    position[1, 2] = np.nan
    histogram = bragg_histogram(position, weight, (21, 31), 0.25)
    kept = np.isfinite(position[..., 0])
    assert histogram.sum() == pytest.approx(weight[kept].sum())
    y = (np.arange(21) - 10) * 0.25
    x = (np.arange(31) - 15) * 0.25
    middle = [(histogram.sum(1) @ y), (histogram.sum(0) @ x)]
    np.testing.assert_allclose(middle, weight[kept] @ position[kept], atol=1e-9)


def test_histogram_drops_what_is_outside():
    far = np.array([[9.0, 0.0], [0.0, -9.0], [0.0, 0.0]])
    assert bragg_histogram(far, np.ones(3), (5, 5), 1.0).sum() == 1


def test_maxima_of_the_histogram_are_the_spots_strongest_first():
    truth = np.array([[0.0, 0.0], [-3.1, 4.27], [5.6, 1.03]])
    rng = np.random.default_rng(7)
    cloud = truth + 0.1 * rng.normal(size=(400, 3, 2))
    weight = np.broadcast_to([3.0, 2.0, 1.0], (400, 3))
    histogram = bragg_histogram(cloud, weight, (65, 81), 0.25)
    position, height = histogram_maxima(histogram, 0.25, 0.4)
    np.testing.assert_allclose(position, truth, atol=0.05)
    assert (np.diff(height) < 0).all()


def test_an_empty_histogram_has_no_maxima():
    position, weight = histogram_maxima(np.zeros((9, 9)), 0.5, 1.0)
    assert position.shape == (0, 2)
    assert weight.shape == (0,)


@pytest.mark.parametrize("scale", [1.0, 1 / 3, 0.1, 7.3])
@pytest.mark.parametrize("turn", np.linspace(0, 3, 13))
def test_reduction_ends_where_half_a_vector_is_to_be_taken_off(scale, turn):
    c, s = np.cos(turn), np.sin(turn)
    R = np.array([[c, -s], [s, c]])
    basis = np.concatenate([R @ [scale, 0.0], R @ [0.5 * scale, 3 * scale]])
    found = reduced(basis)
    assert np.hypot(*found[:2]) == pytest.approx(scale)
    assert abs(np.linalg.det(found.reshape(2, 2))) == pytest.approx(3 * scale**2)


@pytest.mark.parametrize(("missing", "least"), [(0.3, 59), (0.5, 58), (0.7, 53)])
def test_a_lattice_is_found_though_most_of_its_spots_are_missing(missing, least):
    """Its shortest vectors, too: they are then differences that many spots have."""
    rng = np.random.default_rng(1)
    found = 0
    for _ in range(60):
        along, between = rng.uniform(0, np.pi), rng.uniform(np.pi / 3, 2 * np.pi / 3)
        first, second = rng.uniform(8, 14) * np.array([[1.0], [rng.uniform(1, 1.6)]])
        basis = np.concatenate(
            [
                first * [np.sin(along), np.cos(along)],
                second * [np.sin(along + between), np.cos(along + between)],
            ]
        )
        h, k = (a.ravel()[:, None] for a in np.mgrid[-5:6, -5:6])
        spots = h * basis[:2] + k * basis[2:]
        length = np.hypot(*spots.T)
        there = (length < 60) & ((rng.random(len(spots)) > missing) | (length < 1))
        weight = np.where(length < 1, 5.0, rng.exponential(size=len(spots)))
        spots = (spots + rng.normal(scale=0.5, size=spots.shape))[there]
        answer = find_bases(spots, weight[there], 0.66, 3.4, 1)
        found += bool(answer) and same_lattice(answer[0].vectors, basis, 0.3)
    assert found >= least
