"""The benchmarks of graphs run, and a task is as small as docs/benchmarks.md says."""

import subprocess
import sys
from pathlib import Path

import pytest

SCALING = Path(__file__).parents[2] / "benchmarks" / "scaling"
LIMIT = 1000
"""Bytes of a task, pickled."""


def table(*words):
    """Return the rows of the table that a benchmark prints, by its titles."""
    command = [sys.executable, str(SCALING), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    titles, _, *rows = (
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in done.stdout.splitlines()
    )
    return [dict(zip(titles, row, strict=True)) for row in rows]


@pytest.mark.parametrize(
    ("command", "blocks", "size"),
    [("graphs", 2000, "B a task"), ("submit", 500, "pickled, B a task")],
)
def test_a_task_takes_less_than_a_kilobyte(command, blocks, size):
    (row,) = table(command, str(blocks))
    assert int(row["blocks"]) == int(row["tasks"]) == blocks
    assert 0 < int(row[size]) < LIMIT
