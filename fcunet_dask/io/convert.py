"""Scans into the native store, block by block."""

import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import (
    FIRST_COMPLETED,
    Future,
    ThreadPoolExecutor,
    as_completed,
    wait,
)
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr

from fcunet_dask import schema
from fcunet_dask._axes import calibration_of
from fcunet_dask._commit import ArraySpec, Block, BlockStore, damage
from fcunet_dask._source import Slices, source_of
from fcunet_dask._source_guard import refuse_within
from fcunet_dask.errors import ParameterError, SchemaError, StoreError
from fcunet_dask.io.raw import Pair
from fcunet_dask.io.scan import open_scan
from fcunet_dask.types import Array

Progress = Callable[[int, int], None]

INNER: Final = 4
SHARD: Final = 16
LARGE_SHARD: Final = 32
LARGE_SCAN: Final = 10**12
INNER_BYTES: Final = 16 * 2**20
SHARD_BYTES: Final = 64 * 2**20
BLOCK_BYTES: Final = 64 * 2**20

_WRITERS: Final = 2
_ROUNDS: Final = 3


def convert(
    source: str | Path,
    out: str | Path,
    *,
    resume: bool = True,
    overwrite: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> str | Path:
    """Write a scan of any known format as the native store, in bounded memory.

    Each block is read, written, and marked with the checksum of what was read; at the
    end each is read back and compared. A conversion that was interrupted goes on
    where it was; one that had ended is read back, and what is damaged is written again.

    Parameters
    ----------
    source : str or Path
        Any that `open_scan` opens.
    out : str or Path
        Folder of the store, or URL in an object store.
    resume : bool
        Whether to go on with a conversion of the same source that is there.
    overwrite : bool
        Whether to delete a store that is there.
    progress : callable, optional
        Called with the number of steps done and their total; each block is two,
        written and compared.
    **options
        As `open_scan` takes them.

    Returns
    -------
    str or Path
        `out`.

    Raises
    ------
    ReaderError
        If `source` cannot be opened or read.
    StoreError
        If `out` holds something else, is in use, or the disk is full.
    """
    scan = open_scan(source, **options)
    _write(scan, out, resume=resume, overwrite=overwrite, progress=progress)
    return out


def save_scan(
    scan: xr.Dataset,
    path: str | Path,
    *,
    overwrite: bool = False,
    shard: Pair | None = None,
) -> None:
    """Write a scan as the native store, block by block.

    Parameters
    ----------
    scan : xarray.Dataset
        With ``pattern`` (scan_y, scan_x, q_y, q_x); ``probe`` and ``mask`` (q_y, q_x)
        where there are any.
    path : str or Path
        Folder of the store, or URL in an object store.
    overwrite : bool
        Whether to delete a store that is there.
    shard : tuple of int, optional
        Rows and columns of the scan in one file, multiples of 4. By default (16, 16),
        and (32, 32) for scans of more than 1 TB.

    Raises
    ------
    SchemaError
        If `scan` has no ``pattern``, one with other dims or no position, or attributes
        that are no plain numbers, texts and lists.
    StoreError
        If `path` exists, is what `scan` is read from, or the disk is full.
    """
    _write(scan, path, resume=False, overwrite=overwrite, shard=shard)


def _write(
    scan: xr.Dataset,
    path: str | Path,
    *,
    resume: bool,
    overwrite: bool,
    shard: Pair | None = None,
    progress: Progress | None = None,
) -> None:
    schema.validate(scan, schema.PATTERN)
    refuse_within(path, scan["pattern"].data)
    spec = _spec(scan["pattern"], shard)
    attrs = {str(key): _plain(key, value) for key, value in scan.attrs.items()}
    attrs["calibration"] = calibration_of(scan).to_dict()
    store = BlockStore.create(
        path,
        {"pattern": spec},
        _block(scan["pattern"], spec),
        fingerprint=_fingerprint(attrs),
        attrs=attrs,
        overwrite=overwrite,
        resume=resume,
    )
    with store:
        _put_small(store, scan)
        _fill(store, _reader(scan["pattern"]), progress or _silent)
        if not store.complete:
            store.finish({"digest": store.digest()})


def _put_small(store: BlockStore, scan: xr.Dataset) -> None:
    """Write what belongs to no block; of a finished store, what cannot be read."""
    whole = store.complete
    for name in ("probe", "mask", *schema.SCAN, *schema.Q):
        if name not in scan.variables:
            continue
        if not whole or damage(store.place, name, values=True):
            variable = scan[name]
            dims = tuple(map(str, variable.dims))
            store.put(name, dims, np.asarray(variable), variable.attrs)


def _plain(key: Any, value: Any) -> Any:
    """Return an attribute that a store can hold; refuse another."""
    value = value.item() if isinstance(value, np.generic) else value
    try:
        json.dumps(value)
    except (TypeError, ValueError) as error:
        msg = (
            f"attribute {key!r} of the scan cannot be stored ({error}): leave it out, "
            f"del scan.attrs[{key!r}], or make it plain numbers, texts and lists"
        )
        raise SchemaError(msg) from error
    return value


def _silent(done: int, total: int) -> None:
    """Say nothing."""


def _fingerprint(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the content depends on: the file may move, but must not change."""
    source = dict(attrs.get("source", {}))
    source["name"] = Path(str(source.pop("path", ""))).name
    return {"source": source, "calibration": attrs.get("calibration", {})}


def _spec(pattern: xr.DataArray, shard: Pair | None) -> ArraySpec:
    rows, columns, *q = pattern.shape
    size = math.prod(q) * pattern.dtype.itemsize
    side = LARGE_SHARD if pattern.nbytes > LARGE_SCAN else SHARD
    side = _at_most(SHARD_BYTES, side, size)
    inner = _at_most(INNER_BYTES, INNER, size)
    wanted = shard or (max(side, inner), max(side, inner))
    if any(n < 1 or n % inner for n in wanted):
        msg = f"shard must be two multiples of {inner}, got {wanted}"
        raise ParameterError(msg)
    chunks = min(inner, rows), min(inner, columns)
    shards = tuple(
        min(n - n % chunk, math.ceil(length / chunk) * chunk)
        for n, length, chunk in zip(wanted, (rows, columns), chunks, strict=True)
    )
    return ArraySpec(
        dims=(*schema.SCAN, *schema.Q),
        shape=pattern.shape,
        dtype=pattern.dtype.newbyteorder("=").str,
        chunks=(*chunks, *q),
        shards=(*shards, *q),
        attrs=dict(pattern.attrs),
    )


def _at_most(limit: int, side: int, size: int) -> int:
    while side > 1 and side * side * size > limit:
        side //= 2
    return side


def _block(pattern: xr.DataArray, spec: ArraySpec) -> Pair:
    """Return whole shards, beside one another as far as the source is read at once."""
    shard_y, shard_x = (spec.shards or spec.chunks)[:2]
    size = math.prod(spec.shape[2:]) * pattern.dtype.itemsize
    most = max(1, BLOCK_BYTES // (shard_y * shard_x * size))
    at_once = pattern.chunksizes["scan_x"][0] if pattern.chunks else shard_x
    columns = min(most, math.ceil(at_once / shard_x)) * shard_x
    return shard_y, columns


def _reader(pattern: xr.DataArray) -> Callable[[Slices], Array]:
    source = source_of(pattern.data)
    if source is not None:
        return source.read
    dtype = pattern.dtype.newbyteorder("=")
    return lambda box: np.ascontiguousarray(pattern[box].values, dtype)


def _fill(
    store: BlockStore, read: Callable[[Slices], Array], progress: Progress
) -> None:
    """Write what is missing and read all back, until all is as it was read."""
    everything = list(store.blocks())
    for _ in range(_ROUNDS):
        pending = store.pending()
        steps = itertools.count(len(everything) - len(pending) + 1)
        damaged = 0
        with ThreadPoolExecutor(_WRITERS) as pool:
            for _ in _written(store, read, pending, pool):
                progress(next(steps), 2 * len(everything))
            for whole in pool.map(store.verify, everything):
                damaged += not whole
                progress(next(steps), 2 * len(everything))
        if not damaged:
            return
    msg = f"{store.location}: {damaged} blocks do not read back as written; the disk fails"
    raise StoreError(msg)


def _written(
    store: BlockStore,
    read: Callable[[Slices], Array],
    pending: list[Block],
    pool: ThreadPoolExecutor,
) -> Iterator[None]:
    """Read in order, write beside it; a few blocks at most are in memory."""
    q = tuple(slice(0, n) for n in store.arrays["pattern"].shape[2:])
    running: set[Future[None]] = set()
    for block_id in pending:
        block = read((*store.region(block_id), *q))
        running.add(pool.submit(store.write, block_id, {"pattern": block}))
        del block
        if len(running) >= _WRITERS:
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()
    for future in as_completed(running):
        yield future.result()
