import numpy as np
import pytest
from fcunet_dask.kernels.detector import (
    Distortion,
    beam_stop,
    diffuse,
    halo,
    inelastic,
    point_spread,
    warp,
)
from hypothesis import given, settings
from hypothesis import strategies as st

SIZE = 96
AXIS = np.arange(SIZE) - SIZE // 2


def disk(y, x, radius=6.0):
    r = np.hypot(AXIS[:, None] - y, AXIS - x)
    return np.clip(radius - r + 0.5, 0, 1).astype(np.float32)


def center(image):
    return np.array([image.sum(1) @ AXIS, image.sum(0) @ AXIS]) / image.sum()


small = st.floats(-0.03, 0.03)


@given(small, st.floats(0, np.pi), small, small, st.tuples(small, small))
@settings(max_examples=40, deadline=None)
def test_distortion_and_its_inverse_undo_each_other(e, angle, scale, barrel, shift):
    bend = Distortion(ellipse=e, angle=angle, scale=scale, barrel=barrel, shift=shift)
    q = np.random.default_rng(0).uniform(-40, 40, (50, 2))
    there = bend.apply(q, 48.0)
    np.testing.assert_allclose(bend.invert(there, 48.0), q, atol=1e-5)


def test_ellipse_stretches_along_its_angle():
    bend = Distortion(ellipse=0.02, angle=np.pi / 2)  # along +y
    moved = bend.apply(np.array([[10.0, 0.0], [0.0, 10.0]]), 48.0)
    np.testing.assert_allclose(moved, [[10.1, 0], [0, 9.9]], atol=1e-12)
    oblique = Distortion(ellipse=0.02, angle=np.pi / 4)
    along = np.array([[1.0, 1.0]])  # +y and +x alike
    np.testing.assert_allclose(oblique.apply(along, 48.0), 1.01 * along, atol=1e-12)


@pytest.mark.parametrize(
    "bend",
    [
        Distortion(ellipse=0.03, angle=0.7),
        Distortion(scale=0.02, shift=(0.05, -0.03)),
        Distortion(barrel=0.02),
        Distortion(ellipse=0.02, angle=2.0, scale=-0.01, barrel=0.01, shift=(0.02, 0)),
    ],
)
def test_a_warped_disk_lies_where_the_truth_went(bend):
    for place in ([20.3, -11.7], [-5.2, 28.9], [0.0, 0.0]):
        image = warp(disk(*place), bend)
        expected = bend.apply(np.array(place), SIZE / 2)
        assert np.abs(center(image) - expected).max() < 0.03
        assert image.sum() == pytest.approx(disk(*place).sum(), rel=0.005)


def test_losses_keep_the_total_and_spread_as_a_lorentzian():
    image = np.zeros((SIZE, SIZE), np.float32)
    image[SIZE // 2, SIZE // 2] = 1
    out = inelastic(image, 0.02, 0.3, 0.08, 0.9)
    assert out.sum() == pytest.approx(1, abs=1e-5)
    assert out[SIZE // 2, SIZE // 2] > 0.7
    q = np.array([5, 10, 20, 40])
    line = out[SIZE // 2, SIZE // 2 + q]
    expected = 1 / ((q * 0.02) ** 2 + 0.08**2)
    np.testing.assert_allclose(line / line[0], expected / expected[0], rtol=1e-3)
    # a peak much narrower than a pixel stays within it
    narrow = inelastic(image, 0.02, 1.0, 0.001, 0.9)
    assert narrow[SIZE // 2, SIZE // 2] > 0.3


def test_point_spread_has_the_width_and_the_total_it_should():
    image = np.zeros((2, SIZE, SIZE), np.float32)
    image[:, 40, 50] = [1, 3]
    out = point_spread(image, 1.3, 0.0, 5.0)
    # a lone pixel rings at the level of the transfer at Nyquist, exp(−π²σ²/2)
    np.testing.assert_allclose(
        out.sum((1, 2)), [1, 3], rtol=np.exp(-((np.pi * 1.3) ** 2) / 2)
    )
    y = np.arange(SIZE) - 40
    near = np.where(np.abs(y) < 8, y**2, 0)
    assert out[0].sum(1) @ near == pytest.approx(1.3**2, rel=2e-3)
    tails = point_spread(image, 0.5, 0.3, 4.0)[0]
    far = np.hypot(y[:, None], np.arange(SIZE) - 50) > 6
    # ∫ r e^{−r/r₀} beyond R: (1 + R/r₀) e^{−R/r₀}
    assert tails[far].sum() == pytest.approx(0.3 * 2.5 * np.exp(-1.5), rel=0.05)


def test_point_spread_takes_noise_of_both_signs():
    noise = np.random.default_rng(0).normal(size=(SIZE, SIZE)).astype(np.float32)
    spread = [point_spread(sign * noise, 1.0, 0.2, 4.0) for sign in (1, -1)]
    np.testing.assert_allclose(spread[0], -spread[1], atol=1e-6)
    assert spread[0].min() < -0.1


def test_backgrounds_have_unit_sum_and_their_radius():
    broad = diffuse((SIZE, SIZE), 0.02, 0.3)
    assert broad.sum() == pytest.approx(1, abs=1e-5)
    r = np.hypot(AXIS[:, None], AXIS) * 0.02
    assert broad[48, 48 + 15] / broad[48, 48] == pytest.approx(np.exp(-0.5), rel=1e-3)
    ring = halo((SIZE, SIZE), 0.02, np.array([[0.48, 0.06, 1.0]]), disk(0, 0, 3.0))
    assert ring.sum() == pytest.approx(1, abs=1e-5)
    profile = [ring[np.abs(r - x) < 0.01].mean() for x in np.arange(0.1, 0.8, 0.02)]
    assert np.arange(0.1, 0.8, 0.02)[np.argmax(profile)] == pytest.approx(
        0.48, abs=0.03
    )


def test_beam_stop_covers_the_beam_and_comes_from_its_side():
    stop = beam_stop((SIZE, SIZE), 6.5, np.pi / 2, 10.0, (2.0, -3.0))
    assert stop[48 + 2, 48 - 3]
    assert stop[-1, 48 - 3]
    assert not stop[0].any()
    assert stop[-1].sum() == 7
    alone = beam_stop((SIZE, SIZE), 0.0, 0.0, 10.0)
    assert alone.sum() == pytest.approx(np.pi * 100, rel=0.3)
