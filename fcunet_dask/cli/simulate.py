"""``fcunet-dask simulate``: a training library from a recipe."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from fcunet_dask.errors import FcunetError


def simulate(
    out: Annotated[Path, typer.Option(help="Zarr library to write or go on with.")],
    patterns: Annotated[
        int, typer.Option(min=1, help="How many; rounded up to whole blocks.")
    ] = 1000,
    recipe: Annotated[
        str,
        typer.Option(help="library, fine, validation, test, or a TOML file."),
    ] = "library",
    cluster: Annotated[
        str,
        typer.Option(
            help="Where to compute: none (this process), local, cuda, slurm, "
            "kubernetes, or the address of a scheduler."
        ),
    ] = "local",
    engine: Annotated[
        str, typer.Option(help="numpy, or cupy for workers with a GPU.")
    ] = "numpy",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a library that is there.")
    ] = False,
) -> None:
    """Simulate a training library: dynamical patterns of real crystals, with truth.

    An interrupted run goes on where it stopped when the same command is given again.
    The bytes depend on the recipe alone, not on the workers.

    Example: fcunet-dask simulate --patterns 200000 --out lib.zarr
    """
    from fcunet_dask.simulate.library import make_library  # noqa: PLC0415 - heavy

    console = Console(stderr=True)
    columns = (
        TextColumn("patterns"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    try:
        with _client(cluster) as client, Progress(*columns, console=console) as bar:
            task = bar.add_task("patterns", total=None)
            path = make_library(
                recipe,
                out,
                patterns=patterns,
                client=client,
                progress=lambda done, total: bar.update(
                    task, completed=done, total=total
                ),
                overwrite=overwrite,
                engine=engine,
            )
    except FcunetError as error:
        console.print(f"[red]error:[/red] {error}", soft_wrap=True)
        raise typer.Exit(1) from error
    console.print(f"{path} is complete")


def _client(cluster: str) -> AbstractContextManager[Any]:
    """Return a client to enter, or nothing for this process alone."""
    if cluster == "none":
        return nullcontext()
    from fcunet_dask.cluster import connect_cluster  # noqa: PLC0415 - heavy

    client: AbstractContextManager[Any] = connect_cluster(cluster)
    return client
