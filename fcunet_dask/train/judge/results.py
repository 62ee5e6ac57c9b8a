"""Figures of detectors in files; those of one folder belong together."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from fcunet_dask._commit.files import writing
from fcunet_dask.errors import ParameterError, StoreError
from fcunet_dask.model import load_detector
from fcunet_dask.model.presets import NETWORKS
from fcunet_dask.train.judge.contender import VARIANTS
from fcunet_dask.train.judge.positions import Errors

_NAMES: Final = tuple(Errors.__dataclass_fields__)


def check_detectors(names: Sequence[str]) -> None:
    """Refuse, before anything is computed, what cannot be judged.

    Parameters
    ----------
    names : sequence of str
        Of detectors: ``correlation``, presets, `.keras` files.

    Raises
    ------
    ModelError
        If there is no such detector.
    ParameterError
        If the results of two would have one name.
    """
    taken = {name: name for name in (*VARIANTS, *NETWORKS)}
    for name in names:
        if name not in VARIANTS:
            load_detector(name, radius=5.0)
        other = taken.setdefault(Path(name).stem, name)
        if other != name:
            msg = (
                f"the results of {name} would have the name of those of {other}: "
                "rename the file and its card, or judge it into another folder"
            )
            raise ParameterError(msg)


def check_folder(
    out: str | Path, names: Iterable[str], what: Mapping[str, Any]
) -> None:
    """Refuse a folder whose results do not belong to those that are to come.

    Parameters
    ----------
    out : path-like
        Where the results will be.
    names : iterable of str
        Detectors that will be judged.
    what : mapping
        `Bench.what`.

    Raises
    ------
    StoreError
        If there are results of other patterns, or of another file of the same name.
    """
    names = set(names)
    for name, (figures, _) in read_results(out).items():
        judged = figures.get("detector", {}).get("name", name)
        replaced = judged in names
        if not replaced and name in {Path(n).stem for n in names}:
            msg = f"{out} holds results of {judged}: rename the file, or give another --out"
            raise StoreError(msg)
        if not replaced and figures.get("judged_on") != what:
            msg = (
                f"{out} holds results of {name} on other patterns "
                f"({figures.get('judged_on')} instead of {what}): judge it again in the "
                "same command, or give another --out"
            )
            raise StoreError(msg)


def write_result(out: str | Path, result: Mapping[str, Any], errors: Errors) -> Path:
    """Write the figures of a detector, plain JSON, and its errors beside.

    Parameters
    ----------
    out : path-like
        Folder for ``NAME.json`` and ``NAME.npz``.
    result : mapping
        With the ``name``.
    errors : Errors
        Of its positions.

    Returns
    -------
    pathlib.Path
        The JSON file.

    Raises
    ------
    StoreError
        If it cannot be written.
    """
    text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
    path = Path(out) / f"{result['name']}.json"
    with writing(path, len(text)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        arrays = {n: getattr(errors, n) for n in _NAMES}
        np.savez_compressed(path.with_suffix(".npz"), **arrays)
    return path


def read_results(out: str | Path) -> dict[str, tuple[dict[str, Any], Errors]]:
    """Return the figures and position errors of every detector in a folder."""
    results = {}
    for path in sorted(Path(out).glob("*.npz")):
        figures = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        with np.load(path) as arrays:
            results[path.stem] = (figures, Errors(*(arrays[n] for n in _NAMES)))
    return results
