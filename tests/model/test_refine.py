"""The fit of a disk has the last word on its position, where it can be believed."""

from types import SimpleNamespace

import numpy as np
import pytest
from fcunet_dask.kernels.aperture import disk_image
from fcunet_dask.kernels.camera import COUNTING
from fcunet_dask.kernels.rim import rim_positions
from fcunet_dask.model.refine import Refinement, make_refinement
from fcunet_dask.model.search import Candidates

RADIUS = 5.0


def candidates(position, covariance):
    m = len(position)
    return Candidates(
        np.zeros(m, int),
        np.array(position, float),
        np.full(m, 0.9),
        np.full(m, 0.8),
        np.array(covariance, float),
        {"probability": np.full(m, 0.9)},
    )


def fitted(monkeypatch, position, covariance, good):
    """Let the fit say this."""
    bad = np.where(good, 0.0, np.array(position, float)[:, 0])
    fits = SimpleNamespace(
        position=np.array(position, float),
        covariance=np.array(covariance, float),
        intensity=100.0 + bad,
    )
    answer = (fits, np.array(good))
    monkeypatch.setattr(Refinement, "fit", lambda *_: answer)
    monkeypatch.setattr(Refinement, "_with_rim", lambda *given: given[3])
    return Refinement(None, None, np.ones((9, 9)), np.ones((9, 9)), RADIUS, COUNTING)


def test_a_good_fit_takes_the_place_of_the_position(monkeypatch):
    refine = fitted(monkeypatch, [[10.2, 20.1]], [[0.01, 0.002, 0.09]], [True])
    prior = candidates([[10, 20]], [[0.04, 0, 0.03]])
    found = refine.outlined(None, prior)
    np.testing.assert_allclose(found.position, [[10.2, 20.1]], rtol=1e-12)
    expected = [[0.01 + 0.04, 0.002, 0.09 + 0.03]]
    np.testing.assert_allclose(found.covariance, expected)
    assert found.brightness == [100]
    assert found.extra["probability"] == [0.9]


@pytest.mark.parametrize(("sigmas", "kept"), [(3.9, False), (4.1, True)])
def test_a_fit_that_is_far_off_is_not_believed(monkeypatch, sigmas, kept):
    """The fillings may move either by 0.05 radii."""
    away = sigmas * np.sqrt(0.04 + 0.05 + 2 * (0.05 * RADIUS) ** 2)
    refine = fitted(monkeypatch, [[10 + away, 20]], [[0.05, 0, 0.05]], [True])
    prior = candidates([[10, 20]], [[0.04, 0, 0.04]])
    found = refine.outlined(None, prior)
    assert (found.position[0, 0] == 10) == kept
    expected = [[0.36, 0, 0.36]] if kept else [[0.09, 0, 0.09]]
    np.testing.assert_allclose(found.covariance, expected)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_a_failed_fit_leaves_the_position_of_the_network(monkeypatch, value):
    refine = fitted(
        monkeypatch,
        [[value, value], [10.2, 20.2]],
        [[value, value, value], [0.04, 0, 0.04]],
        [False, True],
    )
    prior = [[0.04, 0.01, 0.09], [0.04, 0, 0.04]]
    start = candidates([[10, 20], [10, 20]], prior)
    found = refine.outlined(None, start)
    np.testing.assert_array_equal(found.position[0], [10, 20])
    np.testing.assert_allclose(found.covariance[0], 9 * np.array(prior[0]))
    np.testing.assert_allclose(found.position[1], [10.2, 20.2])
    assert np.isfinite(found.brightness).all()


def test_the_mean_errs_less_than_network_and_outline(monkeypatch):
    """Independent normal errors: of the network as it says, of the fit by 0.1 radii."""
    rng = np.random.default_rng(6)
    true = np.full((4000, 2), [10.0, 20.0])
    sigma = rng.choice([0.2, 1.0], (4000, 1))
    network = true + sigma * rng.normal(size=true.shape)
    outline = true + 0.1 * RADIUS * rng.normal(size=true.shape)
    own = np.hstack([sigma**2, 0 * sigma, sigma**2])
    refine = fitted(monkeypatch, outline, np.full((4000, 3), 1e-6), [True] * 4000)
    prior = candidates(network, own)
    prior.image = np.arange(4000)
    found = refine.weighed(None, prior)
    best = np.sqrt(1 / (1 / sigma**2 + 1 / (0.1 * RADIUS) ** 2))
    for s in (0.2, 1.0):
        rows = sigma[:, 0] == s
        error = np.std((found.position - true)[rows])
        assert error == pytest.approx(float(best[rows][0, 0]), rel=0.05)
    np.testing.assert_array_equal(found.covariance, own)


def test_where_the_fit_fails_the_mean_is_the_networks_position(monkeypatch):
    refine = fitted(monkeypatch, [[np.nan, np.nan]], [[np.nan] * 3], [False])
    found = refine.weighed(None, candidates([[10, 20]], [[0.04, 0, 0.04]]))
    np.testing.assert_array_equal(found.position, [[10, 20]])
    np.testing.assert_array_equal(found.covariance, [[0.04, 0, 0.04]])


@pytest.fixture(scope="module")
def scene():
    """A disk that can be fitted, one behind a beam stop, and a place without any."""
    places = np.array([[20.3, 15.6], [20.0, 45.0], [45.0, 30.0]])
    mean = sum(disk_image((64, 64), tuple(p), RADIUS, 0.5) for p in places[:2])
    counts = np.random.default_rng(5).poisson(2000 * mean)[None]
    mask = np.ones((64, 64))
    mask[8:32, 34:58] = 0
    return places, counts * mask, make_refinement(mask, RADIUS, 0.5, structure=0.05)


def test_real_fits_are_used_where_there_is_a_disk_only(scene):
    places, counts, refine = scene
    start = places + np.array([0.4, -0.3])
    prior = candidates(start, [[0.2, 0, 0.2]] * 3)
    found = refine.outlined(counts, prior)
    assert np.abs(found.position[0] - places[0]).max() < 0.06
    assert found.covariance[0, 0] < 0.01 + 0.2
    np.testing.assert_array_equal(found.position[1:], start[1:])
    np.testing.assert_array_equal(found.covariance[1:], [[1.8, 0, 1.8]] * 2)
    assert np.isfinite(found.brightness).all()
    total = 2000 * np.pi * RADIUS**2
    assert found.brightness[0] == pytest.approx(total, rel=0.05)
    assert (found.brightness[1:] < 0.02 * total).all()


@pytest.mark.parametrize("way", ["outlined", "weighed", "lit"])
@pytest.mark.parametrize("second", [0.0, 0.5])
def test_a_second_mark_beside_a_disk_stays_if_there_is_a_second_disk(way, second):
    """Beside a bright disk with tails: a mark on these, or on a disk that overlaps."""
    places = np.array([[30.2, 30.7], [30.2, 37.5]])
    bright, other = (disk_image((64, 64), tuple(p), RADIUS, 0.5) for p in places)
    q = np.hypot(*(np.indices((64, 64)) - places[0][:, None, None]))
    mean = 2000 * (bright + second * other) + 400 * np.exp(-q / RADIUS) + 5
    counts = np.random.default_rng(7).poisson(mean)[None]
    refine = make_refinement(np.ones((64, 64)), RADIUS, 0.5, structure=0.05)
    start = candidates(places + 0.2, [[0.2, 0, 0.2]] * 2)
    start.brightness = np.array([0.99, 0.6])
    found = getattr(refine, way)(counts, start)
    assert len(found.position) == len(found.extra["probability"]) == 1 + (second > 0)
    assert np.abs(found.position[0] - places[0]).max() < 0.3


def test_fitted_only_drops_what_could_not_be_fitted(scene):
    places, counts, refine = scene
    found = refine.fitted_only(counts, candidates(places + 0.3, [[0.2, 0, 0.2]] * 3))
    assert np.abs(found.position - places[:1]).max() < 0.06
    assert len(found.extra["probability"]) == len(found.score) == 1


def test_rim_and_fit_each_count_half_where_there_is_no_noise():
    place = np.array([[24.2, 31.7]])
    y = np.arange(56)[:, None] - place[0, 0]
    filling = np.maximum(1 + 0.15 * y, 0)
    counts = 1e8 * (disk_image((56, 56), tuple(place[0]), RADIUS, 0.5) * filling)[None]
    refine = make_refinement(np.ones((56, 56)), RADIUS, 0.5, structure=0.001)
    prior = candidates(place, [[0.2, 0, 0.2]])
    fits, good = refine.fit(counts, prior)
    assert good.all()
    image = np.zeros(1, int)
    rim, _ = rim_positions(counts, refine.rim_mask, image, fits.position, refine.rim)
    assert np.abs(rim - fits.position).max() > 0.05
    found = refine.outlined(counts, prior)
    middle = 0.5 * (rim + fits.position)
    np.testing.assert_allclose(found.position, middle, atol=0.01)


def test_in_noise_the_fit_alone_counts():
    place = np.array([[24.2, 31.7]])
    mean = 0.3 * disk_image((56, 56), tuple(place[0]), RADIUS, 0.5) + 0.05
    counts = np.random.default_rng(4).poisson(mean, (200, 56, 56))
    refine = make_refinement(np.ones((56, 56)), RADIUS, 0.5, structure=0.05)
    n = np.arange(200)
    prior = candidates(np.repeat(place, 200, 0), [[0.2, 0, 0.2]] * 200)
    prior.image = n
    fits, good = refine.fit(counts, prior)
    found = refine.outlined(counts, prior)
    alone = np.std((fits.position - place)[good])
    assert good.sum() > 100
    assert np.std((found.position - place)[good]) < 1.1 * alone
