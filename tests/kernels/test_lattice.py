"""Lattices are what the disks say, with the error bars that the disks have."""

import numpy as np
import pytest
from fcunet_dask.kernels.lattice import LatticeStatus, fit_lattices
from fcunet_dask.kernels.strain import strain_tensor
from hypothesis import given
from tests.strategies import bases, quick, seeds

BASIS = np.array([0.6, 4.0, 4.4, 1.7])


def indices(reach=3):
    axis = np.arange(-reach, reach + 1)
    found = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    return found[np.argsort((found**2).sum(1), kind="stable")]


def disks(truth, hk=None, sigma=0.0, rng=None):
    """Positions, covariances and intensities of lattices `truth` (n, 6)."""
    hk = indices() if hk is None else hk
    truth = np.atleast_2d(truth)
    position = truth[:, None, :2] + hk @ truth[:, 2:].reshape(-1, 2, 2)
    if sigma:
        position = position + sigma * rng.normal(size=position.shape)
    covariance = np.zeros((*position.shape[:2], 3))
    covariance[..., [0, 2]] = sigma**2
    return position, covariance, np.ones(position.shape[:2])


def fitted(data, basis=BASIS, **options):
    return fit_lattices(*data, basis, np.zeros((len(data[0]), 2)), **options)


@quick
@given(bases(), seeds)
def test_exact_disks_give_the_exact_lattice(basis, seed):
    rng = np.random.default_rng(seed)
    length = np.hypot(*basis[:2])
    change = 1 + 0.02 * rng.normal(size=(5, 4))
    truth = np.concatenate([0.03 * length * rng.normal(size=(5, 2)), basis * change], 1)
    fit = fitted(disks(truth, indices(2)), basis)
    assert (fit.status == 0).all()
    assert (fit.n_indexed == 25).all()
    np.testing.assert_allclose(fit.parameters, truth, atol=1e-7 * length)
    assert (fit.residual < 1e-7 * length).all()


def test_error_bars_are_those_of_gaussian_noise():
    rng = np.random.default_rng(1)
    truth = np.broadcast_to(np.r_[0.1, -0.2, BASIS], (600, 6))
    fit = fitted(disks(truth, sigma=0.05, rng=rng))
    z = (fit.parameters - truth) / np.sqrt(
        np.diagonal(fit.covariance, axis1=1, axis2=2)
    )
    assert np.mean(np.abs(z) < 1) == pytest.approx(0.683, abs=0.04)
    away = (fit.parameters - truth)[..., None]
    chi2 = np.swapaxes(away, 1, 2) @ np.linalg.solve(fit.covariance, away)
    assert chi2.mean() / 6 == pytest.approx(1, abs=0.12)


def test_scatter_beyond_the_stated_errors_is_in_the_error_bars():
    rng = np.random.default_rng(2)
    truth = np.broadcast_to(np.r_[0.1, -0.2, BASIS], (600, 6))
    position, covariance, intensity = disks(truth, sigma=0.05, rng=rng)
    fit = fitted((position, covariance / 100, intensity))
    z = (fit.parameters - truth) / np.sqrt(
        np.diagonal(fit.covariance, axis1=1, axis2=2)
    )
    assert np.mean(np.abs(z) < 1) == pytest.approx(0.683, abs=0.08)
    assert np.median(fit.residual) == pytest.approx(0.05 * np.sqrt(2), rel=0.1)


def test_disks_that_alone_determine_the_lattice_count_however_far_off():
    """A row of seven, and two disks beside it that the row's scatter does not allow."""
    rng = np.random.default_rng(4)
    row = np.stack([np.arange(-3, 4), np.zeros(7, int)], axis=1)
    hk = np.concatenate([row, [[0, 1], [1, 1]]])
    truth = np.broadcast_to(np.r_[0.1, -0.2, 3 * BASIS], (400, 6))
    position, covariance, intensity = disks(truth, hk, 0.03, rng)
    position[:, 7:] += 0.5 * rng.normal(size=(400, 2, 2))
    fit = fitted((position, covariance, intensity), 3 * BASIS)
    assert (fit.status == 0).all()


def test_the_scatter_of_five_disks_is_not_underrated():
    """Three parameters fitted to five disks take most of it."""
    rng = np.random.default_rng(10)
    hk = np.array([[0, 0], [1, 0], [0, 1], [-1, 0], [0, -1]])
    truth = np.broadcast_to(np.r_[0.1, -0.2, BASIS], (2000, 6))
    position, covariance, intensity = disks(truth, hk, 0.05, rng)
    fit = fitted((position, 0 * covariance, intensity))
    z = (fit.parameters - truth) / np.sqrt(
        np.diagonal(fit.covariance, axis1=1, axis2=2)
    )
    assert np.mean(np.abs(z) < 1) == pytest.approx(0.683, abs=0.05)


def test_elongated_errors_are_propagated_with_their_direction():
    rng = np.random.default_rng(3)
    truth = np.broadcast_to(np.r_[0.0, 0.0, BASIS], (800, 6))
    position, covariance, intensity = disks(truth)
    noise = rng.normal(size=(2, *position.shape[:2])) * [[[0.06]], [[0.02]]]
    position = position + np.stack([noise[0], 0.5 * noise[0] + noise[1]], -1)
    covariance[:] = [0.06**2, 0.5 * 0.06**2, 0.25 * 0.06**2 + 0.02**2]
    fit = fitted((position, covariance, intensity))
    scatter = np.cov((fit.parameters - truth).T)
    said = fit.covariance.mean(axis=0)
    np.testing.assert_allclose(said, scatter, atol=0.2 * np.abs(scatter).max())


def test_precise_disks_count_more_than_vague_ones():
    rng = np.random.default_rng(4)
    truth = np.broadcast_to(np.r_[0.0, 0.0, BASIS], (300, 6))
    position, covariance, intensity = disks(truth)
    sigma = np.where(np.arange(49) % 2, 0.01, 0.3)
    position = position + sigma[:, None] * rng.normal(size=position.shape)
    covariance[..., [0, 2]] = sigma[:, None] ** 2
    fit = fitted((position, covariance, intensity))
    best = fitted(disks(truth, indices()[1::2], 0.01, rng))
    error, least = (np.std(f.parameters - truth) for f in (fit, best))
    assert error < 1.5 * least


def test_outliers_do_not_pull():
    rng = np.random.default_rng(5)
    truth = np.broadcast_to(np.r_[0.1, 0.1, BASIS], (100, 6))
    position, covariance, intensity = disks(truth, sigma=0.02, rng=rng)
    clean = fitted((position.copy(), covariance, intensity))
    position[:, ::6] += rng.uniform(-0.9, 0.9, position[:, ::6].shape)
    fit = fitted((position, covariance, intensity))
    error, least = (np.std(f.parameters - truth) for f in (fit, clean))
    assert (fit.status == 0).all()
    assert error < 3 * least  # 12 × without down-weighting


@quick
@given(seeds)
def test_strain_does_not_depend_on_the_choice_of_basis(seed):
    rng = np.random.default_rng(seed)
    other = np.array([[1, 0], [int(rng.choice([-1, 1])), 1]])[rng.permutation(2)]
    truth = np.r_[0.05, -0.1, BASIS * (1 + 0.01 * rng.normal(size=4))]
    data = disks(truth, sigma=0.02, rng=rng)
    strains = []
    for basis in (BASIS, (other @ BASIS.reshape(2, 2)).ravel()):
        fit = fitted(data, basis)
        strain, jacobian = strain_tensor(fit.parameters[:, 2:], basis)
        spread = jacobian @ fit.covariance[:, 2:, 2:] @ np.swapaxes(jacobian, 1, 2)
        strains.append([strain, np.sqrt(np.diagonal(spread, axis1=1, axis2=2))])
    np.testing.assert_allclose(strains[0], strains[1], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("keep", "status"),
    [
        ([], LatticeStatus.TOO_FEW_DISKS),
        ([[0, 0]], LatticeStatus.TOO_FEW_DISKS),
        ([[0, 0], [1, 0], [0, 1]], LatticeStatus.TOO_FEW_DISKS),
        ([[h, 0] for h in range(-3, 4)], LatticeStatus.COLLINEAR),
        ([[h, h] for h in range(-3, 4)], LatticeStatus.COLLINEAR),
        ([[0, 0], [1, 0], [0, 1], [1, 1]], LatticeStatus(0)),
    ],
    ids=["none", "one", "three", "row", "diagonal", "four"],
)
def test_what_cannot_be_fitted_says_why(keep, status):
    rng = np.random.default_rng(6)
    hk = np.array(keep, float).reshape(-1, 2)
    position = np.full((2, 9, 2), np.nan)
    good = disks(np.r_[0.0, 0.0, BASIS], hk, 1e-3, rng)[0]
    position[0, : len(hk)] = good[0]
    position[1] = disks(np.r_[0.0, 0.0, BASIS], indices()[:9])[0]
    covariance = np.full((2, 9, 3), [1e-6, 0, 1e-6])
    fit = fitted(
        (position, covariance, np.where(np.isnan(position[..., 0]), np.nan, 1))
    )
    assert fit.status[0] == status
    assert fit.status[1] == 0
    for values in (fit.parameters, fit.covariance, fit.residual):
        assert np.isnan(values[0]).all() == (status != 0)
        assert np.isfinite(values[1]).all()


def test_a_lattice_that_fits_nowhere_is_a_misfit():
    rng = np.random.default_rng(7)
    position = rng.uniform(-15, 15, (200, 30, 2))
    covariance = np.full((200, 30, 3), [1e-4, 0, 1e-4])
    fit = fitted((position, covariance, np.ones((200, 30))))
    assert np.mean(fit.status != 0) > 0.95
    assert np.mean(fit.status & LatticeStatus.MISFIT != 0) > 0.9


def test_disks_near_lattice_points_by_chance_are_a_misfit():
    """Anywhere within a quarter of the shortest vector of a lattice point."""
    rng = np.random.default_rng(11)
    position, covariance, intensity = disks(np.zeros((200, 6)) + np.r_[0, 0, BASIS])
    away = 0.24 * np.hypot(*BASIS[:2]) * np.sqrt(rng.random(position.shape[:2]))
    angle = rng.uniform(0, 2 * np.pi, away.shape)
    position = position + np.stack([away * np.sin(angle), away * np.cos(angle)], -1)
    covariance[..., [0, 2]] = 1e-4
    fit = fitted((position, covariance, intensity))
    assert (fit.status == LatticeStatus.MISFIT).all()


@pytest.mark.parametrize(("faint", "status"), [(8, 0), (10, LatticeStatus.MISFIT)])
def test_bright_disks_alone_make_no_lattice(faint, status):
    """Beside the beam eight have nine tenths of the √intensity, the faint ones little."""
    on = disks(np.r_[0.0, 0.0, BASIS], indices(1))[0]
    beside = disks(np.r_[0.5 * (BASIS[:2] + BASIS[2:]), BASIS], indices()[:faint])[0]
    intensity = np.concatenate([np.full(9, 100.0), np.ones(faint)])[None]
    covariance = np.full((1, 9 + faint, 3), [1e-4, 0, 1e-4])
    fit = fitted((np.concatenate([on, beside], axis=1), covariance, intensity))
    assert fit.quality > 0.88
    assert fit.status == status


def test_a_start_that_is_far_off_is_corrected_from_the_middle():
    """By 15 %: outer disks are then nearest to the lattice points of others."""
    rng = np.random.default_rng(12)
    angle = rng.uniform(0, np.pi, 100)
    along = np.stack([np.sin(angle), np.cos(angle)], -1)
    stretch = np.eye(2) + 0.15 * along[:, :, None] * along[:, None]
    truth = np.zeros((100, 6))
    truth[:, 2:] = (BASIS.reshape(2, 2) @ stretch).reshape(100, 4)
    fit = fitted(disks(truth, indices(5), 0.02, rng))
    np.testing.assert_allclose(fit.parameters, truth, atol=0.05)


def test_another_lattice_is_a_misfit():
    """Though all of its disks can be indexed on the basis, step by step."""
    basis = np.array([6.4, 21.0, 21.0, -6.4])
    other = np.array([0.0, 0.0, 0.0, 16.0, 18.0, 5.0])
    position, covariance, intensity = disks(other, indices(5))
    inner = (np.abs(position) < 56).all(-1)
    position[~inner], intensity[~inner] = np.nan, np.nan
    fit = fitted((position, covariance, intensity), basis)
    assert fit.quality > 0.9
    assert fit.status == LatticeStatus.MISFIT
    assert fitted((position, covariance, intensity), other[2:]).status == 0


def test_a_deformation_is_measured_against_the_basis():
    angle, stretch = np.radians(5.0), np.diag([1 / 1.02, 1.0])
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    turned = (BASIS.reshape(2, 2) @ stretch @ turn.T).ravel()
    fit = fitted(disks(np.r_[0.0, 0.0, turned], indices(2)))
    expected = np.hypot(0.02, np.sqrt(2) * 2 * np.sin(angle / 2))
    assert fit.deformation == pytest.approx(expected, rel=1e-6)


def test_the_direct_beam_makes_no_lattice():
    """As in vacuum: a bright beam, and what noise holds up for disks."""
    rng = np.random.default_rng(5)
    position = rng.uniform(-4, 4, (300, 7, 2)) * np.hypot(*BASIS[:2])
    position[:, 0] = 0
    covariance = np.full((300, 7, 3), [1e-2, 0, 1e-2])
    intensity = np.full((300, 7), 12.0)
    intensity[:, 0] = 2e4
    assert (fitted((position, covariance, intensity)).status == 0).mean() < 0.05


def test_quality_is_the_share_of_root_intensity_on_the_lattice():
    position, covariance, intensity = disks(np.r_[0.0, 0.0, BASIS], indices(1))
    position = np.concatenate([position, [[[2.0, 2.1]]]], axis=1)
    covariance = np.zeros((1, 10, 3))
    intensity = np.array([[4.0] * 9 + [81.0]])
    fit = fitted((position, covariance, intensity))
    assert fit.n_indexed == 9
    assert fit.quality == pytest.approx(16 / 25)  # without the direct beam


def test_disks_behind_gaps_count():
    position, covariance, intensity = disks(np.r_[0.1, 0.2, BASIS])
    position[:, :20] = np.nan
    intensity[:, :20] = np.nan
    covariance[:, :20] = np.nan
    fit = fitted((position, covariance, intensity))
    assert fit.n_indexed == 29
    np.testing.assert_allclose(fit.parameters[0], np.r_[0.1, 0.2, BASIS], atol=1e-7)


def test_disks_without_error_bars_are_weighted_by_their_scatter():
    rng = np.random.default_rng(8)
    truth = np.broadcast_to(np.r_[0.1, 0.2, BASIS], (300, 6))
    position, covariance, intensity = disks(truth, sigma=0.03, rng=rng)
    covariance[:] = np.nan
    fit = fitted((position, covariance, intensity))
    z = (fit.parameters - truth) / np.sqrt(
        np.diagonal(fit.covariance, axis1=1, axis2=2)
    )
    assert np.mean(np.abs(z) < 1) == pytest.approx(0.683, abs=0.08)


def test_positions_do_not_depend_on_those_beside_them():
    rng = np.random.default_rng(9)
    truth = np.broadcast_to(np.r_[0.1, -0.2, BASIS], (7, 6))
    data = disks(truth, sigma=0.05, rng=rng)
    whole = fitted(data)
    alone = fitted(tuple(d[3:4] for d in data))
    np.testing.assert_allclose(alone.parameters[0], whole.parameters[3], rtol=1e-12)


def test_no_positions_at_all():
    fit = fitted((np.zeros((0, 5, 2)), np.zeros((0, 5, 3)), np.zeros((0, 5))))
    assert fit.parameters.shape == (0, 6)
