"""What a run will do, before it does it: blocks, bytes, memory, time."""

import math
import time
import tracemalloc
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr
import zarr
from zarr.storage import MemoryStore

from fcunet_dask._blockwise import BAND, blocks_in_task
from fcunet_dask._commit import ArraySpec, compressors
from fcunet_dask._computing import computing
from fcunet_dask._places import located, place
from fcunet_dask._source import source_of
from fcunet_dask.peaks import BlockPeaks, block_peaks
from fcunet_dask.pipeline.detect import (
    bragg_arrays,
    choose_detector,
    detection_block,
)
from fcunet_dask.pipeline.maps import analysis_block, bytes_per_position, map_arrays
from fcunet_dask.pipeline.prepare import prepare_scan
from fcunet_dask.pipeline.problems import Need, misplaced, too_much
from fcunet_dask.pipeline.settings import Settings
from fcunet_dask.pipeline.workers import Workers, active_workers
from fcunet_dask.schema import PATTERN
from fcunet_dask.types import Array

LATTICE_SECONDS: Final = 2e-4
"""Of a position in the second pass (measured, reading and writing included)."""
LATTICE_SHARE: Final = 0.86
"""Of the bytes of lattice and strain that compression leaves (measured)."""
MARK_BYTES: Final = 520
_SAMPLE: Final = 8
"""Rows and columns of patterns that are measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run will do.

    Attributes
    ----------
    scan_shape, pattern_shape, block : tuple of int
        Positions, pixels, and rows and columns of a block of the first pass.
    blocks, tasks, bands : int
        Of the first pass; so many tasks in all, at most 5,000 in a band.
    map_blocks : int
        Blocks of the second pass.
    scan_bytes, block_bytes : int
        Of the patterns, as read.
    result_bytes : int
        On disk, estimated from a compressed sample.
    free_bytes : int or None
        Where the results go; None where nobody knows.
    worker_bytes : int
        Memory that a process needs, estimated, with a block in each of its threads.
    device_bytes : int
        Memory of a GPU that patterns need, with a block in each thread of its process;
        the detector takes half of what is left. 0 without GPUs.
    workers : Workers
        Who would compute.
    read_seconds, detect_seconds : float
        Of a pattern, measured on this machine, one thread.
    seconds : float
        Of the run, if workers are as fast as this machine.
    disks : float
        In a pattern, mean of the sample.
    problems : tuple of str
        Why it cannot be done, each with its remedy.
    """

    scan_shape: tuple[int, int]
    pattern_shape: tuple[int, int]
    block: tuple[int, int]
    blocks: int
    tasks: int
    bands: int
    map_blocks: int
    scan_bytes: int
    block_bytes: int
    result_bytes: int
    free_bytes: int | None
    worker_bytes: int
    device_bytes: int
    workers: Workers
    read_seconds: float
    detect_seconds: float
    seconds: float
    disks: float
    problems: tuple[str, ...]


def plan(
    scan: str | Path | xr.Dataset,
    out: str | Path = ".",
    *,
    settings: Settings | None = None,
) -> Plan:
    """Say what `run` would do with a scan, from a few of its patterns.

    The probe is measured, and 64 patterns from the middle of the scan are read and
    searched, as a worker would, on this machine, one thread.

    Parameters
    ----------
    scan : str, Path or xarray.Dataset
        As `run` takes it.
    out : str or Path
        Where the results would go.
    settings : Settings, optional
        As `run` takes them.

    Returns
    -------
    Plan
        For the workers of the active Dask client; without one, the threads of this
        process. What cannot fit is in its ``problems``.

    Raises
    ------
    ReaderError, SchemaError, ParameterError
        If it is no scan, or the settings do not fit it.
    AnalysisError
        If the sample has no disks.
    """
    settings = settings or Settings()
    scan = prepare_scan(scan, settings)
    workers = active_workers()
    with computing():
        _, detector = choose_detector(scan, settings)
        sample = _measure(scan, block_peaks(scan, detector))
    shape = scan[PATTERN.name].shape
    block = detection_block(scan)
    sizes = _sizes(scan, detector.max_peaks, block)
    result_bytes = _result_bytes(sample, bragg_arrays(scan, detector.max_peaks), sizes)
    each = 2 * sizes.block_bytes + sizes.result_bytes + sample.detector_bytes
    free = place(located(out)).free_bytes()
    need = Need(block, sizes.blocks, sizes.block_bytes, each, result_bytes)
    problems = [*misplaced(scan, out), *too_much(need, workers, free)]
    busy = min(workers.threads, sizes.blocks)
    each_position = sample.read_seconds + sample.detect_seconds + LATTICE_SECONDS
    return Plan(
        scan_shape=(shape[0], shape[1]),
        pattern_shape=(shape[2], shape[3]),
        block=block,
        blocks=sizes.blocks,
        tasks=sizes.tasks,
        bands=-(-sizes.tasks // BAND),
        map_blocks=sizes.map_blocks,
        scan_bytes=int(scan[PATTERN.name].nbytes),
        block_bytes=sizes.block_bytes,
        result_bytes=result_bytes,
        free_bytes=free,
        worker_bytes=workers.needed_bytes(each, sizes.blocks),
        device_bytes=workers.device_needs(sizes.block_bytes, sizes.blocks),
        workers=workers,
        read_seconds=sample.read_seconds,
        detect_seconds=sample.detect_seconds,
        seconds=sizes.positions * each_position / busy,
        disks=sample.disks,
        problems=tuple(map(str, problems)),
    )


def check_fits(scan: xr.Dataset, out: str | Path) -> None:
    """Refuse before any work what surely cannot fit; nothing is measured.

    Raises
    ------
    ParameterError
        If the blocks in the threads of a worker are larger than its memory.
    StoreError
        If not even the maps fit on the disk.
    """
    block = detection_block(scan)
    shape = scan[PATTERN.name].shape
    blocks = _number(shape[:2], block)
    least = round(shape[0] * shape[1] * 0.5 * _map_bytes())
    each = _block_bytes(scan, block)
    free = place(located(out)).free_bytes()
    need = Need(block, blocks, each, each, least)
    for problem in too_much(need, active_workers(), free):
        raise problem


@dataclass(frozen=True, slots=True)
class _Sizes:
    blocks: int
    tasks: int
    map_blocks: int
    positions: int
    block_bytes: int
    result_bytes: int
    """Of the Bragg vectors of one block, in memory."""


def _sizes(scan: xr.Dataset, max_peaks: int, block: tuple[int, int]) -> _Sizes:
    rows, columns = scan[PATTERN.name].shape[:2]
    blocks = _number((rows, columns), block)
    second = analysis_block(block, (rows, columns))
    per_position = bytes_per_position(bragg_arrays(scan, max_peaks))
    return _Sizes(
        blocks=blocks,
        tasks=-(-blocks // blocks_in_task(blocks)),
        map_blocks=_number((rows, columns), second),
        positions=rows * columns,
        block_bytes=_block_bytes(scan, block),
        result_bytes=block[0] * block[1] * per_position,
    )


def _number(scan: tuple[int, ...], block: tuple[int, int]) -> int:
    """Return the number of blocks in a scan."""
    return math.prod(-(-size // n) for size, n in zip(scan, block, strict=True))


def _block_bytes(scan: xr.Dataset, block: tuple[int, int]) -> int:
    pattern = scan[PATTERN.name]
    return math.prod((*block, *pattern.shape[2:])) * pattern.dtype.itemsize


def _map_bytes() -> int:
    return bytes_per_position(map_arrays((1, 1), (1, 1)))


@dataclass(frozen=True, slots=True)
class _Sample:
    read_seconds: float
    detect_seconds: float
    detector_bytes: int
    disks: float
    values: dict[str, Array]


def _measure(scan: xr.Dataset, work: BlockPeaks) -> _Sample:
    """Read and search a few patterns twice: the second time is what a block costs."""
    pattern = scan[PATTERN.name]
    box = tuple(
        slice(max(0, n // 2 // _SAMPLE * _SAMPLE), n) for n in pattern.shape[:2]
    )
    box = tuple(slice(s.start, min(s.start + _SAMPLE, s.stop)) for s in box)
    source = source_of(pattern.data)

    def read() -> Array:
        if source is None:
            return np.asarray(pattern[box])
        return source.read((*box, slice(None), slice(None)))

    block = read()
    tracemalloc.start()
    work(block)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    seconds = []
    for action in (read, lambda: work(block)):
        start = time.perf_counter()
        values: Any = action()
        seconds.append(
            (time.perf_counter() - start) / (block.shape[0] * block.shape[1])
        )
    disks = float(np.isfinite(values["bragg_intensity"]).sum(axis=-1).mean())
    return _Sample(seconds[0], seconds[1], peak, disks, values)


def _result_bytes(sample: _Sample, arrays: dict[str, ArraySpec], sizes: _Sizes) -> int:
    """Bytes of all results on disk: the sample's, compressed, times the positions."""
    store, stored = MemoryStore(), 0
    for name, values in sample.values.items():
        array = zarr.create_array(
            store,
            name=name,
            shape=values.shape,
            dtype=values.dtype,
            chunks=values.shape,
            compressors=compressors(),
            fill_value=arrays[name].fill_value,
        )
        array[...] = values
        stored += array.nbytes_stored()
    number = math.prod(next(iter(sample.values.values())).shape[:2])
    each = stored / number + LATTICE_SHARE * _map_bytes()
    marks = MARK_BYTES * (sizes.blocks + sizes.map_blocks)
    return round(each * sizes.positions) + marks
