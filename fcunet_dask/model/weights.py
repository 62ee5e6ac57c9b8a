"""Trained networks: a `.keras` file, and a card that says what it is and pins it."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any, Final
from zipfile import BadZipFile

from fcunet_dask.errors import MissingDependencyError, ModelError
from fcunet_dask.model.probability import TERMS

SHIPPED: Final = ("fcunet", "fcunet_paper")
"""Weights in the package, by name."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What is known of trained weights; a JSON file beside them.

    Attributes
    ----------
    sha256 : str
        Of the `.keras` file.
    network : str
        Its architecture.
    tile : int
        Side of the windows it must be given, px; 0 = any size.
    multiple : int
        Sides must be multiples of it.
    probability : tuple of float
        Weights of the evidence for a disk (`fcunet_dask.model.probability`).
    spread : float
        Factor of the standard deviation that the network reports, from validation data.
    training : mapping
        Recipe, data, cost and figures.
    """

    sha256: str
    network: str
    tile: int = 0
    multiple: int = 8
    probability: tuple[float, ...] = (-6.0, 12.0, 0.0, 0.0, 0.0, 0.0)
    spread: float = 1.0
    training: Mapping[str, Any] = field(default_factory=dict)


def find_weights(name: str) -> tuple[Path, ModelCard]:
    """Return the file of some weights and its card.

    Parameters
    ----------
    name : str
        ``fcunet``, ``fcunet_paper``, or the path of a `.keras` file with its card
        (the same name, `.json`) beside it.

    Returns
    -------
    path : pathlib.Path
    card : ModelCard

    Raises
    ------
    ModelError
        If there is no such file, it has no card, or the card is none.
    """
    shipped = Path(str(files("fcunet_dask.model"))) / "shipped"
    path = shipped / f"{name}.keras" if name in SHIPPED else Path(name)
    if not path.is_file():
        msg = f"no weights {name!r}: shipped are {SHIPPED}, or give a .keras file"
        raise ModelError(msg)
    try:
        values = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        card = ModelCard(**{**values, "probability": _weights(values["probability"])})
        _check(card)
    except OSError as error:
        msg = f"{path} has no card {path.with_suffix('.json').name} beside it"
        raise ModelError(msg) from error
    except (ValueError, TypeError, KeyError) as error:
        msg = f"{path.with_suffix('.json')} is no card of a model: {error}"
        raise ModelError(msg) from error
    return path, card


def _check(card: ModelCard) -> None:
    """Raise a ValueError that names what cannot be."""
    for name, least in (("multiple", 1), ("tile", 0)):
        value = getattr(card, name)
        if type(value) is not int or value < least:
            msg = f"{name} must be a whole number, {least} or more, got {value!r}"
            raise ValueError(msg)
    if not (type(card.spread) in (int, float) and 0 < card.spread < math.inf):
        msg = f"spread must be a positive number, got {card.spread!r}"
        raise ValueError(msg)
    if not all(map(math.isfinite, card.probability)):
        msg = f"the numbers of probability must be finite, got {card.probability}"
        raise ValueError(msg)


def _weights(told: Any) -> tuple[float, ...]:
    """Weights of the evidence, which a card tells by the names of the terms."""
    if not isinstance(told, dict) or set(told) != set(TERMS):
        msg = f"probability must have the numbers {', '.join(TERMS)}, got {told}"
        raise ValueError(msg)
    return tuple(float(told[name]) for name in TERMS)


def load_network(path: Path, card: ModelCard) -> Any:
    """Return the network of a file, after it was found to be the one of the card.

    Raises
    ------
    MissingDependencyError
        If Keras or its backend is not installed.
    ModelError
        If the file is another one, is damaged, has other inputs or outputs, or is of
        another architecture than its card says.
    """
    keras = import_keras()
    from fcunet_dask.model import layers  # noqa: F401, PLC0415  (registers them)
    from fcunet_dask.model.network import HEADS  # noqa: PLC0415

    found = sha256(path.read_bytes()).hexdigest()
    if found != card.sha256:
        msg = (
            f"{path} is not the file of its card: SHA-256 {found[:12]}… instead of "
            f"{card.sha256[:12]}…; get it again"
        )
        raise ModelError(msg)
    try:
        network = keras.saving.load_model(path, compile=False, safe_mode=True)
    except (ValueError, TypeError, OSError, KeyError, BadZipFile) as error:
        msg = f"{path} cannot be loaded: {error}"
        raise ModelError(msg) from error
    names = [i.name for i in network.inputs]
    channels = [o.shape[-1] for o in network.outputs]
    if names != ["pattern", "probe", "mask"] or channels != [len(HEADS)]:
        msg = (
            f"{path} has inputs {names} and outputs of {channels} channels, expected "
            f"pattern, probe, mask and one output of {len(HEADS)}"
        )
        raise ModelError(msg)
    if network.name != card.network:
        msg = (
            f"{path} holds the network {network.name!r}, its card says {card.network!r}"
        )
        raise ModelError(msg)
    return network


def import_keras() -> Any:
    """Return Keras.

    Raises
    ------
    MissingDependencyError
        If it, or the backend it is set to, is not installed.
    """
    try:
        import keras  # noqa: PLC0415  (an extra)
    except ImportError as error:
        msg = (
            f"the network needs Keras and a backend ({error}): pip install "
            "'fcunet-dask[network]', or take the detector 'template'"
        )
        raise MissingDependencyError(msg) from error
    return keras


def write_card(path: Path, card: ModelCard) -> None:
    """Write the card of the `.keras` file at `path` beside it."""
    values = {name: getattr(card, name) for name in card.__dataclass_fields__}
    values["probability"] = dict(zip(TERMS, card.probability, strict=True))
    write_whole(path.with_suffix(".json"), json.dumps(values, indent=1) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Write a file under another name first, so that it is always whole."""
    part = path.with_name(f"part-{path.name}")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
