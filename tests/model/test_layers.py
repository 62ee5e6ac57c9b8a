"""Layers against direct sums."""

import numpy as np
import pytest
from fcunet_dask.kernels.aperture import disk_image
from fcunet_dask.model.layers import (
    ComplexConcatenate,
    ComplexConv2D,
    DepthToSpace,
    InverseFourier,
    ProbeCorrelation,
    ProbeSpectrum,
    RootIntensity,
    SpaceToDepth,
    SpectralGate,
)


@pytest.fixture
def rng():
    return np.random.default_rng(6)


def test_complex_convolution_is_one(rng):
    image = rng.normal(size=(2, 7, 9, 6)).astype(np.float32)
    layer = ComplexConv2D(2, 3)
    layer.build(image.shape)
    kernel = rng.normal(size=(3, 3, 3, 4)).astype(np.float32)
    bias = rng.normal(size=4).astype(np.float32)
    layer.set_weights([kernel, bias])
    z = np.pad(image[..., :3] + 1j * image[..., 3:], ((0, 0), (1, 1), (1, 1), (0, 0)))
    k = kernel[..., :2] + 1j * kernel[..., 2:]
    expected = sum(
        z[:, i : i + 7, j : j + 9] @ k[i, j] for i in range(3) for j in range(3)
    )
    expected = np.concatenate([expected.real, expected.imag], -1) + bias
    found = layer(image)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert layer.compute_output_shape(image.shape) == found.shape


def test_complex_images_are_stacked_half_by_half(rng):
    a, b = rng.normal(size=(1, 2, 3, 4)), rng.normal(size=(1, 2, 3, 6))
    found = np.asarray(ComplexConcatenate()([a, b]))
    z = np.concatenate([a[..., :2] + 1j * a[..., 2:], b[..., :3] + 1j * b[..., 3:]], -1)
    np.testing.assert_allclose(found[..., :5] + 1j * found[..., 5:], z, rtol=1e-6)


def test_folding_keeps_every_pixel_where_it_says(rng):
    image = rng.normal(size=(2, 6, 8, 3)).astype(np.float32)
    folded = np.asarray(SpaceToDepth()(image))
    assert folded.shape == SpaceToDepth().compute_output_shape(image.shape)
    for i in (0, 1):
        for j in (0, 1):
            part = folded[..., 3 * (2 * i + j) : 3 * (2 * i + j + 1)]
            np.testing.assert_array_equal(part, image[:, i::2, j::2])
    np.testing.assert_array_equal(DepthToSpace()(folded), image)


def test_a_gate_moves_with_the_image(rng):
    image = rng.normal(size=(2, 12, 10, 4)).astype(np.float32)
    layer = SpectralGate(3)
    plain = np.asarray(layer(image))
    assert plain.shape == (2, 12, 10, 6)
    assert plain.std() > 0.01
    moved = layer(np.roll(image, (5, 3), (1, 2)))
    np.testing.assert_allclose(
        moved, np.roll(plain, (5, 3), (1, 2)), atol=2e-6 * np.abs(plain).max() * 10
    )


def test_an_open_gate_lets_the_mixture_through(rng):
    """Without attenuation the layer is two matrices, and the mean is gone."""
    image = rng.normal(size=(1, 8, 8, 4)).astype(np.float32)
    layer = SpectralGate(2)
    layer.build(image.shape)
    into, _, _, out_of = layer.get_weights()
    layer.set_weights([into, np.zeros(2), np.full(2, 50.0), out_of])
    mixed = (image - image.mean(axis=(1, 2))) @ into @ out_of
    np.testing.assert_allclose(layer(image), mixed, atol=1e-5)


@pytest.mark.parametrize("dose", [7.0, 1000.0])
def test_the_dose_drops_out(dose, rng):
    counts = rng.poisson(5.0, (2, 16, 20, 1)).astype(np.float32)
    mask = (rng.random(counts.shape) < 0.8).astype(np.float32)
    plain = np.asarray(RootIntensity()([counts, mask]))
    found = RootIntensity()([dose * counts, mask])
    np.testing.assert_allclose(found, plain, atol=1e-5)
    inside = mask.astype(bool)
    for one, here in zip(plain, inside, strict=True):
        assert one[here].mean() == pytest.approx(0, abs=1e-5)
        assert one[here].std() == pytest.approx(1, abs=1e-4)
        assert not one[~here].any()


def test_pixels_that_do_not_measure_are_not_seen(rng):
    counts = rng.poisson(5.0, (2, 16, 20, 1)).astype(np.float32)
    mask = (rng.random(counts.shape) < 0.8).astype(np.float32)
    other = np.where(mask > 0, counts, 1e6 * rng.random(counts.shape))
    np.testing.assert_array_equal(
        RootIntensity()([counts, mask]), RootIntensity()([other, mask])
    )


def test_a_flat_or_empty_pattern_is_zero():
    mask = np.ones((2, 8, 8, 1), np.float32)
    counts = np.stack([np.zeros((8, 8, 1)), np.full((8, 8, 1), 9.0)])
    found = np.asarray(RootIntensity()([counts.astype(np.float32), mask]))
    assert np.abs(found).max() < 1e-3


RADIUS, SHAPE = 3.5, (40, 48)


@pytest.fixture
def scene(rng):
    """√counts of disks, and the probe."""
    probe = 1e4 * disk_image(SHAPE, (20, 24), RADIUS, 0.4)
    places = [(9.0, 11.0), (20.0, 30.0), (31.0, 14.0)]
    mean = 5 + sum(60 * disk_image(SHAPE, p, RADIUS, 0.4) for p in places)
    root = np.sqrt(rng.poisson(mean))
    root = (root - root.mean()) / root.std()
    shape = (1, *SHAPE, 1)
    return root.reshape(shape).astype(np.float32), probe.reshape(shape), places


def test_correlation_moves_with_the_pattern(scene):
    image, probe, _ = scene
    plain = np.asarray(ProbeCorrelation()([image, probe]))
    moved = ProbeCorrelation()([np.roll(image, (7, -11), (1, 2)), probe])
    np.testing.assert_allclose(moved, np.roll(plain, (7, -11), (1, 2)), atol=2e-4)


def test_likeness_is_pearsons_in_the_window(scene):
    """With 5 % of the typical variance added, which keeps noise from being likely."""
    image, probe, places = scene
    found = np.asarray(ProbeCorrelation()([image, probe]))[0, ..., 1] / 3
    y, x = np.indices(SHAPE) - np.array([20, 24]).reshape(2, 1, 1)
    window = 1 / (1 + np.exp((np.hypot(y, x) - 1.35 * RADIUS - 0.5) / 0.5))
    window /= window.sum()
    template = np.sqrt(probe[0, ..., 0])
    r, variance = np.empty(SHAPE), np.empty(SHAPE)
    for at in np.ndindex(SHAPE):
        part = np.roll(image[0, ..., 0], (20 - at[0], 24 - at[1]), (0, 1))
        a = part - (window * part).sum()
        b = template - (window * template).sum()
        variance[at] = (window * a * a).sum()
        r[at] = (window * a * b).sum() / np.sqrt(variance[at] * (window * b * b).sum())
    damping = np.sqrt(variance / (variance + 0.05 * variance.mean() + 1e-6))
    np.testing.assert_allclose(found, r * damping, atol=0.03)
    for y0, x0 in places:
        assert found[int(y0), int(x0)] > 0.85
    assert found.max() <= 1


def test_the_last_channel_is_the_plain_correlation(scene):
    image, probe, _ = scene
    found = np.asarray(ProbeCorrelation()([image, probe]))[0]
    np.testing.assert_allclose(found[..., 0], image[0, ..., 0], atol=1e-6)
    assert np.sqrt((found[..., 2] ** 2).mean()) == pytest.approx(1, abs=1e-3)
    assert np.unravel_index(found[..., 2].argmax(), SHAPE) in [
        (9, 11),
        (20, 30),
        (31, 14),
    ]


@pytest.mark.parametrize("shape", [(8, 8), (7, 12), (9, 5)])
def test_spectrum_and_back_is_the_correlation(shape, rng):
    image, probe = rng.random((2, 1, *shape, 1)).astype(np.float32)
    found = InverseFourier()(ProbeSpectrum()([image, probe]))
    a, b = image[0, ..., 0].astype(float), probe[0, ..., 0].astype(float)
    middle = np.array(shape) // 2
    expected = np.empty(shape)
    for at in np.ndindex(shape):
        shift = middle - at
        expected[at] = (np.roll(a, tuple(shift), (0, 1)) * b).sum()
    expected *= np.sqrt(a.size / (np.abs(np.fft.fft2(expected)) ** 2).sum())
    np.testing.assert_allclose(np.asarray(found)[0, ..., 0], expected, atol=1e-5)
