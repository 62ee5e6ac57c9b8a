"""Recipes of clusters are data, in ``deploy/``; here they are found and read."""

from pathlib import Path
from typing import Any

import yaml
from dask import config

from fcunet_dask.errors import ParameterError


def recipe_path(name: str | Path) -> Path:
    """Return the file of a recipe.

    Parameters
    ----------
    name : str or Path
        A file of the user's, or the name of one under ``deploy/``, such as
        ``slurm/jobqueue.yaml``. The folder stands at the top of a checkout; an
        installed package holds a copy of it.

    Returns
    -------
    Path

    Raises
    ------
    ParameterError
        If there is no such file.
    """
    if Path(name).is_file():
        return Path(name)
    here = Path(__file__).parent
    folders = here / "deploy", here.parents[1] / "deploy"
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    known = sorted(
        str(path.relative_to(folder))
        for folder in folders
        for path in folder.rglob("*.yaml")
    )
    msg = f"there is no recipe {str(name)!r}; there are {', '.join(known)}"
    raise ParameterError(msg)


def read_recipe(name: str | Path) -> Any:
    """Return the content of a recipe that is one YAML document."""
    return yaml.safe_load(recipe_path(name).read_text())


def use_defaults() -> None:
    """Make ``deploy/dask.yaml`` Dask's defaults; what a user has configured stays."""
    import distributed  # noqa: F401, PLC0415 - heavy; its defaults come before ours

    config.update_defaults(read_recipe("dask.yaml"))
