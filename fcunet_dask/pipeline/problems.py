"""Why a run cannot be done, each reason with its remedy."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import xarray as xr

from fcunet_dask._places import located
from fcunet_dask._source_guard import refuse_within
from fcunet_dask.errors import FcunetError, ParameterError, StoreError
from fcunet_dask.pipeline.workers import Workers
from fcunet_dask.schema import PATTERN


def misplaced(scan: xr.Dataset, out: str | Path) -> Iterator[FcunetError]:
    """Yield that an output lies in its scan."""
    try:
        refuse_within(located(out), scan[PATTERN.name].data)
    except StoreError as error:
        yield error


@dataclass(frozen=True, slots=True)
class Need:
    """What a run needs: blocks (rows, columns), their number; the rest in bytes.

    ``patterns`` are those of a block, ``each`` is all that a thread with a block needs,
    ``results`` is on disk.
    """

    block: tuple[int, int]
    blocks: int
    patterns: int
    each: int
    results: int


def too_much(need: Need, workers: Workers, free: int | None) -> Iterator[FcunetError]:
    """Yield what has no room: in memory, on a GPU, on the disk, where `free` is known."""
    rows, columns = need.block
    memory = workers.needed_bytes(need.each, need.blocks)
    if memory > workers.memory_bytes:
        smaller = _fitting(
            need,
            lambda share, blocks: (
                workers.memory_bytes
                >= workers.needed_bytes(math.ceil(share * need.each), blocks)
            ),
        )
        yield ParameterError(
            f"a worker needs {memory / 2**20:,.0f} MiB of memory for a block of {rows} × "
            f"{columns} patterns in each of {workers.busy_threads(need.blocks)} threads "
            f"and has {workers.memory_bytes / 2**20:,.0f} MiB: give it more memory, or "
            f"fewer threads, or open the scan with smaller {smaller}"
        )
    device = workers.device_needs(need.patterns, need.blocks)
    half = workers.device_bytes // 2  # the detector has the other
    if half and device > half:
        smaller = _fitting(
            need,
            lambda share, blocks: (
                half >= workers.device_needs(math.ceil(share * need.patterns), blocks)
            ),
        )
        yield ParameterError(
            f"the blocks in the threads of a GPU's worker take {device / 2**20:,.0f} MiB, "
            f"half of its memory is {half / 2**20:,.0f} MiB: give it fewer threads, or "
            f"open the scan with smaller {smaller}"
        )
    if free is not None and need.results > free:
        yield StoreError(
            f"the results take about {need.results / 2**30:,.2f} GiB on disk and "
            f"{free / 2**30:,.2f} GiB are free: make room, or write elsewhere"
        )


def _fitting(need: Need, fits: Callable[[float, int], bool]) -> str:
    """Words for blocks that fit: by their share of those of now, and their number.

    Smaller ones are more, and keep more threads busy.
    """
    rows, columns = need.block
    pixels = rows * columns
    while not fits(rows * columns / pixels, need.blocks * pixels // (rows * columns)):
        if rows * columns == 1:
            return "blocks=(rows, columns); not even one pattern fits"
        if rows >= columns:
            rows = -(-rows // 2)
        else:
            columns = -(-columns // 2)
    return f"blocks=({rows}, {columns}) (--blocks {rows},{columns})"
