"""The training itself: step after step, from checkpoints that go on bit by bit."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import keras
import numpy as np

from fcunet_dask._commit.files import writing
from fcunet_dask.errors import ModelError, ParameterError, StoreError
from fcunet_dask.model.network import build_network, parameters
from fcunet_dask.model.weights import (
    ModelCard,
    find_weights,
    load_network,
    write_card,
    write_whole,
)
from fcunet_dask.train.batches import batches
from fcunet_dask.train.data import Source, find_source, library_name
from fcunet_dask.train.losses import disk_loss
from fcunet_dask.train.recipe import TrainRecipe

Report = Callable[[dict[str, float]], None]
"""Called with each entry of the history."""

CHECKPOINT, HISTORY, RECIPE = "checkpoint.keras", "history.jsonl", "recipe.json"
NETWORK = "network.keras"
_RECIPE_BYTES, _ENTRY_BYTES, _CHECKPOINT_BYTES = 10_000, 200, 20_000_000


def train(
    recipe: TrainRecipe,
    library: str | Path,
    out: str | Path,
    *,
    validate: Callable[[Path], dict[str, float]] | None = None,
    processes: int = 1,
    every: int = 250,
    until: int | None = None,
    report: Report | None = None,
) -> Path:
    """Train a network, or go on with a training that was interrupted.

    On JAX every batch is shared among all GPUs that are seen (`CUDA_VISIBLE_DEVICES`).

    Parameters
    ----------
    recipe : TrainRecipe
        What to train, and how.
    library : path-like
        From `make_library`; an unfinished one is used as far as it goes when the
        training begins.
    out : path-like
        Folder of checkpoint, history and the trained network.
    validate : callable, optional
        Figures of a network, from its file, for the history.
    processes : int
        That make batches; 0 makes them between steps.
    every : int
        Steps from one entry of the history, and checkpoint, to the next.
    until : int, optional
        Step to stop at before the recipe's last.
    report : callable, optional
        Called with each entry of the history.

    Returns
    -------
    pathlib.Path
        ``network.keras``: the averaged weights, without the optimiser; its card beside.

    Raises
    ------
    StoreError
        If `out` holds another training, or something else, or cannot be written; if the
        library holds the crystals that networks are judged on.
    ModelError
        If the loss is no number any more, or the weights to begin with do not fit.
    ParameterError
        If the recipe makes no network, or its batch cannot be shared evenly among the
        GPUs.
    """
    out = Path(out)
    with _all_devices(recipe.batch):
        keras.utils.set_random_seed(recipe.seed)
        model, first, source = _resumed(recipe, find_source(str(library)), out)
        last = min(until or recipe.steps, recipe.steps)
        began, losses = time.process_time(), []
        made = batches(source, recipe, range(first, last), processes)
        for step, (inputs, target) in enumerate(made, first + 1):
            losses.append(float(model.train_on_batch(list(inputs), target)))
            if not np.isfinite(losses[-1]):
                msg = (
                    f"the loss of step {step} is {losses[-1]}: lower the rate of the "
                    "recipe"
                )
                raise ModelError(msg)
            if step % every and step != last:
                continue
            entry = {
                "step": step,
                "loss": float(np.mean(losses)),
                "cpu_s": time.process_time() - began,
            }
            publish(averaged_network(model, recipe), recipe, step, out / NETWORK)
            _keep(model, out / CHECKPOINT)
            if validate is not None:
                entry |= validate(out / NETWORK)
            began, losses = time.process_time(), []
            _append(out / HISTORY, entry)
            if report is not None:
                report(entry)
        return out / NETWORK


@contextmanager
def _all_devices(batch: int) -> Iterator[None]:
    """Share batches among all devices, as Keras does it: with JAX alone."""
    devices = []
    if keras.backend.backend() == "jax":
        devices = keras.distribution.list_devices()
    if len(devices) < 2:
        yield
        return
    if batch % len(devices):
        msg = (
            f"recipe: batch {batch} must be a multiple of the {len(devices)} devices "
            f"({', '.join(devices)}); CUDA_VISIBLE_DEVICES chooses among them"
        )
        raise ParameterError(msg)
    with keras.distribution.DataParallel(devices=devices).scope():
        yield


def compiled(recipe: TrainRecipe) -> keras.Model:
    """Return an untrained network with its optimiser.

    Raises
    ------
    ParameterError
        If the recipe makes none, or none of images of its size.
    ModelError
        If the weights to begin with are those of another network.
    """
    size = recipe.data.size
    try:
        with _precision(recipe.precision):
            model = build_network(recipe.network, **recipe.options)
    except (TypeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        msg = f"recipe: options {dict(recipe.options)} make no network: {reason}"
        raise ParameterError(msg) from error
    if size % _multiple(recipe):
        msg = f"recipe: data.size {size} must be a multiple of {_multiple(recipe)}"
        raise ParameterError(msg)
    if recipe.start:
        first = load_network(*find_weights(recipe.start))
        try:
            model.set_weights(first.get_weights())
        except ValueError as error:
            msg = (
                f"recipe: the weights of start = {recipe.start!r} are not those of "
                f"{recipe.network} with the options {dict(recipe.options)}: give the "
                "options of the recipe that they are of"
            )
            raise ModelError(msg) from error
    falling = recipe.steps - recipe.warm_up
    rate = keras.optimizers.schedules.CosineDecay(
        0.0,
        max(falling, 1),
        alpha=0.02,
        warmup_target=recipe.rate,
        warmup_steps=recipe.warm_up,
    )
    optimizer = keras.optimizers.AdamW(
        rate,
        weight_decay=recipe.decay,
        clipnorm=recipe.clip,
        use_ema=recipe.average > 0,
        ema_momentum=recipe.average,
    )
    model.compile(optimizer, loss=disk_loss)
    return model


@contextmanager
def _precision(policy: str) -> Iterator[None]:
    """Build layers with a policy, and leave what was set before."""
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.mixed_precision.set_dtype_policy(before)


def averaged_network(model: keras.Model, recipe: TrainRecipe) -> keras.Model:
    """Return a copy with the running average of the weights, without the optimiser.

    It computes in float32, whatever it was trained in.
    """
    with _precision("float32"):
        copy = build_network(recipe.network, **recipe.options)
    copy.set_weights(model.get_weights())
    if recipe.average and int(model.optimizer.iterations):
        averages = model.optimizer._model_variables_moving_average
        for weight, average in zip(copy.trainable_variables, averages, strict=True):
            weight.assign(average)
    return copy


def publish(
    network: keras.Model, recipe: TrainRecipe, step: int, path: Path
) -> ModelCard:
    """Write a network for use, with a card whose calibration is not yet measured."""
    _keep(network, path)
    card = ModelCard(
        sha256=sha256(path.read_bytes()).hexdigest(),
        network=recipe.network,
        tile=recipe.data.size if recipe.network == "fcunet_paper" else 0,
        multiple=_multiple(recipe),
        training={
            "recipe": recipe.to_dict(),
            "step": step,
            "parameters": parameters(network),
            "version": version("fcunet-dask"),
        },
    )
    write_card(path, card)
    return card


def _multiple(recipe: TrainRecipe) -> int:
    """Return what sides of images must be multiples of."""
    if recipe.network == "fcunet_paper":
        return 1
    return int(2 ** len(recipe.options.get("filters", (0, 0, 0))))


def _resumed(
    recipe: TrainRecipe, source: Source, out: Path
) -> tuple[keras.Model, int, Source]:
    """Return the network, the number of steps it has made, and what it is trained on."""
    wanted = json.loads(json.dumps(recipe.to_dict()))
    wanted |= {
        "library": library_name(source.path),
        "backend": keras.backend.backend(),
        "specimens": source.specimens,
    }
    file = out / RECIPE
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        model = compiled(recipe)
        with writing(out, _RECIPE_BYTES):
            out.mkdir(parents=True, exist_ok=True)
            write_whole(file, json.dumps(wanted, indent=1))
        return model, 0, source
    begun = _begun(file)
    changed = sorted(
        k for k in {*begun, *wanted} - {"specimens"} if begun.get(k) != wanted.get(k)
    )
    if changed:
        msg = f"{out} holds a training with other {', '.join(changed)}: choose another"
        raise StoreError(msg)
    specimens = begun.get("specimens")
    source = replace(source, specimens=specimens and tuple(specimens))
    if not (out / CHECKPOINT).exists():
        return compiled(recipe), 0, source
    model = _checkpoint(out / CHECKPOINT)
    return model, int(model.optimizer.iterations), source


def _begun(file: Path) -> dict[str, Any]:
    """Return what a training was begun with."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"{file.parent} is no folder of a training: choose another"
        raise StoreError(msg) from error
    except ValueError as error:
        msg = f"{file.parent} is no folder of a training: {file.name} is damaged ({error})"
        raise StoreError(msg) from error
    if not isinstance(found, dict):
        msg = f"{file.parent} is no folder of a training: {file.name} holds no table"
        raise StoreError(msg)
    return found


def _checkpoint(path: Path) -> keras.Model:
    try:
        return keras.saving.load_model(path, safe_mode=True)
    except (ValueError, TypeError, OSError, KeyError, BadZipFile) as error:
        msg = (
            f"{path} is damaged: delete it to begin anew, or train from the "
            f"{NETWORK} beside it (start in the recipe) in another folder"
        )
        raise ModelError(msg) from error


def _keep(model: keras.Model, path: Path) -> None:
    """Save under another name first, so that a file is always whole."""
    part = path.with_name(f"part-{path.name}")
    try:
        with writing(path, _CHECKPOINT_BYTES):
            model.save(part)
            part.replace(path)
    except StoreError:
        part.unlink(missing_ok=True)  # what is left of it fills the disk
        raise


def _append(path: Path, entry: dict[str, float]) -> None:
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    with writing(path, len(before) + _ENTRY_BYTES):
        write_whole(path, before + json.dumps(entry) + "\n")


def read_history(out: str | Path) -> list[dict[str, Any]]:
    """Return the entries of the history of a training, each step once."""
    lines = (Path(out) / HISTORY).read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    return list({entry["step"]: entry for entry in entries}.values())
