"""The one place that maps functions over the blocks of a scan; it knows no physics."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import dask.array as da
import numpy as np
import xarray as xr
from dask import config
from dask.base import compute
from dask.delayed import delayed
from dask.tokenize import tokenize
from threadpoolctl import threadpool_limits

from fcunet_dask._source import BlockSource, Slices, source_of
from fcunet_dask.types import Array

BAND = 20_000
"""Most tasks that the scheduler is given at once."""

BlockFunction = Callable[[Array], Mapping[str, Array]]


class Store(Protocol):
    """Where blocks are committed (`fcunet_dask._commit.BlockStore`)."""

    def region(self, block_id: tuple[int, int]) -> tuple[slice, slice]:
        """Rows and columns of the scan that a block covers."""

    def pending(self) -> list[tuple[int, int]]:
        """Blocks that are not committed."""

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
    packer = delayed(_Packer(function, tuple(widths)), pure=True)
    chunks = (rows, columns, (total,))
    meta = np.empty((0, 0, 0), np.float32)
    source = source_of(pattern.data)
    if source is not None:
        edges = delayed((_edges(rows), _edges(columns)), pure=True)
        # the name of the patterns tells a file from the one that replaced it
        token = tokenize(pattern.data.name, function, tuple(widths.items()))
        packed = da.map_blocks(
            _read_and_pack,
            source,
            edges,
            packer,
            chunks=chunks,
            meta=meta,
            name=f"map-patterns-{token}",
        )
    else:
        data = _whole_in_q(pattern.data)
        packed = da.map_blocks(
            _pack, data, packer, chunks=chunks, drop_axis=3, meta=meta
        )
    return _unpack(packed, widths)


class _Packer:
    """Lays the named results of a block out as one array."""

    def __init__(self, function: BlockFunction, names: tuple[str, ...]) -> None:
        self.function = function
        self.names = names

    def __call__(self, block: Array) -> Array:
        with threadpool_limits(1):  # small matrices: more threads wait for one another
            results = self.function(block)
        scan = block.shape[:2]
        flat = [
            np.asarray(results[n], np.float32).reshape(*scan, -1) for n in self.names
        ]
        return np.concatenate(flat, axis=2)


def _edges(sizes: Sequence[int]) -> tuple[int, ...]:
    return tuple(itertools.accumulate(sizes, initial=0))


def _read_and_pack(
    source: BlockSource,
    edges: tuple[tuple[int, ...], tuple[int, ...]],
    packer: _Packer,
    block_id: tuple[int, ...] = (),
) -> Array:
    rows, columns = (
        slice(e[i], e[i + 1]) for e, i in zip(edges, block_id, strict=False)
    )
    return packer(source.read((rows, columns, slice(None), slice(None))))


def _pack(block: Array, packer: _Packer) -> Array:
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
    progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Apply `function` to the blocks of patterns that `store` lacks, and commit them.

    On the active Dask scheduler, one task a block, in bands that bound what the
    scheduler sees; a block is committed by the task that made it.

    Parameters
    ----------
    function : callable
        As for `map_patterns`, with the dtypes of the store.
    pattern : xarray.DataArray
        (scan_y, scan_x, q_y, q_x).
    store : Store
        Its blocks need not be those of `pattern`.
    progress : callable
        Called with the number of blocks committed by each band.
    """
    source = source_of(pattern.data)
    data = None if source is not None else _whole_in_q(pattern.data)
    shared = delayed((function, store, source), pure=False, traverse=False)
    task = delayed(_commit_block, pure=False)
    for band in _bands(store.pending()):
        with config.set({"optimization.fuse.active": False}):
            calls = [
                task(shared, b, None if data is None else data[store.region(b)])
                for b in band
            ]
            compute(*calls)
        progress(len(band))


def _bands(blocks: list[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    for start in range(0, len(blocks), BAND):
        yield blocks[start : start + BAND]


def _commit_block(
    shared: tuple[BlockFunction, Store, BlockSource | None],
    block_id: tuple[int, int],
    data: Array | None,
) -> None:
    function, store, source = shared
    if source is not None:
        region: Slices = (*store.region(block_id), slice(None), slice(None))
        data = source.read(region)
    if data is None:
        msg = "a block without a source needs its patterns"
        raise ValueError(msg)
    with threadpool_limits(1):
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
    return xr.apply_ufunc(
        _Flattened(kernel),
        *arrays,
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
