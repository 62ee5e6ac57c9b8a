"""A training goes on where it was interrupted, and ends as if it never had been."""

import json
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from fcunet_dask.errors import ModelError, ParameterError, StoreError
from fcunet_dask.model.weights import find_weights, load_network
from fcunet_dask.simulate.library import make_library
from fcunet_dask.train import loop
from fcunet_dask.train.data import DataRecipe, Source
from fcunet_dask.train.loop import (
    CHECKPOINT,
    HISTORY,
    NETWORK,
    RECIPE,
    read_history,
    train,
)
from fcunet_dask.train.recipe import TrainRecipe

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

SHORT = TrainRecipe(
    options={"filters": [2], "gates": [1]},
    data=DataRecipe(size=16, crops=2),
    batch=2,
    steps=6,
    warm_up=2,
    average=0.5,
)


class Killed(BaseException):
    """What a power cut would raise."""


def state(out):
    """Weights and everything of the optimiser."""
    model = keras.saving.load_model(out / CHECKPOINT)
    found = [*model.get_weights(), *(np.array(v) for v in model.optimizer.variables)]
    assert int(model.optimizer.iterations) > 0
    return found


def weights_of(path):
    return load_network(*find_weights(str(path))).get_weights()


@pytest.fixture(scope="module")
def whole(tiny_library, tmp_path_factory):
    """Six steps without a break; weights, raw and averaged, after each of them."""
    out, seen = tmp_path_factory.mktemp("whole"), []

    def look(entry):
        raw = keras.saving.load_model(out / CHECKPOINT, compile=False)
        names = [w.path for w in raw.trainable_weights]
        mean = load_network(*find_weights(str(out / NETWORK)))
        seen.append(
            (
                [np.array(w) for w in raw.trainable_weights],
                [np.array(w) for w in mean.trainable_weights],
            )
        )
        assert names
        assert entry["step"] == len(seen)

    train(SHORT, tiny_library, out, processes=0, every=1, report=look)
    return out, seen


def test_a_broken_training_ends_like_a_whole_one(
    whole, tiny_library, tmp_path, monkeypatch
):
    """Stopped after 3 steps, killed in step 6 with half a checkpoint on the disk."""
    out = tmp_path / "broken"
    train(SHORT, tiny_library, out, processes=0, every=3, until=3)
    assert [e["step"] for e in read_history(out)] == [3]
    keep = loop._keep

    def half(model, path):
        if path.name == CHECKPOINT:
            path.with_name(f"part-{path.name}").write_bytes(b"half")
            raise Killed
        keep(model, path)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "_keep", half)
        with pytest.raises(Killed):
            train(SHORT, tiny_library, out, processes=0, every=3)
    kept = keras.saving.load_model(out / CHECKPOINT)
    assert int(kept.optimizer.iterations) == 3
    path = train(SHORT, tiny_library, out, processes=0, every=3)
    for found, expected in zip(state(out), state(whole[0]), strict=True):
        np.testing.assert_array_equal(found, expected)
    for found, expected in zip(
        weights_of(path), weights_of(whole[0] / NETWORK), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    history, all_steps = read_history(out), read_history(whole[0])
    assert [e["step"] for e in history] == [3, 6]
    last = np.mean([e["loss"] for e in all_steps[3:]])
    assert history[-1]["loss"] == pytest.approx(last, rel=1e-6)


def test_a_finished_training_is_left_alone(whole, tiny_library):
    out, _ = whole
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    assert train(SHORT, tiny_library, out, processes=0) == out / NETWORK
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before


def test_the_network_is_the_running_average(whole):
    _, seen = whole
    mean = seen[0][0]
    for raw, averaged in seen:
        mean = [0.5 * m + 0.5 * r for m, r in zip(mean, raw, strict=True)]
        for m, a in zip(mean, averaged, strict=True):
            np.testing.assert_allclose(a, m, rtol=1e-4, atol=1e-6)
    assert any((a != r).any() for a, r in zip(*seen[-1], strict=True))
    moved = [np.abs(a - b).max() for a, b in zip(seen[0][0], seen[-1][0], strict=True)]
    assert max(moved) > 1e-4


def test_the_card_says_where_it_comes_from(whole):
    _, card = find_weights(str(whole[0] / NETWORK))
    assert card.network == "fcunet"
    assert card.multiple == 2
    assert card.training["step"] == 6
    assert TrainRecipe.from_dict(card.training["recipe"]) == SHORT


def test_another_recipe_is_refused_by_what_differs(whole, tiny_library):
    other = TrainRecipe.from_dict(SHORT.to_dict() | {"rate": 0.1, "seed": 2})
    with pytest.raises(StoreError, match="other rate, seed"):
        train(other, tiny_library, whole[0], processes=0)


def test_another_library_is_refused(whole, tiny_recipe, tmp_path):
    other = make_library(
        replace(tiny_recipe, seed=6), tmp_path / "other.zarr", patterns=2
    )
    with pytest.raises(StoreError, match="other library"):
        train(SHORT, other, whole[0], processes=0)


def test_a_validation_that_fails_costs_no_step(tiny_library, tmp_path):
    def fail(_):
        raise TimeoutError

    with pytest.raises(TimeoutError):
        train(SHORT, tiny_library, tmp_path, processes=0, every=2, validate=fail)
    model = keras.saving.load_model(tmp_path / CHECKPOINT)
    assert int(model.optimizer.iterations) == 2


def test_a_folder_of_something_else_is_refused(tiny_library, tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(StoreError, match="no folder of a training"):
        train(SHORT, tiny_library, tmp_path, processes=0)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


class Diverging:
    """A model that has no loss any more."""

    def train_on_batch(self, inputs, target):
        return float("nan")


def test_a_loss_that_is_no_number_ends_the_training(
    tiny_library, tmp_path, monkeypatch
):
    source = Source(str(tiny_library))
    monkeypatch.setattr(loop, "_resumed", lambda *_: (Diverging(), 0, source))
    with pytest.raises(ModelError, match=r"step 1 is nan: lower the rate"):
        train(SHORT, tiny_library, tmp_path, processes=0)
    assert not list(tmp_path.iterdir())


def test_a_history_is_whole_whenever_it_is_read(tmp_path, monkeypatch):
    loop._append(tmp_path / HISTORY, {"step": 1, "loss": 3.0})
    loop._append(tmp_path / HISTORY, {"step": 2, "loss": 2.0})

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.replace", full)
        with pytest.raises(StoreError, match="the disk is full"):
            loop._append(tmp_path / HISTORY, {"step": 3, "loss": 1.0})
    loop._append(tmp_path / HISTORY, {"step": 2, "loss": 2.5})
    assert read_history(tmp_path) == [
        {"step": 1, "loss": 3.0},
        {"step": 2, "loss": 2.5},
    ]


def test_half_a_recipe_is_no_training(tiny_library, tmp_path):
    text = json.dumps(SHORT.to_dict())
    (tmp_path / RECIPE).write_text(text[: len(text) // 2])
    with pytest.raises(StoreError, match="no folder of a training"):
        train(SHORT, tiny_library, tmp_path, processes=0)


@pytest.mark.parametrize("text", ["", "PK", "[1, 2]"])
def test_a_damaged_checkpoint_is_said(text, whole, tiny_library, tmp_path):
    (tmp_path / RECIPE).write_bytes((whole[0] / RECIPE).read_bytes())
    (tmp_path / CHECKPOINT).write_text(text)
    with pytest.raises(ModelError, match=r"checkpoint\.keras is damaged: delete it"):
        train(SHORT, tiny_library, tmp_path, processes=0)


def test_a_list_is_no_training(tiny_library, tmp_path):
    (tmp_path / RECIPE).write_text("[1, 2]")
    with pytest.raises(StoreError, match="holds no table"):
        train(SHORT, tiny_library, tmp_path, processes=0)


def test_a_training_of_another_backend_or_version_is_refused(
    whole, tiny_library, tmp_path
):
    begun = json.loads((whole[0] / RECIPE).read_text())
    (tmp_path / RECIPE).write_text(json.dumps(begun | {"backend": "x", "new": 1}))
    with pytest.raises(StoreError, match="other backend, new"):
        train(SHORT, tiny_library, tmp_path, processes=0)


def test_a_file_is_no_folder_of_a_training(tiny_library, tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(StoreError, match="no folder of a training"):
        train(SHORT, tiny_library, tmp_path / "out", processes=0)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (
            {"options": {"filters": [2, 4], "gates": [1, 1]}, "data": (9, 2)},
            "size 9 must be a multiple of 4",
        ),
        ({"options": {"filters": 3}}, "filters"),
    ],
)
def test_a_network_that_cannot_be_is_refused_before_anything_is_written(
    changes, named, tiny_library, tmp_path
):
    if "data" in changes:
        size, crops = changes["data"]
        changes = changes | {"data": DataRecipe(size=size, crops=crops)}
    with pytest.raises(ParameterError, match=named):
        train(replace(SHORT, **changes), tiny_library, tmp_path / "out", processes=0)
    assert not (tmp_path / "out").exists()


def test_weights_of_another_network_are_no_start(whole, tiny_library, tmp_path):
    start = str(whole[0] / NETWORK)
    other = replace(SHORT, options={"filters": [3], "gates": [1]}, start=start)
    with pytest.raises(ModelError, match=r"weights of start .* give the options"):
        train(other, tiny_library, tmp_path / "out", processes=0)


def test_a_training_begins_with_the_weights_of_another(whole, tiny_library, tmp_path):
    """Rates so small that six steps leave them where they were."""
    start = str(whole[0] / NETWORK)
    again = replace(SHORT, start=start, rate=1e-12, decay=0.0)
    path = train(again, tiny_library, tmp_path / "out", processes=0)
    found = load_network(*find_weights(str(path))).trainable_weights
    begun = load_network(*find_weights(start)).trainable_weights
    for a, b in zip(found, begun, strict=True):
        np.testing.assert_allclose(np.array(a), np.array(b), atol=1e-6)


def test_layers_in_bfloat16_are_kept_in_float32(tiny_library, tmp_path):
    half = replace(SHORT, precision="mixed_bfloat16", steps=2)
    path = train(half, tiny_library, tmp_path / "out", processes=0)
    network = load_network(*find_weights(str(path)))
    assert {layer.compute_dtype for layer in network.layers} == {"float32"}
    trained = keras.saving.load_model(tmp_path / "out" / CHECKPOINT)
    assert "bfloat16" in {layer.compute_dtype for layer in trained.layers}
    image = np.random.default_rng(0).random((1, 16, 16, 1)).astype(np.float32)
    found = np.array(network([image, image, np.ones_like(image)]))
    assert found.dtype == np.float32
    assert np.isfinite(found).all()


def test_a_full_disk_is_said_and_not_filled_further(
    tiny_library, tmp_path, monkeypatch
):
    def full(model, path):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keras.Model, "save", full)
    with pytest.raises(StoreError, match="the disk is full"):
        train(SHORT, tiny_library, tmp_path / "out", processes=0)
    assert [p.name for p in (tmp_path / "out").iterdir()] == [RECIPE]
