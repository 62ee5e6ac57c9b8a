"""Recipes: a few numbers in a TOML file, shipped by name or the user's own."""

import math
import tomllib
from collections.abc import Iterable
from dataclasses import MISSING, fields
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


def check_types(recipe: Any, error: type[FcunetError]) -> None:
    """Refuse text where a number belongs, fractions of things, and what is not finite.

    Parameters
    ----------
    recipe : dataclass instance
        A field has the type of its default: an int where that is one, a finite int or
        float where it is a float, a list of such where it is a tuple (of text where that
        is empty). Fields without a default, or with none of these, are not looked at.
    error : type
        What is raised; the message names field and value.
    """
    for field in fields(recipe):
        value, default = getattr(recipe, field.name), field.default
        if default is MISSING:
            continue
        several = isinstance(default, tuple)
        if several and not isinstance(value, list | tuple):
            msg = f"recipe: {field.name} must be a list, got {value!r}"
            raise error(msg)
        one = (default[0] if default else "") if several else default
        for item in value if several else (value,):
            kinds = (int, float) if isinstance(one, float) else (type(one),)
            finite = not isinstance(item, float) or math.isfinite(item)
            if type(item) not in kinds or not finite:
                names = " or ".join(k.__name__ for k in kinds)
                msg = f"recipe: {field.name} must be {names}, got {item!r}"
                raise error(msg)
