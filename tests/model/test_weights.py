"""Weights are what their card says, or they are refused; nothing in them is run."""

import json
import sys
import zipfile
from hashlib import sha256
from importlib import import_module
from pathlib import Path

import keras
import numpy as np
import pytest
from fcunet_dask.errors import MissingDependencyError, ModelError
from fcunet_dask.model.probability import TERMS
from fcunet_dask.model.weights import ModelCard, find_weights, load_network, write_card
from tests.matched_filter import saved

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")


@pytest.fixture
def copied(weights, tmp_path):
    """Weights of the test's own, with their card."""
    path = tmp_path / "own.keras"
    for suffix in (".keras", ".json"):
        content = Path(weights).with_suffix(suffix).read_bytes()
        path.with_suffix(suffix).write_bytes(content)
    return path


def changed_card(path, **values):
    card = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(card | values))


def test_card_and_network_come_back(copied):
    path, card = find_weights(str(copied))
    assert path == copied
    assert (card.network, card.multiple) == ("by_hand", 8)
    assert card.probability == (-6, 12, 0, 0, 0, 0)
    network = load_network(path, card)
    inputs = [np.ones((1, 16, 16, 1), np.float32)] * 3
    assert np.asarray(network(inputs)).shape == (1, 16, 16, 5)
    write_card(path, card)
    assert find_weights(str(copied))[1] == card


def test_other_bytes_than_the_cards_are_refused(copied):
    _, card = find_weights(str(copied))
    content = bytearray(copied.read_bytes())
    content[len(content) // 2] ^= 1
    copied.write_bytes(content)
    with pytest.raises(ModelError, match=r"own\.keras is not the file of its card"):
        load_network(copied, card)


def test_half_a_file_is_refused_even_if_the_card_was_made_for_it(copied):
    half = copied.read_bytes()[: copied.stat().st_size // 2]
    copied.write_bytes(half)
    changed_card(copied, sha256=sha256(half).hexdigest())
    with pytest.raises(ModelError, match=r"own\.keras cannot be loaded"):
        load_network(*find_weights(str(copied)))


def test_a_zip_of_something_else_is_refused(copied):
    with zipfile.ZipFile(copied, "w") as archive:
        archive.writestr("readme.txt", "hello")
    changed_card(copied, sha256=sha256(copied.read_bytes()).hexdigest())
    with pytest.raises(ModelError, match=r"own\.keras cannot be loaded"):
        load_network(*find_weights(str(copied)))


def test_no_file_and_no_card_are_told_apart(copied, tmp_path):
    with pytest.raises(ModelError, match=r"no weights .*fcunet"):
        find_weights(str(tmp_path / "none.keras"))
    with pytest.raises(ModelError, match="no weights"):
        find_weights(str(tmp_path))
    copied.with_suffix(".json").unlink()
    with pytest.raises(ModelError, match=r"no card own\.json"):
        find_weights(str(copied))


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"sha256": "", "network": "", "probability": SIX, "colour": "red"}',
        '{"sha256": "", "network": "", "probability": 3}',
        '{"sha256": "", "network": "", "probability": [1, 2, 3, 4, 5, 6]}',
        '{"sha256": "", "network": "", "probability": {"1": 1, "h": 2}}',
        '{"sha256": "", "network": "", "probability": OTHERS}',
        '{"sha256": "", "network": "", "probability": WORDS}',
        '{"sha256": "", "network": "", "probability": SIX, "multiple": "8"}',
        '{"sha256": "", "network": "", "probability": SIX, "multiple": 0}',
        '{"sha256": "", "network": "", "probability": SIX, "tile": -1}',
        '{"sha256": "", "network": "", "probability": SIX, "tile": "64"}',
        '{"sha256": "", "network": "", "probability": SIX, "spread": "abc"}',
        '{"sha256": "", "network": "", "probability": SIX, "spread": null}',
        '{"sha256": "", "network": "", "probability": SIX, "spread": NaN}',
        '{"sha256": "", "network": "", "probability": ENDLESS}',
    ],
)
def test_a_card_of_another_form_is_refused(text, copied):
    six = dict.fromkeys(TERMS, 1.0)
    others = {**dict.fromkeys(TERMS[:-1], 1.0), "arsinh z/2": 1.0}
    for name, told in {
        "SIX": six,
        "OTHERS": others,
        "WORDS": dict.fromkeys(TERMS, "a"),
        "ENDLESS": dict.fromkeys(TERMS, float("inf")),
    }.items():
        text = text.replace(name, json.dumps(told))
    copied.with_suffix(".json").write_text(text)
    with pytest.raises(ModelError, match=r"own\.json is no card"):
        find_weights(str(copied))


def test_another_architecture_than_the_cards_is_refused(copied):
    """Of the same inputs and outputs, as the published network has."""
    changed_card(copied, network="fcunet_paper")
    with pytest.raises(ModelError, match=r"network 'by_hand', its card says 'fcunet_p"):
        load_network(*find_weights(str(copied)))


def one_by_one(names, channels):
    inputs = [keras.layers.Input((None, None, 1), name=n) for n in names]
    together = keras.layers.Concatenate()(inputs)
    outputs = [keras.layers.Conv2D(c, 1)(together) for c in channels]
    return keras.Model(inputs, outputs if len(outputs) > 1 else outputs[0])


@pytest.mark.parametrize(
    ("names", "channels", "named"),
    [
        (["image", "probe", "mask"], [5], "image"),
        (["probe", "pattern", "mask"], [5], "probe"),
        (["pattern", "probe", "mask"], [4], "4"),
        (["pattern", "probe", "mask"], [5, 5], "5"),
    ],
)
def test_networks_of_other_shape_are_refused(names, channels, named, tmp_path):
    name = saved(one_by_one(names, channels), tmp_path / "odd.keras")
    with pytest.raises(ModelError, match=rf"odd\.keras has inputs .*{named}"):
        load_network(*find_weights(name))


def test_code_in_a_file_is_not_run(tmp_path):
    """A Lambda layer holds marshalled Python."""
    trace = tmp_path / "trace"

    def leave_a_trace(image, name=str(trace)):
        __import__("pathlib").Path(name).touch()
        return image

    inputs = [
        keras.layers.Input((8, 8, 1), name=n) for n in ("pattern", "probe", "mask")
    ]
    image = keras.layers.Concatenate()([*inputs, *inputs[:2]])
    image = keras.layers.Lambda(leave_a_trace, output_shape=(8, 8, 5))(image)
    name = saved(keras.Model(inputs, image), tmp_path / "lambda.keras")
    trace.unlink(missing_ok=True)
    with pytest.raises(ModelError, match=r"lambda\.keras cannot be loaded"):
        load_network(*find_weights(name))
    assert not trace.exists()


def test_without_keras_it_says_what_to_install(copied, monkeypatch):
    path, card = find_weights(str(copied))
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(MissingDependencyError, match=r"fcunet-dask\[network\]"):
        load_network(path, card)


def test_shipped_weights_are_those_of_their_cards():
    folder = Path(import_module("fcunet_dask.model").__file__).parent / "shipped"
    for file in folder.glob("*.keras"):
        path, card = find_weights(file.stem)
        assert sha256(path.read_bytes()).hexdigest() == card.sha256
        assert path.stat().st_size < 16e6
        assert isinstance(card, ModelCard)
