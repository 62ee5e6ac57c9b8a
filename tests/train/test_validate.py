"""What a card learns from validation data."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fcunet_dask.errors import ModelError
from fcunet_dask.model.probability import disk_probability, evidence
from fcunet_dask.model.scale import binning
from fcunet_dask.model.weights import ModelCard, find_weights, write_card
from fcunet_dask.simulate.visibility import Visibility
from fcunet_dask.train import validate
from tests.train.judge.scenes import make_scene

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")


@pytest.mark.parametrize("curve", [(-4.0, 9.0, 0.0), (-8.0, 6.0, 7.0)])
def test_the_logistic_curve_is_found_again(curve):
    rng = np.random.default_rng(13)
    x = np.column_stack([np.ones(60_000), rng.uniform(0, 1, (60_000, 2))])
    y = (rng.random(len(x)) < 1 / (1 + np.exp(-x @ curve))).astype(float)
    found = validate._logistic(x, y, np.ones(len(x)))
    np.testing.assert_allclose(found, curve, rtol=0.06, atol=0.2)


def test_a_row_that_weighs_three_counts_like_three():
    rng = np.random.default_rng(15)
    x = np.column_stack([np.ones(400), rng.normal(size=400)])
    y = (rng.random(400) < 0.4).astype(float)
    times = rng.integers(1, 4, 400)
    repeated = validate._logistic(
        np.repeat(x, times, 0), np.repeat(y, times), np.ones(times.sum())
    )
    np.testing.assert_allclose(validate._logistic(x, y, times), repeated, rtol=1e-3)


def test_what_was_not_measured_gets_no_weight():
    rng = np.random.default_rng(14)
    height, nothing = rng.normal(size=5_000), np.full(5_000, np.nan)
    right = (rng.random(5_000) < 1 / (1 + np.exp(-3 * height))).astype(float)
    seen = evidence(height, nothing, np.full(5_000, -np.inf), 1.0)
    weights = validate._logistic(seen, right, np.ones(5_000))
    assert weights[2:] == (0, 0, 0, 0)
    assert weights[1] == pytest.approx(3, rel=0.1)


@pytest.mark.parametrize("scale", ["coarse", "fine"])
def test_evidence_of_a_judged_pattern(scale, weights):
    scene = make_scene(seed=2)
    j = scene.judged()
    (seen, right, one), (lured, wrong, weight) = validate._judged_evidence(
        weights, scene, j, [scale]
    )
    visible = (j.label == Visibility.VISIBLE).sum()
    assert 0.8 * visible < right.sum() <= visible
    assert (right == 0).any()
    assert (one == 1).all()
    assert seen[right == 1, 2].mean() > seen[right == 0, 2].mean()  # likeness
    assert seen[right == 1, 5].mean() > seen[right == 0, 5].mean()  # contrast
    radius = j.probe.attrs["radius"]
    np.testing.assert_allclose(seen[:, 4], np.log(radius / binning(radius)))
    assert len(lured) == len(wrong) == len(weight)


def test_what_is_seen_where_a_disk_was_taken_out_is_wrong_and_weighs(weights):
    parts = [
        list(validate._judged_evidence(weights, scene, scene.judged(), ["coarse"]))[1]
        for scene in (make_scene(seed=k) for k in range(6))
    ]
    lured, wrong, weight = (np.concatenate(p) for p in zip(*parts, strict=True))
    assert 0 < len(lured) <= 6 * 4
    assert (wrong == 0).all()
    assert (weight == 30).all()
    assert np.median(lured[:, 5]) < 0.5  # the contrast is that of noise


def test_disks_are_told_from_what_was_taken_out(weights, tmp_path):
    """The matched filter, weighed: it finds disks, and none where they were taken out."""
    copy = tmp_path / "own.keras"
    for suffix in (".keras", ".json"):
        file = Path(weights).with_suffix(suffix)
        copy.with_suffix(suffix).write_bytes(file.read_bytes())
    scenes = [make_scene(seed=k) for k in range(4)]
    card = validate._calibrated(copy, find_weights(weights)[1], scenes)
    assert 0 < card.spread < 10
    parts = [
        part
        for scene in scenes
        for part in validate._judged_evidence(
            str(copy), scene, scene.judged(), ["coarse"]
        )
    ]
    seen, right, weight = (np.concatenate(p) for p in zip(*parts, strict=True))
    likely = disk_probability(seen, card.probability) > 0.5
    assert likely[right == 1].mean() > 0.8
    assert likely[(right == 0) & (weight == 1)].mean() < 0.2
    assert likely[weight > 1].mean() < 0.2


def test_the_spread_brings_two_thirds_of_the_errors_within_one_sigma(monkeypatch):
    errors = 2.5 * np.random.default_rng(3).normal(size=(40_000, 2))
    errors[::7] = np.nan
    monkeypatch.setattr(
        validate, "position_errors", lambda *_: SimpleNamespace(whitened=errors)
    )
    assert validate._spread([], []) == pytest.approx(2.5, rel=0.03)


def test_who_finds_nothing_cannot_be_calibrated(monkeypatch):
    none = SimpleNamespace(whitened=np.empty((0, 2)))
    monkeypatch.setattr(validate, "position_errors", lambda *_: none)
    with pytest.raises(ModelError, match="train it longer"):
        validate._spread([], [])


def test_an_interrupted_calibration_leaves_the_card_as_it_was(tmp_path, monkeypatch):
    weights = tmp_path / "own.keras"
    weights.write_bytes(b"")
    card = ModelCard(
        sha256="", network="fcunet", probability=(-3, 8, 1, 2, 3, 4), spread=1.4
    )
    write_card(weights, card)

    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(validate, "open_scenes", lambda *_: [make_scene()])
    monkeypatch.setattr(validate, "_judged_evidence", killed)
    with pytest.raises(KeyboardInterrupt):
        validate.calibrate_card(weights, tmp_path)
    assert find_weights(str(weights))[1] == card
