"""Correlations against their definitions, one window at a time."""

import numpy as np
import pytest
import scipy.signal
from fcunet_dask.kernels.correlation import (
    bin_patterns,
    noise_level,
    normalized_correlation,
    normalized_template,
    power_correlation,
)
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import quick, seeds


def to_corner(image):
    return np.roll(image, (-(image.shape[0] // 2), -(image.shape[1] // 2)), (0, 1))


def disk(shape, radius):
    y, x = np.indices(shape)
    r = np.hypot(y - shape[0] // 2, x - shape[1] // 2)
    return np.clip(radius + 0.5 - r, 0, 1), (r < 1.4 * radius).astype(float)


@quick
@given(seeds, st.integers(1, 4), st.integers(4, 13), st.integers(4, 13))
def test_binning_is_the_sum_of_pixels(seed, factor, rows, columns):
    counts = np.random.default_rng(seed).integers(0, 50, (3, rows, columns))
    y, x = rows // factor, columns // factor
    cut = counts[:, : y * factor, : x * factor]
    plain = cut.reshape(3, y, factor, x, factor).sum(axis=(2, 4))
    np.testing.assert_array_equal(bin_patterns(counts, factor), plain)


@pytest.mark.parametrize("dtype", ["u1", "u2", ">u2", "u4", "i2", "f4", ">f4", "f8"])
def test_binning_takes_any_dtype(dtype):
    counts = np.full((2, 4, 6), 100, dtype)
    binned = bin_patterns(counts, 2)
    assert binned.dtype == np.float32
    assert (binned == 400).all()


def test_binning_leaves_its_input_alone():
    counts = np.ones((1, 4, 4), np.float32)
    bin_patterns(counts, 2)
    assert (counts == 1).all()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", [(24, 31), (25, 28)])
def test_normalized_correlation_is_pearsons_in_every_window(masked, shape):
    rng = np.random.default_rng(1)
    aperture, window = disk(shape, 3.0)
    mask = (rng.random(shape) > 0.15) if masked else np.ones(shape, bool)
    counts = rng.poisson(20 * np.roll(aperture, (2, -3), (0, 1)) + 6, (2, *shape))
    template = np.sqrt(aperture)
    prepared = normalized_template(
        to_corner(template), to_corner(window), mask.astype(float)
    )
    found, _ = normalized_correlation(counts.astype(np.float32), prepared, floor=0.0)
    half = 5
    centre = np.s_[
        shape[0] // 2 - half : shape[0] // 2 + half + 1,
        shape[1] // 2 - half : shape[1] // 2 + half + 1,
    ]
    for y in range(half, shape[0] - half):
        for x in range(half, shape[1] - half):
            here = np.s_[y - half : y + half + 1, x - half : x + half + 1]
            use = (window[centre] > 0) & mask[here]
            pair = np.sqrt(counts[1][here][use]), template[centre][use]
            truth = np.corrcoef(*pair)[0, 1]
            assert found[1, y, x] == pytest.approx(truth, abs=2e-3)


def test_strength_has_a_noise_of_a_half():
    rng = np.random.default_rng(2)
    aperture, window = disk((64, 64), 4.0)
    prepared = normalized_template(
        to_corner(np.sqrt(aperture)), to_corner(window), np.ones((64, 64))
    )
    counts = rng.poisson(30.0, (8, 64, 64)).astype(np.float32)
    _, strength = normalized_correlation(counts, prepared)
    assert strength.std() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("electrons", "read_noise", "level"),
    [(100, 0, 0.5), (100, 10, 0.5 * np.sqrt(2)), (0.02, 0, 0.2), (30, 40, 1.25)],
    ids=["counting", "noisy", "hardly any", "hopeless"],
)
def test_the_noise_is_that_of_electrons_and_camera(electrons, read_noise, level):
    """½ √(1 + σ² / λ), 0.2 to 1.25; two thirds of the detector measure nothing."""
    rng = np.random.default_rng(5)
    aperture, window = disk((64, 64), 4.0)
    mask = np.zeros((64, 64))
    mask[:, :22] = 1
    prepared = normalized_template(
        to_corner(np.sqrt(aperture)), to_corner(window), mask
    )
    counts = rng.poisson(electrons, (40, 64, 64))
    counts = counts + read_noise * rng.normal(size=counts.shape)
    _, strength = normalized_correlation(counts.astype(np.float32), prepared)
    assert noise_level(strength, prepared, counts).mean() == pytest.approx(
        level, rel=0.1
    )


def test_empty_patterns_are_like_nothing():
    aperture, window = disk((32, 32), 4.0)
    prepared = normalized_template(
        to_corner(np.sqrt(aperture)), to_corner(window), np.ones((32, 32))
    )
    likeness, strength = normalized_correlation(np.zeros((1, 32, 32), "f4"), prepared)
    assert np.abs(likeness).max() < 1e-6
    assert np.abs(strength).max() < 1e-6


@pytest.mark.parametrize("shape", [(20, 26), (21, 25)])
def test_cross_correlation_is_that_of_scipy(shape):
    rng = np.random.default_rng(3)
    pattern = rng.uniform(size=shape)
    kernel, _ = disk(shape, 2.5)
    spectrum = np.conj(np.fft.rfft2(to_corner(kernel))).astype(np.complex64)
    found = power_correlation(pattern[None].astype(np.float32), spectrum, 1.0)[0]
    half = 4
    small = kernel[
        shape[0] // 2 - half : shape[0] // 2 + half + 1,
        shape[1] // 2 - half : shape[1] // 2 + half + 1,
    ]
    plain = scipy.signal.correlate2d(pattern, small, mode="same", boundary="wrap")
    np.testing.assert_allclose(found, plain, rtol=1e-4)


def test_hybrid_correlation_is_its_definition():
    rng = np.random.default_rng(4)
    pattern = rng.uniform(size=(1, 18, 22)).astype(np.float32)
    kernel, _ = disk((18, 22), 2.5)
    spectrum = np.conj(np.fft.fft2(to_corner(kernel)))
    product = np.fft.fft2(pattern[0]) * spectrum
    plain = np.fft.ifft2(np.abs(product) ** 0.8 * np.exp(1j * np.angle(product))).real
    half = np.conj(np.fft.rfft2(to_corner(kernel))).astype(np.complex64)
    found = power_correlation(pattern, half, 0.8)[0]
    np.testing.assert_allclose(found, np.maximum(plain, 0), atol=2e-3 * plain.max())


def test_phase_correlation_is_a_spike_at_the_shift():
    aperture, _ = disk((32, 36), 4.0)
    moved = np.roll(to_corner(aperture), (9, 21), (0, 1))
    kernel_ft = np.conj(np.fft.rfft2(to_corner(aperture))).astype(np.complex64)
    found = power_correlation(moved[None].astype(np.float32), kernel_ft, 0.0)[0]
    assert np.unravel_index(found.argmax(), found.shape) == (9, 21)
    assert np.sort(found.ravel())[-2] < 0.5 * found.max()


@pytest.mark.parametrize("floor", [0.003, 0.03, 0.1, 0.3, 1.0, 3.0])
def test_little_readout_noise_is_less_than_a_half(floor):
    """Of the root of what is cut at 0, which is no longer ½."""
    aperture, window = disk((64, 64), 4.0)
    prepared = normalized_template(
        to_corner(np.sqrt(aperture)), to_corner(window), np.ones((64, 64))
    )
    noise = np.random.default_rng(13).normal(0, np.sqrt(floor), (20, 64, 64))
    counts = (noise + floor).astype(np.float32)
    strength = normalized_correlation(counts, prepared)[1]
    np.testing.assert_allclose(
        noise_level(strength, prepared, counts, floor).mean(),
        np.clip(strength.std(), 0.2, 0.5),
        rtol=0.06,
    )


@pytest.mark.parametrize("electrons", [0.0, 3.0])
def test_the_noise_of_readout_is_a_half_whatever_fills_the_pattern(electrons):
    """Disks in every place: what they are would else pass for noise."""
    rng = np.random.default_rng(12)
    shape, floor = (64, 64), 25.0
    aperture, window = disk(shape, 2.4)
    prepared = normalized_template(
        to_corner(aperture), to_corner(window), np.ones(shape)
    )
    disks = sum(
        np.roll(aperture, (y, x), (0, 1))
        for y in range(0, 64, 8)
        for x in range(0, 64, 8)
    )
    counts = rng.poisson(60 * disks + electrons, (20, *shape))
    counts = (counts + rng.normal(0, 5, counts.shape) + floor).astype(np.float32)
    strength = normalized_correlation(counts, prepared)[1]
    assert noise_level(strength, prepared, counts).mean() > 1.2
    known = noise_level(strength, prepared, counts, floor)
    assert (known >= 0.45).all()
    assert (known < 0.65 + 0.05 * electrons).all()
    alone = rng.normal(floor, 5, counts.shape).astype(np.float32)
    strength = normalized_correlation(alone, prepared)[1]
    assert strength.std() == pytest.approx(0.5, rel=0.1)
    np.testing.assert_allclose(
        noise_level(strength, prepared, alone, floor), 0.5, atol=0.06
    )
