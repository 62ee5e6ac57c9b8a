"""The command line: parses, calls, prints."""

import sys

import typer

from fcunet_dask.cli.demo import demo
from fcunet_dask.cli.evaluate import evaluate
from fcunet_dask.cli.files import convert, info
from fcunet_dask.cli.plan import plan
from fcunet_dask.cli.screen import errors
from fcunet_dask.cli.simulate import simulate
from fcunet_dask.cli.strain import strain
from fcunet_dask.cli.survey import survey
from fcunet_dask.cli.train import train
from fcunet_dask.cli.view import view
from fcunet_dask.errors import FcunetError

app = typer.Typer(
    help="Bragg disks, lattices and strain of 4D-STEM scans of any size, on Dask.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    plan,
    strain,
    survey,
    view,
    convert,
    info,
    simulate,
    train,
    evaluate,
    demo,
):
    app.command()(command)


def main() -> None:
    """Run the command line; what is wrong with the input ends it with exit code 1."""
    try:
        app()
    except FcunetError as error:
        errors.print(f"[bold red]{type(error).__name__}[/]: ", end="")
        errors.print(str(error), markup=False, highlight=False)
        sys.exit(1)
