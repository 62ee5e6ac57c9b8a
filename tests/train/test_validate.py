"""What a card learns from validation data."""

from types import SimpleNamespace

import numpy as np
import pytest
from fcunet_dask.errors import ModelError
from fcunet_dask.model.weights import ModelCard, find_weights, write_card
from fcunet_dask.train import validate


@pytest.mark.parametrize(("slope", "level"), [(9.0, -4.0), (25.0, -8.0)])
def test_the_logistic_curve_is_found_again(slope, level):
    rng = np.random.default_rng(13)
    x = rng.uniform(0, 1, 40_000)
    y = (rng.random(x.size) < 1 / (1 + np.exp(-(slope * x + level)))).astype(float)
    found = validate._logistic(x, y)
    np.testing.assert_allclose(found, (slope, level), rtol=0.06)


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
    card = ModelCard(sha256="", network="fcunet", probability=(8.0, -3.0), spread=1.4)
    write_card(weights, card)

    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(validate, "open_scenes", lambda *_: [])
    monkeypatch.setattr(validate, "_found", killed)
    with pytest.raises(KeyboardInterrupt):
        validate.calibrate_card(weights, tmp_path)
    assert find_weights(str(weights))[1] == card
