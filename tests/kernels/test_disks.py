"""Disks are where they were put, with the error bars that counting allows."""

import numpy as np
import pytest
from fcunet_dask.kernels.aperture import disk_image, normalized_aperture
from fcunet_dask.kernels.camera import CameraNoise
from fcunet_dask.kernels.disk_model import disk_model
from fcunet_dask.kernels.disks import (
    correlation_covariance,
    disk_deviances,
    fit_disks,
)
from fcunet_dask.kernels.windows import pad_mask
from hypothesis import given
from tests.strategies import quick, seeds

SHAPE = (64, 72)


def centres_of(rng, n, middle=(31, 37)):
    return np.array(middle) + rng.uniform(-0.5, 0.5, (n, 2))


def images(centres, radius, edge, height, background=0.0):
    return np.array(
        [
            height * disk_image(SHAPE, tuple(c), radius, edge) + background
            for c in centres
        ]
    )


def fitted(patterns, model, start, *, mask=None, rng=None, **options):
    """Fit one disk a pattern, beginning beside `start` as far as a search may err."""
    nearest = np.rint(start).astype(int)
    offset = (
        np.zeros(start.shape)
        if rng is None
        else start - nearest + rng.uniform(-0.3, 0.3, start.shape)
    )
    index = np.concatenate([np.arange(len(start))[None], nearest.T])
    kept = np.ones(SHAPE) if mask is None else mask.astype(float)
    return fit_disks(
        patterns, pad_mask(kept, model.half), index, offset, model, **options
    )


@quick
@given(seeds)
def test_noise_free_disks_have_no_bias(seed):
    rng = np.random.default_rng(seed)
    radius, edge = rng.uniform(1.5, 12), rng.uniform(0.4, 0.9)
    truth = centres_of(rng, 30)
    patterns = images(truth, radius, edge, rng.choice([3.0, 1e4]))
    model = disk_model(radius, edge, structure=0.1)
    fits = fitted(patterns, model, truth, rng=rng)
    assert np.abs(fits.position - truth).max() < 0.01


@pytest.mark.parametrize("structure", [0.0, 0.3, 1.0])
def test_intensity_is_the_sum_of_counts_above_background(structure):
    rng = np.random.default_rng(1)
    truth = centres_of(rng, 10)
    patterns = images(truth, 6.0, 0.5, 200.0, 30.0)
    fits = fitted(patterns, disk_model(6.0, 0.5, structure=structure), truth)
    area = np.pi * (6.0**2 + 0.5**2)
    np.testing.assert_allclose(fits.intensity, 200 * area, rtol=0.01)
    np.testing.assert_allclose(fits.background, 30.0, rtol=0.03)


def test_intensity_is_that_of_a_filled_disk_too():
    rng = np.random.default_rng(2)
    truth = centres_of(rng, 20)
    patterns = images(truth, 7.0, 0.5, 300.0)
    y, x = np.indices(SHAPE)
    for i, (cy, cx) in enumerate(truth):
        patterns[i] *= 1 - 0.9 * ((y - cy) ** 2 + (x - cx) ** 2) / 7.0**2  # dark rim
    total = patterns.sum(axis=(1, 2))
    fits = fitted(patterns, disk_model(7.0, 0.5, structure=0.5), truth)
    # 15 % wrong with the constant mode alone; nine modes do not follow the rim exactly
    np.testing.assert_allclose(fits.intensity, total, rtol=0.05)


def bullseye(shape, centre, radius):
    """Soft disk with three rings, as an aperture with thin walls makes."""
    y, x = np.indices(shape)
    r = np.hypot(y - centre[0], x - centre[1]) / radius
    rings = 0.6 + 0.4 * np.cos(2 * np.pi * 2.5 * r)
    return rings * disk_image(shape, centre, radius, 0.9)


def test_patterned_apertures_have_no_bias():
    rng = np.random.default_rng(3)
    probe = normalized_aperture(
        1e4 * bullseye(SHAPE, (30.2, 40.7), 9.0), (30.2, 40.7), 9.0
    )
    model = disk_model(9.0, 0.9, structure=0.1, image=probe, center=(30.2, 40.7))
    truth = centres_of(rng, 40)
    patterns = np.array([500 * bullseye(SHAPE, tuple(c), 9.0) for c in truth])
    fits = fitted(patterns, model, truth, rng=rng)
    assert np.abs((fits.position - truth).mean(axis=0)).max() < 0.01
    assert np.abs(fits.position - truth).max() < 0.03


@pytest.mark.parametrize("electrons", [300, 3000, 1e5])
def test_error_bars_are_those_of_poisson_noise(electrons):
    rng = np.random.default_rng(4)
    radius, edge = 5.0, 0.5
    truth = centres_of(rng, 600)
    height = electrons / (np.pi * radius**2)
    patterns = rng.poisson(images(truth, radius, edge, height, 0.02 * height))
    fits = fitted(patterns, disk_model(radius, edge, structure=0.003), truth, rng=rng)
    z = (fits.position - truth) / np.sqrt(fits.covariance[:, [0, 2]])
    assert np.mean(np.abs(z) < 1) == pytest.approx(0.683, abs=0.05)
    assert np.abs(z.mean(axis=0)).max() < 0.15


def test_gain_scales_intensity_and_not_the_position():
    rng = np.random.default_rng(5)
    truth = centres_of(rng, 200)
    electrons = rng.poisson(images(truth, 5.0, 0.5, 20.0, 0.3))
    model = disk_model(5.0, 0.5, structure=0.1)
    plain = fitted(electrons, model, truth)
    scaled = fitted(electrons * 150.0, model, truth, camera=CameraNoise(150.0))
    np.testing.assert_allclose(scaled.position, plain.position, atol=1e-4)
    np.testing.assert_allclose(scaled.covariance, plain.covariance, rtol=1e-3)
    np.testing.assert_allclose(scaled.intensity, 150 * plain.intensity, rtol=1e-3)


@pytest.mark.parametrize("sigma", [1.0, 4.0])
def test_error_bars_are_those_of_readout_noise_too(sigma):
    """Without a floor of the variance 61 and 33 % of the errors are within 1 σ."""
    rng = np.random.default_rng(17)
    truth = centres_of(rng, 600)
    light = rng.poisson(images(truth, 5.0, 0.5, 20.0, 0.2))
    counts = 7 * (light + rng.normal(0, sigma, light.shape)) + 90
    model = disk_model(5.0, 0.5, structure=0.003)
    camera = CameraNoise(7.0, 7 * sigma, 90.0)
    fits = fitted(counts, model, truth, rng=rng, camera=camera)
    z = (fits.position - truth) / np.sqrt(fits.covariance[:, [0, 2]])
    assert np.mean(np.abs(z) < 1) == pytest.approx(0.683, abs=0.05)
    assert np.abs(z.mean(axis=0)).max() < 0.15
    assert fits.background.mean() == pytest.approx(0.2 * 7, abs=0.3)


def test_pixels_that_readout_noise_drowns_weigh_as_much_as_bright_ones():
    """The best weights have the smallest errors: those of Poisson noise, larger ones."""
    rng = np.random.default_rng(18)
    truth = centres_of(rng, 600)
    light = rng.poisson(images(truth, 5.0, 0.5, 20.0, 0.0))
    counts = light + rng.normal(0, 4, light.shape)
    model = disk_model(5.0, 0.5, structure=0.003)
    best, poisson = (
        np.std(fitted(counts, model, truth, rng=rng, camera=c).position - truth)
        for c in (CameraNoise(1.0, 4.0), CameraNoise(1.0))
    )
    assert best < 0.85 * poisson


def test_a_smooth_filling_does_not_move_the_centre():
    rng = np.random.default_rng(6)
    truth = centres_of(rng, 60)
    patterns = images(truth, 8.0, 0.5, 1000.0)
    y, x = np.indices(SHAPE)
    mass = []
    for i, (cy, cx) in enumerate(truth):
        angle = rng.uniform(0, 2 * np.pi)
        along = (np.cos(angle) * (y - cy) + np.sin(angle) * (x - cx)) / 8.0
        patterns[i] *= 1 + 0.6 * along + 0.3 * np.cos(3 * along)
        weight = patterns[i] / patterns[i].sum()
        mass.append([(weight * y).sum() - cy, (weight * x).sum() - cx])
    fits = fitted(patterns, disk_model(8.0, 0.5, structure=0.5), truth, rng=rng)
    assert np.abs(fits.position - truth).max() < 0.05
    assert np.abs(mass).max() > 0.8  # what a centre of mass would say


@pytest.mark.parametrize("counts", [1e3, 1e5, 1e9])
@pytest.mark.parametrize("at", [(31, 44), (33, 36)], ids=["beside", "inside"])
def test_a_hot_pixel_is_an_outlier(counts, at):
    rng = np.random.default_rng(7)
    truth = centres_of(rng, 50)
    model = disk_model(5.0, 0.5, structure=0.1)
    patterns = rng.poisson(images(truth, 5.0, 0.5, 100.0, 1.0)).astype(np.float32)
    patterns[:, *at] = counts
    hot = fitted(patterns, model, truth, rng=rng)
    assert np.abs(hot.position - truth).max() < 0.15


@pytest.mark.parametrize("times", [3, 10])
def test_a_pixel_that_no_disk_explains_counts_less(times):
    """A cosmic ray at the rim, not so bright that it is left out at once."""
    rng = np.random.default_rng(15)
    truth = centres_of(rng, 50)
    model = disk_model(5.0, 0.5, structure=0.1)
    clean = rng.poisson(images(truth, 5.0, 0.5, 100.0, 1.0)).astype(np.float32)
    struck = clean.copy()
    struck[:, 31, 42] = times * 100.0
    error, least = (
        np.std(fitted(p, model, truth).position - truth) for p in (struck, clean)
    )
    assert error < 1.1 * least  # 4 × and 10 × if it counted in full


def test_a_disk_half_a_radius_away_is_reached():
    rng = np.random.default_rng(16)
    truth = centres_of(rng, 60)
    angle = rng.uniform(0, 2 * np.pi, 60)
    start = truth + 3.0 * np.stack([np.sin(angle), np.cos(angle)], -1)
    patterns = rng.poisson(images(truth, 6.0, 0.5, 100.0, 2.0))
    fits = fitted(patterns, disk_model(6.0, 0.5, structure=0.1), start)
    assert np.abs(fits.position - truth).max() < 0.3


@pytest.mark.parametrize("radius", [0.8, 1.5])
def test_a_sharp_spot_is_no_hot_pixel(radius):
    rng = np.random.default_rng(14)
    truth = centres_of(rng, 50)
    patterns = images(truth, radius, 0.3, 1e5)
    fits = fitted(patterns, disk_model(radius, 0.3, structure=0.05), truth, rng=rng)
    assert np.abs(fits.position - truth).max() < 0.05


def test_a_masked_half_leaves_the_other_half():
    rng = np.random.default_rng(8)
    truth = centres_of(rng, 300)
    mask = np.ones(SHAPE, bool)
    mask[:, 38:] = False
    patterns = rng.poisson(images(truth, 6.0, 0.5, 60.0, 0.5)).astype(np.float32)
    patterns[:, ~mask] = 5e4
    model = disk_model(6.0, 0.5, structure=0.05)
    half = fitted(patterns, model, truth, mask=mask)
    z = (half.position - truth) / np.sqrt(half.covariance[:, [0, 2]])
    assert np.mean(np.abs(z) < 1) == pytest.approx(0.683, abs=0.08)
    assert (half.covariance[:, 2] > half.covariance[:, 0]).all()


@pytest.mark.parametrize("middle", [(5, 37), (31, 4), (60, 68)])
def test_a_disk_cut_by_the_edge_of_the_detector(middle):
    rng = np.random.default_rng(9)
    truth = centres_of(rng, 100, middle)
    patterns = rng.poisson(images(truth, 6.0, 0.5, 60.0, 0.5))
    fits = fitted(patterns, disk_model(6.0, 0.5, structure=0.05), truth)
    z = (fits.position - truth) / np.sqrt(fits.covariance[:, [0, 2]])
    assert np.abs(z).max() < 6


@pytest.mark.parametrize(("gap", "bias"), [(3.0, 0.02), (0.5, 0.36)])
def test_disks_beside_one_another(gap, bias):
    rng = np.random.default_rng(10)
    truth = centres_of(rng, 100)
    beside = truth + np.array([0.0, 12.0 + gap])
    patterns = images(truth, 6.0, 0.5, 100.0) + images(beside, 6.0, 0.5, 100.0)
    fits = fitted(patterns, disk_model(6.0, 0.5, structure=0.05), truth)
    assert np.abs(fits.position - truth).max() < bias


@pytest.mark.parametrize("dtype", ["u1", "u2", ">u2", "i4", "f4", ">f4", "f8"])
def test_any_dtype_gives_the_same(dtype):
    truth = centres_of(np.random.default_rng(11), 5)
    patterns = np.rint(images(truth, 5.0, 0.5, 100.0))
    model = disk_model(5.0, 0.5, structure=0.1)
    found = fitted(patterns.astype(dtype), model, truth)
    np.testing.assert_array_equal(
        found.position, fitted(patterns, model, truth).position
    )


def test_nothing_to_fit_is_finite_and_vague():
    fits = fitted(
        np.zeros((2, *SHAPE)),
        disk_model(5.0, 0.5, structure=0.1),
        np.full((2, 2), 30.0),
    )
    assert np.isfinite(fits.position).all()
    assert (fits.covariance[:, 0] > 1).all()
    assert (fits.intensity < 1).all()


def test_behind_a_beam_stop_a_disk_stays_where_it_was_sought():
    """All that is known of it is that it is there, to ±2 px."""
    mask = np.ones(SHAPE, bool)
    mask[15:50, 20:60] = False
    model = disk_model(5.0, 0.5, structure=0.1)
    fits = fitted(np.ones((1, *SHAPE)), model, np.array([[31.0, 37.0]]), mask=mask)
    np.testing.assert_array_equal(fits.position, [[31, 37]])
    np.testing.assert_allclose(fits.covariance, [[4, 0, 4]], atol=1e-6)


def test_the_deviance_is_least_for_the_true_radius():
    rng = np.random.default_rng(12)
    truth = centres_of(rng, 60)
    patterns = rng.poisson(images(truth, 5.0, 0.5, 40.0, 0.5))
    index = np.concatenate([np.arange(60)[None], np.rint(truth).astype(int).T])
    radii = [4.6, 4.8, 5.0, 5.2, 5.4]
    totals = []
    for radius in radii:
        model = disk_model(radius, 0.5, structure=0.1, margin=8 - radius)
        padded = pad_mask(np.ones(SHAPE), model.half)
        args = (patterns, padded, index, np.zeros((60, 2)), model)
        totals.append(disk_deviances(*args).sum())
    assert radii[int(np.argmin(totals))] == 5.0


@pytest.mark.parametrize("sigma", [0.5, 3.0])
def test_the_deviance_is_least_for_the_true_edge_under_readout_noise(sigma):
    rng = np.random.default_rng(19)
    truth = centres_of(rng, 400)
    light = rng.poisson(images(truth, 5.0, 0.5, 20.0, 0.1))
    counts = light + rng.normal(0, sigma, light.shape)
    index = np.concatenate([np.arange(400)[None], np.rint(truth).astype(int).T])
    edges = [0.2, 0.35, 0.5, 0.7, 1.0, 1.5]
    totals = []
    for edge in edges:
        model = disk_model(5.0, edge, structure=0.1)
        padded = pad_mask(np.ones(SHAPE), model.half)
        args = (counts, padded, index, np.zeros((400, 2)), model)
        totals.append(disk_deviances(*args, CameraNoise(1.0, sigma)).sum())
    assert edges[int(np.argmin(totals))] == 0.5


@pytest.mark.parametrize("sigma", [0.0, 4.0])
def test_the_covariance_of_a_correlation_is_its_scatter(sigma):
    rng = np.random.default_rng(13)
    radius = 5.0
    centre = np.full((300, 2), [31.0, 37.0])
    middle = disk_image(SHAPE, (32, 36), radius, 0.7)
    kernel = np.fft.rfft2(np.roll(middle, (-32, -36), (0, 1)))
    patterns = rng.poisson(images(centre, radius, 0.7, 30.0, 1.0))
    patterns = patterns + rng.normal(0, sigma, patterns.shape)
    images_ft = np.fft.rfft2(patterns) * np.conj(kernel)
    correlation = np.fft.irfft2(images_ft, s=SHAPE)
    near = correlation[:, 31 - 1 : 31 + 2, 37 - 1 : 37 + 2]
    peak = 0.5 * (near[:, 2, 1] - near[:, 0, 1])
    peak = peak / (2 * near[:, 1, 1] - near[:, 2, 1] - near[:, 0, 1])
    index = np.concatenate([np.arange(300)[None], np.rint(centre).astype(int).T])
    model = disk_model(radius, 0.7, structure=0.1)
    padded = pad_mask(np.ones(SHAPE), model.half)
    camera = CameraNoise(readout=sigma)
    said = correlation_covariance(
        patterns, padded, index, np.zeros((300, 2)), model, camera
    )
    assert np.sqrt(said[:, 0].mean()) == pytest.approx(peak.std(), rel=0.25)


def test_a_correlation_knows_that_faint_disks_are_uncertain():
    """Five electrons: their own scatter, whether or not one of them is on the rim."""
    rng = np.random.default_rng(20)
    model = disk_model(5.0, 0.5, structure=0.0)
    mean = disk_image((40, 40), (20.0, 20.0), 5.0, 0.5)
    patterns = rng.poisson(5 * mean / mean.sum(), (300, 40, 40))
    index = np.stack([np.arange(300), np.full(300, 20), np.full(300, 20)])
    mask = pad_mask(np.ones((40, 40)), model.half)
    covariance = correlation_covariance(
        patterns, mask, index, np.zeros((300, 2)), model
    )
    enough = patterns[:, 15:26, 15:26].sum(axis=(1, 2)) > 1
    assert np.sqrt(covariance[enough, 0]).min() > 0.3


def test_a_model_moves_to_the_device_of_its_data():
    model = disk_model(3.0, 0.5, structure=0.2)
    same = model.on_device_of(np.zeros(1))
    np.testing.assert_array_equal(same.table, model.table)


@pytest.mark.parametrize("height", [400.0, 4000.0])
@pytest.mark.parametrize("share", [0.75, 0.25, 0.1])
def test_saturated_disks_are_found_by_what_is_left_of_their_rims(share, height):
    """Ten times too bright, too; without a word of it a few times their error bars off."""
    rng = np.random.default_rng(7)
    truth = centres_of(rng, 200)
    patterns = rng.poisson(images(truth, 5.0, 0.5, height, 5.0))
    patterns = np.minimum(patterns, int(share * height))
    model = disk_model(5.0, 0.5, structure=0.05)
    camera = CameraNoise(saturation=int(share * height))
    fits = fitted(patterns, model, truth, rng=rng, camera=camera, steps=(2, 2))
    pulls = (fits.position - truth) / np.sqrt(fits.covariance[:, [0, 2]])
    assert (np.abs(pulls) < 1).mean() > 0.64
    error = np.sqrt(((fits.position - truth) ** 2).mean())
    assert error == pytest.approx(0, abs=0.6 / np.sqrt(height))
    area = np.pi * (5.0**2 + 0.5**2)
    assert fits.intensity.mean() == pytest.approx(height * area, rel=0.05)


def test_a_level_that_no_pixel_reads_changes_nothing():
    rng = np.random.default_rng(8)
    truth = centres_of(rng, 50)
    patterns = rng.poisson(images(truth, 5.0, 0.5, 400.0, 5.0))
    model = disk_model(5.0, 0.5, structure=0.3)
    plain, cut = (
        fitted(patterns, model, truth, camera=CameraNoise(saturation=level))
        for level in (0.0, 1e4)
    )
    for name in ("position", "covariance", "intensity"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(cut, name))
