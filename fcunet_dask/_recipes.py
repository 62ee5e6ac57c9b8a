"""Recipes: a few numbers in a TOML file, shipped by name or the user's own."""

import tomllib
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

from fcunet_dask.errors import FcunetError


def read_recipe(
    source: str | Path, package: str, shipped: tuple[str, ...], error: type[FcunetError]
) -> dict[str, Any]:
    """Return the keys and values of a recipe.

    Parameters
    ----------
    source : path-like
        One of `shipped`, or a file.
    package : str
        Whose folder ``recipes`` holds the shipped ones.
    shipped : tuple of str
        Names.
    error : type
        What is raised if there is no such recipe, or it is no TOML.
    """
    if str(source) in shipped:
        text = (files(package) / f"recipes/{source}.toml").read_text(encoding="utf-8")
    else:
        try:
            text = Path(source).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as cause:
            msg = f"no recipe {str(source)!r}: shipped are {shipped}, or give a file"
            raise error(msg) from cause
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as cause:
        msg = f"{source} is no TOML: {cause}"
        raise error(msg) from cause


def refuse_unknown(
    values: Iterable[str],
    known: Iterable[str],
    error: type[FcunetError],
    prefix: str = "",
) -> None:
    """Raise `error` if a recipe has keys that nobody reads."""
    known = sorted(known)
    unknown = sorted(f"{prefix}{name}" for name in set(values) - set(known))
    if unknown:
        msg = f"unknown keys in the recipe: {unknown}; known are {known}"
        raise error(msg)
