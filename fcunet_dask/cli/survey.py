"""``fcunet-dask survey``: many scans, one table."""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.table import Table

from fcunet_dask._places import matching
from fcunet_dask.cli.screen import (
    console,
    errors,
    given_calibration,
    region,
    whole_pair,
)
from fcunet_dask.cli.where import Blocks, Cluster, Workers, computing
from fcunet_dask.errors import ParameterError
from fcunet_dask.pipeline import Scanned, Settings
from fcunet_dask.pipeline import survey as run_survey

Option = typer.Option


def survey(
    scans: Annotated[
        str,
        typer.Argument(
            help="Scans: 'raw/*.zarr', 's3://bucket/*.zarr' (mind the quotes)."
        ),
    ],
    out: Annotated[str, typer.Argument(help="Folder of the results and the table.")],
    q_step: Annotated[float | None, Option(help="Detector pixel, 1/Å.")] = None,
    scan_step: Annotated[float | None, Option(help="Probe step, nm.")] = None,
    voltage: Annotated[float | None, Option(help="Accelerating voltage, kV.")] = None,
    semiangle: Annotated[float | None, Option(help="Of convergence, mrad.")] = None,
    dataset: Annotated[str | None, Option(help="Dataset in an HDF5 file.")] = None,
    scan_shape: Annotated[
        str | None, Option(help="ROWS,COLUMNS of scans stored as one row.")
    ] = None,
    blocks: Blocks = None,
    reference: Annotated[
        str | None, Option(help="Unstrained ROWS,COLUMNS, such as ':,0:8'.")
    ] = None,
    detector: Annotated[str, Option(help="Name of the disk detector.")] = "template",
    cluster: Cluster = "none",
    workers: Workers = 0,
    at_once: Annotated[
        int | None,
        Option(min=1, help="Scans at once; on a cluster 2, elsewhere 1."),
    ] = None,
    overwrite: Annotated[
        bool, Option("--overwrite", help="Replace results of other settings.")
    ] = False,
) -> None:
    """Map the strain of many scans; the table of all is OUT/survey.parquet.

    A scan that fails does not stop the others. The same command again goes on: what is
    done is not done again. Exit code 1 unless every scan is done.
    """
    paths = _found(scans)
    settings = Settings(
        calibration=given_calibration(
            q_step=q_step, scan_step=scan_step, voltage=voltage, semiangle=semiangle
        ),
        detector=detector,
        reference=region(reference, "--reference"),
    )
    with computing(cluster, workers):
        rows = run_survey(
            paths,
            out,
            settings=settings,
            overwrite=overwrite,
            at_once=at_once,
            report=_Sayer(),
            dataset=dataset,
            scan_shape=whole_pair(scan_shape, "--scan-shape"),
            blocks=whole_pair(blocks, "--blocks"),
        )
    console.print(_table(rows), highlight=False)
    _say_what_is_left(rows)


def _found(pattern: str) -> list[str]:
    paths = matching(pattern)
    if not paths:
        msg = f"no scans: there is no file, folder or store {pattern}"
        raise ParameterError(msg)
    return paths


def _say_what_is_left(rows: Sequence[Scanned]) -> None:
    left = [row for row in rows if row.state != "done"]
    for row in left:
        errors.print(f"{row.scan}: {row.error}", markup=False, highlight=False)
    states = [row.state for row in left]
    if number := states.count("failed"):
        errors.print(f"{number} of {len(rows)} scans failed", style="bold red")
    if number := states.count("running"):
        errors.print(
            f"{number} of {len(rows)} scans are run by another process: give the same "
            "command again when it has ended",
            style="bold red",
        )
    if left:
        sys.exit(1)


class _Sayer:
    """Says when a scan is through."""

    def __init__(self) -> None:
        self.said: set[int] = set()

    def __call__(self, rows: Sequence[Scanned]) -> None:
        through = {i for i, r in enumerate(rows) if r.state in ("done", "failed")}
        for i in sorted(through - self.said):
            self.said.add(i)
            text = f"{len(self.said)}/{len(rows)} {rows[i].scan}: {rows[i].state}"
            console.print(text)


def _table(rows: list[Scanned]) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("scan", "state", "positions", "fitted", "ε_xx", "ε_yy", "σ", "time"):
        table.add_column(title)
    for row in rows:
        table.add_row(
            row.scan.rpartition("/")[2],
            row.state,
            f"{row.rows} × {row.columns}" if row.rows else "",
            f"{100 * row.fitted:.0f} %" if row.rows else "",
            f"{100 * row.strain_xx:+.3f} ± {100 * row.spread_xx:.3f} %"
            if row.rows
            else "",
            f"{100 * row.strain_yy:+.3f} ± {100 * row.spread_yy:.3f} %"
            if row.rows
            else "",
            f"{100 * row.sigma:.3f} %" if row.rows else "",
            f"{row.seconds:.0f} s",
        )
    return table
