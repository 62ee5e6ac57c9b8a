"""What a run will do, before it does it: blocks, bytes, memory, time."""

import logging
import math
import sys
import time
import tracemalloc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import dask
import numpy as np
import xarray as xr
import zarr
from dask.local import get_sync
from zarr.storage import MemoryStore

from fcunet_dask._blockwise import BAND, blocks_in_task
from fcunet_dask._commit import ArraySpec, compressors
from fcunet_dask._computing import computing
from fcunet_dask._places import located, place
from fcunet_dask._source import source_of
from fcunet_dask._source_guard import refuse_within
from fcunet_dask.cluster.memory import own_memory
from fcunet_dask.errors import FcunetError, ParameterError, StoreError
from fcunet_dask.peaks import BlockPeaks, block_peaks
from fcunet_dask.pipeline.detect import (
    bragg_arrays,
    choose_detector,
    detection_block,
)
from fcunet_dask.pipeline.maps import analysis_block, bytes_per_position, map_arrays
from fcunet_dask.pipeline.prepare import prepare_scan
from fcunet_dask.pipeline.settings import Settings
from fcunet_dask.schema import PATTERN
from fcunet_dask.types import Array

_LOG = logging.getLogger(__name__)
WORKER_BYTES: Final = 200 * 2**20
"""Of a worker process that has this package loaded and does nothing (measured)."""
LATTICE_SECONDS: Final = 2e-4
"""Of a position in the second pass (measured, reading and writing included)."""
LATTICE_SHARE: Final = 0.86
"""Of the bytes of lattice and strain that compression leaves (measured)."""
MARK_BYTES: Final = 520
_SAMPLE: Final = 8
"""Rows and columns of patterns that are measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """Who computes: processes, threads in all, memory and GPUs of each process."""

    processes: int
    threads: int
    memory_bytes: int
    gpus: int = 0

    def needed_bytes(self, each: int, blocks: int) -> int:
        """Memory of a process in which every thread that has a block needs `each`."""
        return WORKER_BYTES + self.busy_threads(blocks) * each

    def busy_threads(self, blocks: int) -> int:
        """Threads of a process that have one of so many blocks, at most."""
        return min(-(-self.threads // self.processes), blocks)


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
        Of the patterns of a block, beside what the detector needs; 0 without GPUs.
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
    problems = _misplaced(scan, out)
    problems += _problems(workers, each, block, sizes.blocks, result_bytes, free)
    busy = min(workers.threads, sizes.blocks)
    positions = shape[0] * shape[1]
    cpu = positions * (sample.read_seconds + sample.detect_seconds + LATTICE_SECONDS)
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
        device_bytes=sizes.block_bytes if workers.gpus else 0,
        workers=workers,
        read_seconds=sample.read_seconds,
        detect_seconds=sample.detect_seconds,
        seconds=cpu / busy,
        disks=sample.disks,
        problems=tuple(map(str, problems)),
    )


def _misplaced(scan: xr.Dataset, out: str | Path) -> list[FcunetError]:
    try:
        refuse_within(located(out), scan[PATTERN.name].data)
    except StoreError as error:
        return [error]
    return []


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
    for problem in _problems(active_workers(), each, block, blocks, least, free):
        raise problem


def active_workers() -> Workers:
    """Return who computes: the workers of the active client, or threads of this process.

    Where `dask.annotate` asks for resources, only workers that have them compute. A
    cluster whose workers are still to come is told in the log: what is computed waits.
    """
    distributed = sys.modules.get("distributed")
    try:
        client = None if distributed is None else distributed.default_client()
    except ValueError:
        client = None
    info = {} if client is None else client.scheduler_info(n_workers=-1)["workers"]
    asked = _asked_resources()
    info = {name: w for name, w in info.items() if _has(w["resources"], asked)}
    if client is not None and not info:
        with_these = "".join(f" with {n}={amount:g}" for n, amount in asked.items())
        _LOG.warning(
            "%s has no workers%s yet: work waits until some come; till then this "
            "process is reckoned with",
            client.scheduler.address,
            with_these,
        )
    if not info:
        return Workers(processes=1, threads=_own_threads(), memory_bytes=own_memory())
    limits = [w["memory_limit"] or own_memory() for w in info.values()]
    return Workers(
        processes=len(info),
        threads=sum(w["nthreads"] for w in info.values()),
        memory_bytes=min(limits),
        gpus=sum(int(w["resources"].get("GPU", 0)) for w in info.values()),
    )


def _asked_resources() -> Mapping[str, float]:
    """Return what a worker must have to be given work, as `dask.annotate` says it."""
    asked = dask.base.get_annotations().get("resources") or {}
    return asked if isinstance(asked, Mapping) else {}


def _has(resources: Mapping[str, float], asked: Mapping[str, float]) -> bool:
    return all(resources.get(name, 0) >= amount for name, amount in asked.items())


def _own_threads() -> int:
    if dask.base.get_scheduler() is get_sync:
        return 1
    return int(dask.config.get("num_workers", None) or dask.system.CPU_COUNT)


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


def _problems(
    workers: Workers,
    each: int,
    block: tuple[int, int],
    blocks: int,
    result_bytes: int,
    free: int | None,
) -> Iterator[FcunetError]:
    needed = workers.needed_bytes(each, blocks)
    if needed > workers.memory_bytes:
        yield ParameterError(
            f"a worker needs {needed / 2**20:,.0f} MiB of memory for a block of "
            f"{block[0]} × {block[1]} patterns in each of "
            f"{workers.busy_threads(blocks)} threads and has "
            f"{workers.memory_bytes / 2**20:,.0f} MiB: give it more memory, or fewer "
            "threads, or open the scan with smaller blocks=(rows, columns)"
        )
    if free is not None and result_bytes > free:
        yield StoreError(
            f"the results take about {result_bytes / 2**30:,.2f} GiB on disk and "
            f"{free / 2**30:,.2f} GiB are free: make room, or write elsewhere"
        )
