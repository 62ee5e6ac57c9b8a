"""``fcunet-dask train``: weights from a library, with one command."""

from pathlib import Path
from typing import Annotated

import typer

from fcunet_dask.cli.screen import console


def train(
    recipe: Annotated[
        str, typer.Argument(help="fcunet, fcunet_paper, quick, or a TOML file.")
    ],
    library: Annotated[
        Path, typer.Option(help="From 'fcunet-dask simulate'; read as it is.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of checkpoint, history, network.")],
    validation: Annotated[
        Path | None,
        typer.Option(help="From 'fcunet-dask simulate --recipe validation'."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Instead of the recipe's number.")
    ] = None,
    processes: Annotated[int, typer.Option(min=0, help="That make batches.")] = 1,
    every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints.")] = 250,
) -> None:
    """Train a network, or go on with a training that was interrupted.

    The same command again goes on from the last checkpoint, bit by bit. At the end
    network.keras and its card, network.json, are a detector: fcunet-dask strain SCAN
    OUT --detector network.keras.
    """
    from dataclasses import replace  # noqa: PLC0415

    from fcunet_dask.model.weights import import_keras  # noqa: PLC0415
    from fcunet_dask.train.recipe import load_recipe  # noqa: PLC0415

    chosen = load_recipe(recipe)
    if steps is not None:
        chosen = replace(chosen, steps=steps)
    import_keras()
    from fcunet_dask.train.loop import train as run  # noqa: PLC0415
    from fcunet_dask.train.validate import (  # noqa: PLC0415
        calibrate_card,
    )
    from fcunet_dask.train.validate import validation as figures  # noqa: PLC0415

    def report(entry: dict[str, float]) -> None:
        values = "  ".join(f"{k} {v:.4g}" for k, v in entry.items() if k != "step")
        console.print(f"{entry['step']:6.0f} of {chosen.steps}  {values}")

    weights = run(
        chosen,
        library,
        out,
        validate=None if validation is None else figures(validation),
        processes=processes,
        every=every,
        report=report,
    )
    if validation is not None:
        card = calibrate_card(weights, validation)
        console.print(f"probability {card.probability}, spread {card.spread:.3f}")
    console.print(f"{weights}")
