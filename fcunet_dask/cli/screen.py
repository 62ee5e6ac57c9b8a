"""What the commands share: the terminal, progress bars, and words for values."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from fcunet_dask.calibration import Calibration

console = Console()
errors = Console(stderr=True, soft_wrap=True)


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int, int], None]]:
    """Show one bar for each stage that is reported."""
    columns = (
        TextColumn("{task.description:>8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield report


def region(text: str | None, option: str) -> tuple[slice, slice] | None:
    """Parse ``ROWS,COLUMNS`` such as ``:,0:8``: rows and columns of the scan."""
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) != 2:
        msg = f"{option}: expected ROWS,COLUMNS such as ':,0:8', got {text!r}"
        raise typer.BadParameter(msg)
    return _slice(parts[0], option), _slice(parts[1], option)


def _slice(text: str, option: str) -> slice:
    try:
        ends = [int(t) if t.strip() else None for t in text.split(":")]
    except ValueError:
        ends = []
    if len(ends) == 1 and ends[0] is not None:
        return slice(ends[0], ends[0] + 1 or None)
    if len(ends) != 2:
        msg = f"{option}: {text!r} is no range of rows or columns such as 0:8"
        raise typer.BadParameter(msg)
    return slice(*ends)


def whole_pair(text: str | None, option: str) -> tuple[int, int] | None:
    """Parse ``ROWS,COLUMNS`` such as ``64,64``."""
    if text is None:
        return None
    try:
        rows, columns = (int(t) for t in text.split(","))
    except ValueError:
        msg = f"{option}: expected ROWS,COLUMNS such as 64,64, got {text!r}"
        raise typer.BadParameter(msg) from None
    return rows, columns


def pair(text: str | None, option: str) -> tuple[float, float] | None:
    """Parse ``Y,X``."""
    if text is None:
        return None
    try:
        y, x = (float(t) for t in text.split(","))
    except ValueError:
        msg = f"{option}: expected Y,X such as 0.12,0.42, got {text!r}"
        raise typer.BadParameter(msg) from None
    return y, x


def given_calibration(**values: float | None) -> Calibration | None:
    """Return what was given of a calibration; None where nothing was."""
    given = {name: value for name, value in values.items() if value is not None}
    return Calibration.from_dict(given) if given else None
