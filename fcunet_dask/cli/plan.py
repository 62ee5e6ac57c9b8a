"""``fcunet-dask plan``: what `strain` would do, before it does it."""

import sys
from typing import Annotated

import typer
from rich.table import Table

from fcunet_dask.cli.screen import (
    console,
    errors,
    given_calibration,
    whole_pair,
)
from fcunet_dask.cli.where import Blocks, Cluster, Workers, computing
from fcunet_dask.io import open_scan
from fcunet_dask.pipeline import Plan, Settings
from fcunet_dask.pipeline import plan as make_plan

Option = typer.Option


def plan(
    scan: Annotated[str, typer.Argument(help="Scan: file, folder or URL.")],
    out: Annotated[str, typer.Argument(help="Where the results would go.")] = ".",
    q_step: Annotated[float | None, Option(help="Detector pixel, 1/Å.")] = None,
    voltage: Annotated[float | None, Option(help="Accelerating voltage, kV.")] = None,
    semiangle: Annotated[float | None, Option(help="Of convergence, mrad.")] = None,
    dataset: Annotated[str | None, Option(help="Dataset in an HDF5 file.")] = None,
    scan_shape: Annotated[
        str | None, Option(help="ROWS,COLUMNS of a scan stored as one row.")
    ] = None,
    blocks: Blocks = None,
    vacuum: Annotated[
        str | None, Option(help="Patterns in vacuum: file, or URL of a store.")
    ] = None,
    detector: Annotated[str, Option(help="Name of the disk detector.")] = "template",
    cluster: Cluster = "none",
    workers: Workers = 0,
) -> None:
    """Say what `strain` would do: blocks, tasks, bytes, memory, time.

    From 64 patterns of the scan, on this machine. What cannot fit is refused, with what
    would: exit code 1.
    """
    given = given_calibration(q_step=q_step, voltage=voltage, semiangle=semiangle)
    opened = open_scan(
        scan,
        dataset=dataset,
        scan_shape=whole_pair(scan_shape, "--scan-shape"),
        blocks=whole_pair(blocks, "--blocks"),
        calibration=given,
    )
    settings = Settings(detector=detector, vacuum=vacuum)
    with computing(cluster, workers):
        found = make_plan(opened, out, settings=settings)
    console.print(table_of(found), highlight=False)
    for problem in found.problems:
        errors.print(f"cannot be done: {problem}", style="bold red", highlight=False)
    if found.problems:
        sys.exit(1)


def table_of(plan: Plan) -> Table:
    """Lay a plan out for people."""
    table = Table(show_header=False, box=None, pad_edge=False)
    rows, columns = plan.scan_shape
    table.add_row(
        "scan",
        f"{rows} × {columns} patterns of {plan.pattern_shape[0]} × "
        f"{plan.pattern_shape[1]}, {_bytes(plan.scan_bytes)}",
    )
    table.add_row(
        "blocks",
        f"{plan.blocks} of {plan.block[0]} × {plan.block[1]} patterns, "
        f"{_bytes(plan.block_bytes)} each; {plan.tasks} tasks in {plan.bands} bands, "
        f"then {plan.map_blocks} blocks of lattices",
    )
    table.add_row(
        "workers",
        f"{plan.workers.processes} processes, {plan.workers.threads} threads, "
        f"{_bytes(plan.workers.memory_bytes)} each",
    )
    table.add_row("memory", f"{_bytes(plan.worker_bytes)} for each process")
    if plan.device_bytes:
        table.add_row("GPU memory", f"{_bytes(plan.device_bytes)} and the detector's")
    free = "" if plan.free_bytes is None else f" ({_bytes(plan.free_bytes)} free)"
    table.add_row("results", f"about {_bytes(plan.result_bytes)}{free}")
    table.add_row(
        "a pattern",
        f"{1e3 * plan.read_seconds:.2f} ms to read, {1e3 * plan.detect_seconds:.2f} ms "
        f"to search, {plan.disks:.1f} disks",
    )
    table.add_row("time", f"about {_time(plan.seconds)}")
    return table


def _bytes(number: int) -> str:
    for unit, size in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number / 1024:.3g} KiB"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
