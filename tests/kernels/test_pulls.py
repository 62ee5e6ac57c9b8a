"""Pulls are found where disks of a pattern err together, and only there."""

import numpy as np
import pytest
from fcunet_dask.kernels.lattice import fit_lattices, index_disks
from fcunet_dask.kernels.pulls import (
    FEWEST,
    Pulls,
    common_pulls,
    no_pulls,
    pulled_covariance,
    pulls_of_halves,
)
from fcunet_dask.kernels.strain import strain_covariance, strain_tensor
from hypothesis import given
from tests.strategies import angles, bases, quick, seeds

BASIS = np.array([0.6, 12.0, 13.2, 5.1])
AXIS = np.array([np.sin(0.5), np.cos(0.5)])


def patterns(n, sigma, pull=0.0, axis=AXIS, basis=BASIS, seed=0, claimed=None):
    """Disks of n patterns of one lattice, pulled along `axis` by N(0, pull²)."""
    rng = np.random.default_rng(seed)
    reach = np.arange(-3, 4)
    hk = np.stack(np.meshgrid(reach, reach, indexing="ij"), -1).reshape(-1, 2)
    vector = hk @ basis.reshape(2, 2)
    length = np.hypot(*vector.T)[:, None]
    unit = vector / np.where(length > 0, length, 1)
    along = (unit @ axis)[:, None] * axis
    amount = pull * rng.normal(size=n)
    position = vector + amount[:, None, None] * along
    position = position + sigma * rng.normal(size=position.shape)
    covariance = np.zeros((n, len(hk), 3))
    covariance[..., [0, 2]] = (sigma if claimed is None else claimed) ** 2
    return position, covariance, np.ones((n, len(hk)))


def measured(disks, basis=BASIS):
    _, indexed = index_disks(*disks, basis, np.zeros((len(disks[0]), 2)))
    return common_pulls(*pulls_of_halves(indexed, basis))


def covered(disks, pulls):
    """Share of strains, truly zero, within one standard deviation."""
    fit = fit_lattices(*disks, BASIS, np.zeros((len(disks[0]), 2)), pulls)
    strain, jacobian = strain_tensor(fit.parameters[:, 2:], BASIS)
    spread = strain_covariance(jacobian, fit.covariance[:, 2:, 2:])
    deviation = np.sqrt(np.diagonal(spread, axis1=1, axis2=2))
    return (np.abs(strain) < deviation).mean(axis=0)


def test_axis_and_variance_of_pulls_are_recovered():
    pulls = measured(patterns(1500, sigma=0.1, pull=0.2))
    first = int(np.argmax(pulls.variance))
    assert abs(pulls.axes[first] @ AXIS) > np.cos(np.radians(4))
    assert np.sqrt(pulls.variance[first]) == pytest.approx(0.2, rel=0.12)
    assert pulls.variance[1 - first] < 0.03**2


@pytest.mark.parametrize("claimed", [0.1, 0.02, 0.5])
def test_errors_of_single_disks_are_no_pulls_whatever_they_claim(claimed):
    pulls = measured(patterns(1500, sigma=0.1, claimed=claimed))
    assert (pulls.variance < 0.02**2).all()


def test_nor_are_those_of_a_few_disks_that_err_much():
    disks = patterns(1500, sigma=0.05)
    rng = np.random.default_rng(1)
    wild = rng.random(disks[0].shape[:2]) < 0.1
    disks[0][wild] += rng.normal(0, 1.0, (wild.sum(), 2))
    assert (measured(disks).variance < 0.04**2).all()


def test_strain_has_the_error_bars_that_its_errors_need():
    disks = patterns(3000, sigma=0.05, pull=0.1, axis=np.array([0.0, 1.0]))
    alone = covered(disks, no_pulls())
    assert alone[0] < 0.45
    assert alone[1] == pytest.approx(0.683, abs=0.05)
    together = covered(disks, measured(disks))
    assert together[0] == pytest.approx(0.683, abs=0.05)
    assert together[1] == pytest.approx(0.683, abs=0.05)


def test_the_covariance_is_what_a_pull_does_to_the_fit():
    still, pulled = (patterns(1, sigma=0.0, pull=p, seed=3) for p in (0.0, 1e-3))
    disks = [np.concatenate([a, b]) for a, b in zip(still, pulled, strict=True)]
    disks[1][...] = [0.04, 0.0, 0.04]
    amount = 1e-3 * np.random.default_rng(3).normal()
    fit, indexed = index_disks(*disks, BASIS, np.zeros((2, 2)))
    response = (fit.parameters[1] - fit.parameters[0]) / amount
    across = np.array([AXIS[1], -AXIS[0]])
    pulls = Pulls(np.stack([AXIS, across]), np.array([0.25, 0.0]))
    found = pulled_covariance(indexed, BASIS, pulls)
    expected = 0.25 * np.outer(response, response)
    np.testing.assert_allclose(found[0], expected, atol=1e-9)


@quick
@given(bases(), angles, seeds)
def test_they_turn_with_the_detector(basis, angle, seed):
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, -s], [s, c]])
    size = np.hypot(*basis[:2])
    disks = patterns(40, 0.02 * size, 0.05 * size, basis=basis, seed=seed % 1000)
    turned = (basis.reshape(2, 2) @ turn.T).ravel()
    first = measured(disks, basis)
    second = measured((disks[0] @ turn.T, *disks[1:]), turned)

    def moment(pulls):
        return (pulls.axes.T * pulls.variance) @ pulls.axes

    expected = turn @ moment(first) @ turn.T
    np.testing.assert_allclose(moment(second), expected, atol=1e-6 * size**2)


def test_positions_without_a_lattice_and_wrong_ones_do_not_count():
    disks = patterns(400, sigma=0.05, pull=0.2)
    _, indexed = index_disks(*disks, BASIS, np.zeros((400, 2)))
    pulls, variance = pulls_of_halves(indexed, BASIS)
    plain = common_pulls(pulls, variance)
    more = np.concatenate([pulls, np.full_like(pulls[:5], np.nan), pulls[:5] * 0 + 40])
    spread = np.concatenate(
        [variance, np.full_like(variance[:5], np.nan), variance[:5]]
    )
    found = common_pulls(more, spread)
    np.testing.assert_allclose(found.variance, plain.variance, rtol=0.02)


def test_disks_without_error_are_not_pulled():
    """A ring around the beam tells of pulls by rounding alone."""
    hk = np.array([[0, 0], [1, 0], [0, 1], [-1, 0], [0, -1], [1, -1], [-1, 1]])
    for seed in range(20):
        disks = patterns(20, sigma=0.0, seed=seed)
        away = disks[0][0][:, None] - hk @ BASIS.reshape(2, 2)
        chosen = (np.abs(away) < 1e-9).all(-1).any(axis=1)
        assert not measured([a[:, chosen] for a in disks]).variance.any()


def test_small_scans_without_pulls_seldom_have_any():
    """Nine disks a pattern, sixteen patterns: the fewest that are asked."""
    found = 0
    for seed in range(100):
        disks = patterns(16, sigma=0.05, seed=seed)
        inner = np.hypot(*disks[0][0].T) < 1.6 * np.hypot(*BASIS[:2])
        found += measured([a[:, inner] for a in disks]).variance.any()
    assert found <= 4


def test_a_few_patterns_tell_nothing():
    assert not measured(patterns(FEWEST - 1, sigma=0.01, pull=0.5)).variance.any()
    _, indexed = index_disks(*patterns(2, 0.01), BASIS, np.zeros((2, 2)))
    empty = common_pulls(*(a[:0] for a in pulls_of_halves(indexed, BASIS)))
    assert not empty.variance.any()
