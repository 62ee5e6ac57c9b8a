"""Each artefact has the statistics it claims, and moves the truth with the pattern."""

from dataclasses import replace

import numpy as np
import pytest
from fcunet_dask.errors import ParameterError
from fcunet_dask.kernels.detector import Distortion
from fcunet_dask.simulate.artefacts import Artefacts, Camera, Clean, observe
from fcunet_dask.simulate.conditions import (
    ArtefactRecipe,
    draw_artefacts,
    draw_camera,
)

SIZE, STEP = 96, 0.02
AXIS = np.arange(SIZE) - SIZE // 2


def disk(y, x, radius=6.0):
    r = np.hypot(AXIS[:, None] - y, AXIS - x)
    return np.clip(radius - r + 0.5, 0, 1).astype(np.float32)


def clean(shift=0.0):
    places = np.array([[0, 0], [18.3 + shift, 7.1], [-14.2, 21.6 - shift]])
    weights = [0.7, 0.15, 0.1]
    image = sum(w * disk(*p) for w, p in zip(weights, places, strict=True))
    area = disk(0, 0).sum()
    return Clean(
        image / area, disk(0, 0) / area, places * STEP, np.array([9.0, 3, 2]), STEP
    )


def look(seed=0, second=None, **changes):
    return observe(clean(), Artefacts(**changes), np.random.default_rng(seed), second)


def test_nothing_is_nothing():
    out = look()
    np.testing.assert_array_equal(out.pattern, clean().pattern)
    np.testing.assert_allclose(out.q, clean().q)
    assert out.mask.all()


def test_dose_is_counted_with_poisson_noise():
    many = np.stack([look(seed, dose=2000.0).pattern for seed in range(200)])
    expected = clean().pattern * 2000
    assert many.sum((1, 2)).mean() == pytest.approx(expected.sum(), rel=0.01)
    bright = expected > 1
    chi2 = ((many[:, bright] - expected[bright]) ** 2 / expected[bright]).mean()
    assert chi2 == pytest.approx(1, abs=0.03)
    assert (many == np.rint(many)).all()
    assert (many[:, expected == 0] == 0).all()


def test_probe_has_a_dose_of_its_own_and_no_sample():
    out = look(dose=100.0, probe_dose=1e6)
    assert out.probe.sum() == pytest.approx(1e6, rel=0.01)
    assert np.corrcoef(out.probe.ravel(), disk(0, 0).ravel())[0, 1] > 0.999


def test_seed_decides():
    changes = {"dose": 500.0, "camera": Camera(seed=3, hot=1e-2, read_noise=2.0)}
    np.testing.assert_array_equal(
        look(1, **changes).pattern, look(1, **changes).pattern
    )
    assert (look(1, **changes).pattern != look(2, **changes).pattern).any()


def test_distortion_moves_disks_and_truth_together():
    bend = Distortion(ellipse=0.03, angle=0.6, scale=0.02, shift=(0.06, -0.04))
    out = look(distortion=bend)
    for place in out.q[1:] / STEP:
        near = np.hypot(AXIS[:, None] - place[0], AXIS - place[1]) < 9
        part = np.where(near, out.pattern, 0)
        found = np.array([part.sum(1) @ AXIS, part.sum(0) @ AXIS]) / part.sum()
        assert np.abs(found - place).max() < 0.03
    # the direct beam is descanned, the vacuum probe stays centred
    np.testing.assert_allclose(out.q[0] / STEP, [0.06 * 48, -0.04 * 48])
    assert np.abs(out.probe.sum(1) @ AXIS) < 0.02 * out.probe.sum()


def test_backgrounds_take_their_share():
    base = clean()
    far = np.ones((SIZE, SIZE), bool)
    for y, x in base.q / STEP:
        far &= np.hypot(AXIS[:, None] - y, AXIS - x) > 8
    assert look(loss=0.3, loss_width=0.05).pattern.sum() == pytest.approx(
        0.95, rel=1e-3
    )
    assert 0.05 < look(loss=0.3, loss_width=0.05).pattern[far].sum() < 0.3
    thermal = look(thermal=0.6).pattern
    assert thermal.sum() == pytest.approx(0.95 + 0.6 * 0.05, rel=1e-3)
    ring = look(amorphous=0.2).pattern
    assert ring.sum() == pytest.approx(0.95, rel=1e-3)
    assert ring[far].sum() == pytest.approx(0.2 * 0.95, rel=0.25)


def test_beam_stop_darkens_and_is_masked():
    out = look(stop_radius=9.0, stop_width=5.0, stop_transmission=0.02)
    shadow = ~out.mask
    np.testing.assert_allclose(
        out.pattern[shadow], 0.02 * clean().pattern[shadow], rtol=1e-5
    )
    assert shadow[48, 48]
    assert 200 < shadow.sum() < 600


def test_bad_pixels_are_as_many_as_asked_and_stay_where_they_are():
    camera = Camera(seed=7, hot=0.01, dead=0.02, bits=12)
    one, two = (look(seed, dose=1e4, camera=camera) for seed in (1, 2))
    np.testing.assert_array_equal(one.mask, two.mask)
    _, hot, dead = camera.faults((SIZE, SIZE))
    assert hot.mean() == pytest.approx(0.01, abs=0.004)
    assert dead.mean() == pytest.approx(0.02, abs=0.005)
    assert (one.pattern[dead] == 0).all()
    assert (one.pattern[hot] > 2000).all()
    assert one.pattern.max() <= 4095
    other = replace(camera, seed=8)
    assert (other.faults((SIZE, SIZE))[1] != hot).any()


def test_gain_and_dark_have_their_statistics():
    camera = Camera(seed=1, gain_spread=0.04, offset=20.0, read_noise=3.0)
    many = np.stack([look(s, dose=1e5, camera=camera).pattern for s in range(60)])
    dark = clean().pattern == 0
    assert many[:, dark].mean() == pytest.approx(20, abs=0.05)
    assert many[:, dark].std() == pytest.approx(np.sqrt(9 + 1 / 12), rel=0.02)
    bright = clean().pattern > 0.5 * clean().pattern.max()
    gain = (many.mean(0)[bright] - 20) / (clean().pattern[bright] * 1e5)
    assert gain.std() == pytest.approx(0.04, rel=0.3)
    assert gain.mean() == pytest.approx(1, abs=0.02)


def test_counts_saturate():
    out = look(dose=1e7, camera=Camera(bits=10))
    assert out.pattern.max() == 1023


def test_point_spread_softens_pattern_and_probe_alike():
    out = look(camera=Camera(sigma=1.2, tail=0.2, reach=4.0))
    assert out.pattern.sum() == pytest.approx(clean().pattern.sum(), rel=1e-4)
    sharp = np.abs(np.diff(clean().probe, axis=0)).max()
    assert np.abs(np.diff(out.probe, axis=0)).max() < 0.5 * sharp


def test_an_electron_that_lights_many_pixels_spreads_its_noise():
    """White noise spread by a Gaussian: ρ of neighbours exp(−1/4σ²), σ²/4πσ²."""
    camera = Camera(seed=1, sigma=1.2, spread=True)
    flat = replace(clean(), pattern=np.full((SIZE, SIZE), 1 / SIZE**2, np.float32))
    observed = [
        observe(flat, Artefacts(dose=2e6, camera=c), np.random.default_rng(2)).pattern
        for c in (camera, replace(camera, spread=False))
    ]
    spread, white = (p - p.mean() for p in observed)
    electrons = 2e6 / SIZE**2
    assert spread.mean() == pytest.approx(0, abs=1e-3)
    assert white.var() == pytest.approx(electrons, rel=0.05)
    assert spread.var() == pytest.approx(electrons / (4 * np.pi * 1.2**2), rel=0.05)
    alike = [(n[1:] * n[:-1]).mean() / n.var() for n in (spread, white)]
    assert alike[0] == pytest.approx(np.exp(-1 / (4 * 1.2**2)), abs=0.02)
    assert alike[1] == pytest.approx(0, abs=0.04)


def test_what_is_spread_stays_a_count():
    camera = Camera(sigma=1.0, tail=0.3, spread=True, gain=20.0)
    pattern = look(dose=300.0, camera=camera).pattern
    assert (pattern == np.rint(pattern)).all()
    assert pattern.min() == 0
    assert pattern.sum() == pytest.approx(300 * 20, rel=0.25)


def test_soft_disks_are_blurred_in_pattern_and_probe():
    out, sharp = look(soft=4.0), look()
    r2 = AXIS[:, None] ** 2 + AXIS**2
    grown = [(p.probe * r2).sum() / p.probe.sum() for p in (out, sharp)]
    assert grown[0] - grown[1] == pytest.approx(2 * 4.0**2, rel=0.01)
    assert out.pattern.sum() == pytest.approx(sharp.pattern.sum(), rel=1e-4)
    assert out.pattern.max() < 0.7 * sharp.pattern.max()
    np.testing.assert_array_equal(out.q, sharp.q)


def test_second_grain_adds_its_disks_and_its_truth():
    out = look(second=clean(shift=10.0), second_share=0.3)
    np.testing.assert_allclose(
        out.pattern, 0.7 * clean().pattern + 0.3 * clean(10.0).pattern, rtol=1e-6
    )
    assert len(out.q) == 5
    np.testing.assert_allclose(out.strength[3:] / out.strength[1:3], np.sqrt(0.3 / 0.7))


def test_a_second_grain_must_be_there_and_match():
    with pytest.raises(ParameterError, match="second grain"):
        look(second_share=0.3)
    wrong = replace(clean(), q_step=0.03)
    with pytest.raises(ParameterError, match="1/Å"):
        look(second=wrong, second_share=0.3)


def test_draws_stay_in_their_ranges():
    recipe, rng = ArtefactRecipe(), np.random.default_rng(0)
    drawn = [
        draw_artefacts(recipe, rng, size=96, radius=5.0, two=True) for _ in range(400)
    ]
    doses = np.log10([a.dose for a in drawn])
    assert doses.min() >= 2
    assert doses.max() <= 6
    assert doses.mean() == pytest.approx(4, abs=0.25)
    assert max(a.distortion.ellipse for a in drawn) <= 0.03
    assert np.abs([a.distortion.shift for a in drawn]).max() <= 6.0 / 48
    for share, name in (
        (0.3, "amorphous"),
        (0.1, "stop_radius"),
        (0.1, "second_share"),
    ):
        found = np.mean([getattr(a, name) > 0 for a in drawn])
        assert found == pytest.approx(share, abs=0.06)
    assert draw_camera(recipe, 5) == draw_camera(recipe, 5)
    assert not any(a.soft or a.camera.spread for a in drawn)
    for artefacts in drawn[:10]:
        out = observe(clean(), artefacts, rng, clean(5.0))
        assert np.isfinite(out.pattern).all()
        assert (out.pattern >= 0).all()


def test_soft_disks_and_spread_noise_are_drawn_beside_all_else():
    """Who asks for none draws what was drawn before there were any."""
    recipe = ArtefactRecipe(soft=0.2, spread_noise=0.4)
    cameras = [draw_camera(recipe, i) for i in range(1000)]
    spread = [c for c in cameras if c.spread]
    assert len(spread) == pytest.approx(1000 * 0.5 * 0.4, abs=45)
    assert 2 <= min(c.gain for c in spread) <= max(c.gain for c in spread) <= 20
    for i, camera in enumerate(cameras):
        before = draw_camera(ArtefactRecipe(), i)
        assert replace(camera, spread=False, gain=1.0) == before
    rng = np.random.default_rng(1)
    drawn = [draw_artefacts(recipe, rng, size=96, radius=5.0) for _ in range(400)]
    soft = [a.soft for a in drawn if a.soft]
    assert len(soft) == pytest.approx(80, abs=24)
    assert 0.3 * 5 <= min(soft) <= max(soft) <= 1.0 * 5


def test_a_recipe_of_nonsense_is_refused():
    with pytest.raises(ParameterError, match="dose"):
        ArtefactRecipe(dose=(10.0, 1.0))
    with pytest.raises(ParameterError, match="ellipse"):
        ArtefactRecipe(ellipse=-0.1)
