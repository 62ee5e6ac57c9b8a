"""``fcunet-dask view``: one pattern with what was found in it."""

from pathlib import Path
from typing import Annotated

import typer

from fcunet_dask.cli.screen import console, errors, whole_pair
from fcunet_dask.errors import ParameterError
from fcunet_dask.io import open_scan
from fcunet_dask.pipeline import open_results
from fcunet_dask.pipeline.identity import expect_results_of


def view(
    scan: Annotated[str, typer.Argument(help="The scan.")],
    results: Annotated[str, typer.Argument(help="Results of `strain`.")],
    at: Annotated[tuple[int, int], typer.Option(help="Row and column.")] = (0, 0),
    out: Annotated[Path, typer.Option(help="Picture to write.")] = Path("pattern.png"),
    dataset: Annotated[
        str | None, typer.Option(help="Dataset in an HDF5 file.")
    ] = None,
    scan_shape: Annotated[
        str | None, typer.Option(help="ROWS,COLUMNS of a scan stored as one row.")
    ] = None,
) -> None:
    """Draw the pattern of a position with its disks, error ellipses and lattice.

    Results of another scan are refused. A file that was moved is known again; where that
    cannot be told, as of a copy, a warning says so.
    """
    from fcunet_dask.plot import pattern  # noqa: PLC0415 - matplotlib is slow to import

    found = open_results(results)
    opened = open_scan(
        scan, dataset=dataset, scan_shape=whole_pair(scan_shape, "--scan-shape")
    )
    doubt = expect_results_of(opened, found)
    if doubt:
        errors.print(f"warning: {doubt}", markup=False, highlight=False)
    shape = opened["pattern"].shape[:2]
    if not (0 <= at[0] < shape[0] and 0 <= at[1] < shape[1]):
        msg = f"position {at} is outside the scan of {shape[0]} × {shape[1]}"
        raise ParameterError(msg)
    same_axes = {n: found[n] for n in ("q_y", "q_x") if n in found}
    figure = pattern(opened.assign_coords(same_axes), found, at)
    try:
        figure.savefig(out, dpi=130)
    except (OSError, ValueError) as error:
        msg = f"{out} cannot be written: {error}"
        raise ParameterError(msg) from error
    console.print(f"wrote {out}", highlight=False)
