"""``fcunet-dask simulate``: a training library from a recipe, or a scan to judge on."""

from pathlib import Path
from typing import Annotated

import typer

from fcunet_dask.cli.screen import console, progress_bars
from fcunet_dask.cli.where import Cluster, Workers, computing


def simulate(
    out: Annotated[Path, typer.Option(help="Zarr library to write or go on with.")],
    patterns: Annotated[
        int, typer.Option(min=1, help="How many; rounded up to whole blocks.")
    ] = 1000,
    recipe: Annotated[
        str,
        typer.Option(help="library, fine, validation, test, or a TOML file."),
    ] = "library",
    cluster: Cluster = "local",
    workers: Workers = 0,
    engine: Annotated[
        str, typer.Option(help="numpy, or cupy for workers with a GPU.")
    ] = "numpy",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a library that is there.")
    ] = False,
    scan: Annotated[
        str | None,
        typer.Option(
            help="Instead of a library a Si/SiGe multilayer that detectors are judged "
            "on: ideal, tilted (10 CPU minutes) or thick (25)."
        ),
    ] = None,
) -> None:
    """Simulate a training library: dynamical patterns of real crystals, with truth.

    An interrupted run goes on where it stopped when the same command is given again.
    The bytes depend on the recipe and the processor, not on the workers.

    Example: fcunet-dask simulate --patterns 200000 --out lib.zarr
    """
    if scan is not None:
        _simulate_multilayer(scan, out, overwrite=overwrite)
        return
    from fcunet_dask.simulate.library import make_library  # noqa: PLC0415 - heavy

    with computing(cluster, workers) as client, progress_bars() as report:
        path = make_library(
            recipe,
            out,
            patterns=patterns,
            client=client,
            progress=lambda done, total: report("patterns", done, total),
            overwrite=overwrite,
            engine=engine,
        )
    console.print(f"library: {path}", highlight=False)


def _simulate_multilayer(kind: str, out: Path, *, overwrite: bool) -> None:
    """Simulate one of the scans that detectors are judged on, in this process."""
    from fcunet_dask.simulate.evaluation import multilayer_scan  # noqa: PLC0415 - heavy
    from fcunet_dask.simulate.scan_store import make_scan  # noqa: PLC0415 - heavy

    recipe = multilayer_scan(kind)
    with progress_bars() as report:
        make_scan(
            recipe,
            out,
            progress=lambda done, total: report("tiles", done, total),
            overwrite=overwrite,
        )
    console.print(f"scan: {out}", highlight=False)
