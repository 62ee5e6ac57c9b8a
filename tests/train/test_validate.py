"""What a card learns from validation data."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from fcunet_dask.errors import ModelError
from fcunet_dask.model.probability import evidence
from fcunet_dask.model.scale import binning
from fcunet_dask.model.weights import ModelCard, find_weights, write_card
from fcunet_dask.train import validate
from tests.train.judge.scenes import detections, echo, make_scene


@pytest.mark.parametrize("weights", [(-4.0, 9.0, 0.0), (-8.0, 6.0, 7.0)])
def test_the_logistic_curve_is_found_again(weights):
    rng = np.random.default_rng(13)
    x = np.column_stack([np.ones(60_000), rng.uniform(0, 1, (60_000, 2))])
    y = (rng.random(len(x)) < 1 / (1 + np.exp(-x @ weights))).astype(float)
    np.testing.assert_allclose(validate._logistic(x, y), weights, rtol=0.06, atol=0.2)


def test_what_was_not_measured_gets_no_weight():
    rng = np.random.default_rng(14)
    height, nothing = rng.normal(size=5_000), np.full(5_000, np.nan)
    right = (rng.random(5_000) < 1 / (1 + np.exp(-3 * height))).astype(float)
    weights = validate._logistic(evidence(height, nothing, 1.0), right)
    assert weights[2:] == (0, 0, 0)
    assert weights[1] == pytest.approx(3, rel=0.1)


@pytest.mark.parametrize("scale", ["coarse", "fine"])
def test_evidence_of_judged_detections(scale):
    """Right ones and wrong ones, with the size that the network sees."""
    j = make_scene().judged()
    j.condition["radius"] *= 1.5
    assert binning(j.radius, "coarse") > binning(j.radius, "fine")
    found = echo(j)
    wrong = np.array([[3.0, 3.0], [60.2, 3.0]])
    both = detections(np.concatenate([found.position, wrong]))
    both = replace(both, probability=np.full(len(both.score), 0.7))
    seen, right = validate._judged_evidence([both], [j], scale)
    assert right.sum() == len(found.position)
    np.testing.assert_allclose(seen[:, 1], np.log(0.7 / 0.3))
    np.testing.assert_allclose(seen[:, 2], 1.0)
    radius = j.radius / binning(j.radius, scale)
    np.testing.assert_allclose(seen[:, 4], np.log(radius))


def test_scores_are_probabilities_of_plain_heights():
    height = np.array([-3.0, 0.05, 0.5, 1.2])
    np.testing.assert_allclose(validate._logit(1 / (1 + np.exp(-height))), height)


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
        sha256="", network="fcunet", probability=(-3.0, 8.0, 1.0, 2.0, 3.0), spread=1.4
    )
    write_card(weights, card)

    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(validate, "open_scenes", lambda *_: [])
    monkeypatch.setattr(validate, "_found", killed)
    with pytest.raises(KeyboardInterrupt):
        validate.calibrate_card(weights, tmp_path)
    assert find_weights(str(weights))[1] == card
