"""The one place that maps functions over the blocks of a scan; it knows no physics."""

import itertools
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import Delayed, delayed
from dask.highlevelgraph import HighLevelGraph
from dask.tokenize import tokenize

from fcunet_dask._bands import cluster_client, compute_band
from fcunet_dask._computing import computing
from fcunet_dask._shared import Shared
from fcunet_dask._source import BlockSource, source_of
from fcunet_dask.types import Array

BAND = 5_000
"""Most tasks that the scheduler is given at once."""
TASKS = 4_096
"""Tasks from which on a task makes more than one block."""
MOST_IN_TASK = 8
"""Blocks."""
MOST_SHARED = 2**26
"""Bytes, of all copies of what the tasks of a band share; more travel once instead."""

BlockFunction = Callable[[Array], Mapping[str, Array]]
RegionFunction = Callable[[tuple[slice, slice]], Mapping[str, Array]]


class Store(Protocol):
    """Where blocks are committed (`fcunet_dask._commit.BlockStore`)."""

    def region(self, block_id: tuple[int, int]) -> tuple[slice, slice]:
        """Rows and columns of the scan that a block covers."""

    def pending(self) -> list[tuple[int, int]]:
        """Blocks that are not committed."""

    def has(self, block_id: tuple[int, int]) -> bool:
        """Whether a block is committed."""

    def committed(self) -> list[tuple[int, int]]:
        """Blocks that are."""

    def verify(self, block_id: tuple[int, int]) -> bool:
        """Read a committed block back; it is pending again where it is damaged."""

    def expect_room(self, block_id: tuple[int, int]) -> None:
        """Refuse a block that cannot be written."""

    def write(self, block_id: tuple[int, int], values: Mapping[str, Array]) -> None:
        """Commit a block."""


def scan_blocks(array: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Sizes of the blocks of `array` along scan_y and scan_x; one if in memory."""
    chunks = getattr(array, "chunks", None)
    if chunks is None:
        return (int(array.shape[0]),), (int(array.shape[1]),)
    return tuple(chunks[0]), tuple(chunks[1])


def map_patterns(
    function: BlockFunction,
    pattern: xr.DataArray,
    widths: Mapping[str, tuple[int, ...]],
) -> dict[str, da.Array]:
    """Apply `function` to every block of patterns, lazily, one task a block.

    Parameters
    ----------
    function : callable
        Patterns (rows, columns, q_y, q_x) → named arrays (rows, columns, ...), float32.
    pattern : xarray.DataArray
        (scan_y, scan_x, q_y, q_x). Where its blocks come from a file, the task reads
        its block itself.
    widths : mapping of str to tuple of int
        Shape of each result behind the scan's dimensions.

    Returns
    -------
    dict of str to dask.array.Array
        (scan_y, scan_x, ...), float32, in the blocks of `pattern`.
    """
    rows, columns = scan_blocks(pattern.data)
    total = sum(int(np.prod(w)) for w in widths.values())
    packer = _Packer(function, tuple(widths))
    chunks = (rows, columns, (total,))
    meta = np.empty((0, 0, 0), np.float32)
    source = source_of(pattern.data)
    if source is not None:
        # the name of the patterns tells a file from the one that replaced it
        token = tokenize(pattern.data.name, function, tuple(widths.items()))
        shared = Shared((packer, _Edges(rows, columns)), source)
        packed = da.map_blocks(
            _read_and_pack,
            _carried(shared, len(rows) * len(columns)),
            chunks=chunks,
            meta=meta,
            name=f"map-patterns-{token}",
        )
    else:
        data = _whole_in_q(pattern.data)
        token = tokenize(data.name, function, tuple(widths.items()))
        packed = da.map_blocks(
            _pack,
            data,
            _carried(Shared(packer, None), data.npartitions),
            chunks=chunks,
            drop_axis=3,
            meta=meta,
            name=f"map-patterns-{token}",
        )
    return _unpack(packed, widths)


class _Packer:
    """Lays the named results of a block out as one array."""

    def __init__(self, function: BlockFunction, names: tuple[str, ...]) -> None:
        self.function = function
        self.names = names

    def __call__(self, block: Array) -> Array:
        with computing():
            results = self.function(block)
        scan = block.shape[:2]
        flat = [
            np.asarray(results[n], np.float32).reshape(*scan, -1) for n in self.names
        ]
        return np.concatenate(flat, axis=2)


class _Edges:
    """Where the blocks of a scan begin and end."""

    def __init__(self, rows: Sequence[int], columns: Sequence[int]) -> None:
        self.ends = tuple(
            tuple(itertools.accumulate(sizes, initial=0)) for sizes in (rows, columns)
        )

    def region(self, block: tuple[int, ...]) -> tuple[slice, slice]:
        """Rows and columns of a block."""
        (rows, columns), (i, j) = self.ends, block[:2]
        return slice(rows[i], rows[i + 1]), slice(columns[j], columns[j + 1])


def _carried(shared: Shared, tasks: int) -> Any:
    """Return what each task carries; the key it depends on, were the copies large.

    Few tasks that depend on a key go to the one worker that has it (`_band_graph`).
    """
    if _travels_once(shared, tasks):
        return delayed(shared, pure=False, traverse=False)
    return shared


def _travels_once(shared: Shared, tasks: int) -> bool:
    """Whether a copy for each task is too much for the way to a cluster."""
    return bool(cluster_client() and shared.nbytes() * tasks > MOST_SHARED)


def _read_and_pack(shared: Shared, block_id: tuple[int, ...] = ()) -> Array:
    (packer, edges), source = shared.open()
    return packer(source.read((*edges.region(block_id), slice(None), slice(None))))


def _pack(block: Array, shared: Shared) -> Array:
    packer, _ = shared.open()
    return packer(block)


def _whole_in_q(data: Any) -> da.Array:
    if not isinstance(data, da.Array):
        return da.from_array(data, chunks=data.shape)
    if len(data.chunks[2]) > 1 or len(data.chunks[3]) > 1:
        return data.rechunk({2: -1, 3: -1})
    return data


def _unpack(
    packed: da.Array, widths: Mapping[str, tuple[int, ...]]
) -> dict[str, da.Array]:
    results = {}
    start = 0
    for name, width in widths.items():
        stop = start + int(np.prod(width))
        part = packed[:, :, start:stop]
        results[name] = (
            part.reshape(*packed.shape[:2], *width) if width else part[..., 0]
        )
        start = stop
    return results


def commit_patterns(
    function: BlockFunction,
    pattern: xr.DataArray,
    store: Store,
) -> None:
    """Apply `function` to the blocks of patterns that `store` lacks, and commit them.

    As `commit_blocks`, of which it is the case where a block is made from patterns.

    Parameters
    ----------
    function : callable
        As for `map_patterns`, with the dtypes of the store.
    pattern : xarray.DataArray
        (scan_y, scan_x, q_y, q_x).
    store : Store
        Its blocks need not be those of `pattern`.
    """
    source = source_of(pattern.data)
    if source is not None:
        commit_blocks(_OfSource(function, source), store)
        return
    data = _whole_in_q(pattern.data)
    task = delayed(_commit_given, pure=False)
    pending = store.pending()
    shared = _carried(Shared(function, store), min(len(pending), BAND))
    for band in _bands(pending, BAND):
        compute_band([task(shared, b, data[store.region(b)]) for b in band])


def commit_blocks(function: RegionFunction, store: Store) -> None:
    """Make the blocks that `store` lacks, and commit them, on the active scheduler.

    In bands that bound what the scheduler sees. A task makes one block, and where there
    are many blocks several, one after another; each is committed when it is made, and
    one that is committed already, by a worker that died afterwards, is not made again.

    Parameters
    ----------
    function : callable
        Rows and columns of a block → the arrays of the store.
    store : Store
        What is filled.

    Raises
    ------
    ComputeError
        If workers die on a block, again and again.
    """
    _each_block(_commit_batch, Shared(function, store), store.pending())


def verify_blocks(store: Store) -> None:
    """Read the committed blocks back, on the active scheduler.

    A machine that lost its power may have kept marks and lost what they speak of; a
    copy may be cut short. What is not as it was written is pending again.

    Parameters
    ----------
    store : Store
        What was filled.
    """
    _each_block(_verify_batch, Shared(None, store), store.committed())


def _each_block(
    task: Callable[[Shared, Array], None],
    shared: Shared,
    blocks: list[tuple[int, int]],
) -> None:
    size = blocks_in_task(len(blocks))
    for band in _bands(blocks, BAND * size):
        compute_band([_band_graph(task, shared, band, size)])


def blocks_in_task(blocks: int) -> int:
    """Return how many of `blocks` one task makes: one, unless they are thousands."""
    return min(max(blocks // TASKS, 1), MOST_IN_TASK)


def _bands(blocks: list[tuple[int, int]], size: int) -> Iterator[list[tuple[int, int]]]:
    for start in range(0, len(blocks), size):
        yield blocks[start : start + size]


def _band_graph(
    task: Callable[[Shared, Array], None],
    shared: Shared,
    band: list[tuple[int, int]],
    size: int,
) -> Delayed:
    """One task for `size` blocks each, and one that waits for all of them.

    Each carries what it shares with the others. Did it depend on it, the scheduler would
    send it to the one worker that has it: all tasks, where they are few, or ask for
    resources; others get them only when the first is done.
    """
    name = f"{task.__name__.strip('_')}-{uuid.uuid4().hex}"
    graph: dict[Any, Any] = {}
    carried: Any = shared
    if _travels_once(shared, -(-len(band) // size)):
        carried = f"{name}-shared"
        graph[carried] = shared
    for i, start in enumerate(range(0, len(band), size)):
        ids = np.array(band[start : start + size], np.int32)
        graph[name, i] = (task, carried, ids)
    graph[f"{name}-all"] = (len, [key for key in graph if isinstance(key, tuple)])
    # a layer keeps what `dask.annotate` says of it, such as resources of workers
    layers = HighLevelGraph.from_collections(name, graph)
    return Delayed(f"{name}-all", layers, layer=name)


@dataclass(frozen=True, slots=True)
class _OfSource:
    """A function of patterns as one of rows and columns: it reads them itself."""

    function: BlockFunction
    source: BlockSource

    def __call__(self, region: tuple[slice, slice]) -> Mapping[str, Array]:
        return self.function(self.source.read((*region, slice(None), slice(None))))


def _commit_batch(shared: Shared, block_ids: Array) -> None:
    function, store = shared.open()
    for y, x in block_ids.tolist():
        if not store.has((y, x)):
            store.expect_room((y, x))
            with computing():
                values = function(store.region((y, x)))
            store.write((y, x), values)


def _verify_batch(shared: Shared, block_ids: Array) -> None:
    _, store = shared.open()
    for y, x in block_ids.tolist():
        store.verify((y, x))


def _commit_given(shared: Shared, block_id: tuple[int, int], data: Array) -> None:
    function, store = shared.open()
    store.expect_room(block_id)
    with computing():
        values = function(data)
    store.write(block_id, values)


def map_positions(
    kernel: Callable[..., Array],
    arrays: Sequence[xr.DataArray],
    width: int,
    **options: Any,
) -> xr.DataArray:
    """Apply a kernel to all positions of each block of labelled arrays, lazily.

    Parameters
    ----------
    kernel : callable
        Arrays (positions, ...) → one array (positions, width).
    arrays : sequence of xarray.DataArray
        (scan_y, scan_x, ...), in the same blocks.
    width : int
        Length of the result's last dimension.
    **options
        Passed to `kernel`.

    Returns
    -------
    xarray.DataArray
        (scan_y, scan_x, result), float64.
    """
    core = [a.dims[2:] for a in arrays]
    whole = [
        a.chunk(dict.fromkeys(dims, -1)) if a.chunks and dims else a
        for a, dims in zip(arrays, core, strict=True)
    ]
    return xr.apply_ufunc(
        _Flattened(kernel),
        *whole,
        kwargs=options,
        input_core_dims=core,
        output_core_dims=[["result"]],
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={"output_sizes": {"result": width}},
    )


class _Flattened:
    """A kernel over positions as a kernel over a block of the scan."""

    def __init__(self, kernel: Callable[..., Array]) -> None:
        self.kernel = kernel

    def __call__(self, *blocks: Array, **options: Any) -> Array:
        scan = blocks[0].shape[:2]
        flat = [b.reshape(-1, *b.shape[2:]) for b in blocks]
        return self.kernel(*flat, **options).reshape(*scan, -1)
