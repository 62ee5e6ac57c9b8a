"""Maxima and their limits against plain loops."""

import numpy as np
import pytest
import scipy.fft
from fcunet_dask.kernels.maxima import (
    PeakLimits,
    local_maxima,
    pad_by_image,
    parabola_offsets,
    select_peaks,
    upsampled_offsets,
)
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import quick, seeds


def plain_maxima(images, minimum, edge):
    found = []
    _, rows, columns = images.shape
    for i, image in enumerate(images):
        for y in range(edge, rows - edge):
            for x in range(edge, columns - edge):
                around = image[y - 1 : y + 2, x - 1 : x + 2].ravel()
                others = np.delete(around, 4)
                if image[y, x] > minimum and (image[y, x] > others).all():
                    found.append((i, y, x))
    return found


@quick
@given(seeds, st.integers(1, 3), st.integers(4, 12), st.integers(4, 12))
def test_local_maxima_are_those_of_a_loop(seed, edge, rows, columns):
    images = np.random.default_rng(seed).normal(size=(3, rows, columns))
    found = local_maxima(images, 0.2, edge)
    assert [tuple(p) for p in found.T] == plain_maxima(images, 0.2, edge)


@pytest.mark.parametrize("size", [(1, 2), (2, 1), (2, 2), (1, 3)])
def test_a_plateau_is_one_maximum(size):
    image = np.zeros((1, 9, 9))
    image[0, 4 : 4 + size[0], 3 : 3 + size[1]] = 1
    assert local_maxima(image, 0.5, 1).shape[1] == 1


def test_edges_as_wide_as_the_image_leave_nothing():
    assert local_maxima(np.ones((2, 6, 20)), 0.0, 3).shape == (3, 0)


def test_nan_is_no_maximum():
    image = np.full((1, 5, 5), np.nan)
    assert local_maxima(image, 0.0, 1).shape == (3, 0)


@quick
@given(st.floats(-0.49, 0.49), st.floats(-0.49, 0.49))
def test_parabola_is_exact_for_a_paraboloid(dy, dx):
    y, x = np.indices((7, 8))
    image = 10 - 2 * (y - 3 - dy) ** 2 - 0.5 * (x - 4 - dx) ** 2
    found = parabola_offsets(image[None], np.array([[0], [3], [4]]))
    np.testing.assert_allclose(found, [[dy, dx]], atol=1e-6)


@quick
@given(
    st.floats(-0.95, 0.95),
    st.floats(-0.95, 0.95),
    st.sampled_from([(32, 32), (31, 33), (24, 40), (33, 24)]),
)
def test_dft_is_exact_for_band_limited_images(dy, dx, shape):
    middle = np.array([shape[0] // 2 + dy, shape[1] // 2 + dx])
    y, x = (np.arange(n) - m for n, m in zip(shape, middle, strict=True))
    image = np.exp(-(np.hypot(y[:, None], x) ** 2) / (2 * 2.0**2))
    spectrum = scipy.fft.rfft2(image)[None].astype(np.complex64)
    start = np.array([[shape[0] // 2, shape[1] // 2]])
    found = upsampled_offsets(spectrum, start, 16, shape)
    np.testing.assert_allclose(found, [[dy, dx]], atol=2e-3)


def plain_selection(position, brightness, limits):
    """Greedy, one peak after another, brightest first."""
    order = np.argsort(-brightness, kind="stable")
    ranked = brightness[order]
    least = limits.min_absolute
    if limits.min_relative > 0:
        rank = min(limits.relative_to, len(ranked) - 1)
        least = max(least, limits.min_relative * ranked[rank])
    kept = []
    for i in order:
        near = [np.hypot(*(position[i] - position[j])) for j in kept]
        if brightness[i] >= least and all(d >= limits.min_spacing for d in near):
            kept.append(i)
    return kept[: limits.max_peaks]


@quick
@given(
    seeds,
    st.sampled_from([0.0, 0.3, 0.8]),
    st.sampled_from([0.0, 0.4]),
    st.integers(0, 3),
    st.sampled_from([0.0, 2.0, 6.0]),
    st.sampled_from([3, 100]),
)
def test_limits_are_those_of_a_greedy_loop(seed, absolute, relative, to, spacing, most):
    rng = np.random.default_rng(seed)
    counts = [25, 8, 14]
    image = rng.permutation(np.repeat([0, 2, 3], counts))
    position = rng.uniform(0, 20, (len(image), 2))
    brightness = rng.uniform(0, 2, len(image))
    limits = PeakLimits(spacing, 0.0, absolute, relative, to, most)
    table = pad_by_image(image, brightness, 4, max(counts))
    keep = select_peaks(table, position, brightness, limits)
    for i in range(4):
        own = np.flatnonzero(image == i)
        plain = (
            plain_selection(position[own], brightness[own], limits) if len(own) else []
        )
        assert table[i][keep[i]].tolist() == own[plain].tolist()


def test_a_full_row_drops_the_faintest():
    brightness = np.array([1.0, 3.0, 2.0])
    table = pad_by_image(np.zeros(3, int), brightness, 2, 2)
    assert table.tolist() == [[1, 2], [-1, -1]]


def test_fewer_peaks_than_relative_to_refer_to_the_last():
    brightness = np.array([10.0, 4.0, 1.0, 5.0, 5.0, 5.0, 5.0])
    image = np.array([0, 0, 0, 1, 1, 1, 1])
    table = pad_by_image(image, brightness, 2, 4)
    limits = PeakLimits(0.0, 0.0, min_relative=0.9, relative_to=3)
    keep = select_peaks(table, np.zeros((7, 2)), brightness, limits)
    assert keep.sum(axis=1).tolist() == [3, 4]
