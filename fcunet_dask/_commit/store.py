"""A Zarr group that is filled block by block.

Each block of the scan owns whole chunks (shards) of every array, so blocks are written
without locks, by any process, any number of times. After its data, a block's mark is
put into ``marks/`` by an atomic rename.
"""

import itertools
import uuid
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import zarr

from fcunet_dask._commit.files import (
    checksum,
    drop_partial,
    read_attrs,
    read_json,
    remove,
    write_json,
    writing,
)
from fcunet_dask._commit.owner import Owner
from fcunet_dask._commit.plan import (
    KEY,
    MARKS,
    ArraySpec,
    Block,
    compressors,
    make_plan,
    make_store,
    refuse_foreign,
    refuse_kind,
    refuse_other,
)
from fcunet_dask.errors import StoreError
from fcunet_dask.types import Array


class BlockStore:
    """A Zarr group that is filled block by block, and can be gone on with.

    Made by `create`, or by `open` for reading and in workers; pickles as its path.

    Parameters
    ----------
    path : str or Path
        Folder of the group.

    Raises
    ------
    StoreError
        If `path` is no such group.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._owner: Owner | None = None
        attrs = read_attrs(self.path)
        if KEY not in attrs or "grid" not in attrs[KEY]:
            msg = f"{self.path} is no store that this package wrote"
            raise StoreError(msg)
        self.attrs: dict[str, Any] = attrs
        plan = attrs[KEY]
        self.fingerprint: dict[str, Any] = plan["fingerprint"]
        self.scan_shape: Block = tuple(plan["scan_shape"])
        self.grid: Block = tuple(plan["grid"])
        self.block: Block = tuple(plan["block"])

    @classmethod
    def create(
        cls,
        path: str | Path,
        arrays: Mapping[str, ArraySpec],
        block: Block,
        *,
        fingerprint: Mapping[str, Any],
        attrs: Mapping[str, Any] | None = None,
        overwrite: bool = False,
        resume: bool = True,
    ) -> Self:
        """Make the store, or open one with the same fingerprint to go on with it.

        Parameters
        ----------
        path : str or Path
            Folder of the group.
        arrays : mapping of str to ArraySpec
            What the blocks fill; all over the same scan.
        block : tuple of int
            Rows and columns of a block: whole chunks, or shards, of every array.
        fingerprint : mapping
            All that the content depends on (source, parameters, versions); plain JSON.
        attrs : mapping, optional
            Further attributes of the group; plain JSON.
        overwrite : bool
            Whether to delete a store that is there.
        resume : bool
            Whether to go on with a store that is there.

        Returns
        -------
        BlockStore
            Owned by this process until `close`.

        Raises
        ------
        StoreError
            If `path` holds something else, a store with another fingerprint (the
            message names the difference), or one that a living process owns.
        """
        target = Path(path)
        plan = make_plan(arrays, block, fingerprint)
        if target.exists():
            refuse_foreign(target)
            refuse_kind(target, plan)
            owner = Owner.take(target / MARKS)
            try:
                if not overwrite:
                    refuse_other(target, plan, resume=resume)
                    drop_partial(target)
                    store = cls(target)._owned(owner)
                    for block_id in store.pending():
                        store._clear(block_id)
                    return store
                remove(target)
            except BaseException:
                owner.release()
                raise
            owner.release()
        make_store(target, arrays, {**(attrs or {}), KEY: plan})
        return cls(target)._owned(Owner.take(target / MARKS))

    def _owned(self, owner: Owner) -> Self:
        self._owner = owner
        return self

    def __reduce__(self) -> tuple[type[Self], tuple[str]]:
        return type(self), (str(self.path),)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the store free for other processes."""
        if self._owner is not None:
            self._owner.release()
            self._owner = None

    # --- blocks ------------------------------------------------------------------
    @cached_property
    def arrays(self) -> dict[str, zarr.Array[Any]]:
        """The arrays that blocks fill."""
        # chunks of zeros are written too: a missing chunk is always damage
        opened = {
            name: zarr.open_array(self.path / name, mode="r+")
            for name in self.attrs[KEY]["arrays"]
        }
        return {
            n: a.with_config({"write_empty_chunks": True}) for n, a in opened.items()
        }

    def blocks(self) -> Iterator[Block]:
        """Yield every block id, row by row."""
        for y in range(self.grid[0]):
            for x in range(self.grid[1]):
                yield y, x

    def region(self, block_id: Block) -> tuple[slice, slice]:
        """Return the rows and columns of the scan that `block_id` covers."""
        rows, columns = (
            slice(i * n, min((i + 1) * n, size))
            for i, n, size in zip(block_id, self.block, self.scan_shape, strict=True)
        )
        return rows, columns

    def pending(self) -> list[Block]:
        """Return the blocks that have no mark, row by row."""
        marks = self.path / MARKS
        done = {
            y: {mark.name for mark in (marks / str(y)).glob("*.json")}
            for y in range(self.grid[0])
        }
        return [b for b in self.blocks() if f"{b[1]}.json" not in done[b[0]]]

    def write(
        self,
        block_id: Block,
        values: Mapping[str, Array],
        summary: Mapping[str, Any] | None = None,
    ) -> None:
        """Write a block of every array, then its mark.

        Parameters
        ----------
        block_id : tuple of int
            Row and column of the block.
        values : mapping of str to numpy.ndarray
            A block of each array, in its shape and dtype.
        summary : mapping, optional
            What is worth knowing of the block without reading it; plain JSON.

        Raises
        ------
        StoreError
            If a block is missing or has another shape or dtype, or the disk is full.
        """
        region = self.region(block_id)
        checked = {name: self._checked(name, values, region) for name in self.arrays}
        sums = {name: checksum(block) for name, block in checked.items()}
        mark = {"checksums": sums, "summary": dict(summary or {})}
        with writing(self.path, sum(b.nbytes for b in checked.values())):
            for name, block in checked.items():
                self.arrays[name][region] = block
            write_json(self._mark(block_id), mark)

    def _checked(
        self, name: str, values: Mapping[str, Array], region: tuple[slice, ...]
    ) -> Array:
        array = self.arrays[name]
        shape = tuple(s.stop - s.start for s in region) + array.shape[2:]
        block = values.get(name)
        if block is None or block.shape != shape or block.dtype != array.dtype:
            found = "nothing" if block is None else f"{block.shape} {block.dtype}"
            msg = f"{name}: a block must be {shape} {array.dtype}, got {found}"
            raise StoreError(msg)
        return block

    def read(self, name: str, block_id: Block) -> Array:
        """Return a block of array `name`."""
        return np.asarray(self.arrays[name][self.region(block_id)])

    def mark(self, block_id: Block) -> dict[str, Any]:
        """Return ``checksums`` and ``summary`` of a finished block."""
        return read_json(self._mark(block_id))

    def verify(self, block_id: Block) -> bool:
        """Read a finished block back; drop it where it is not as written."""
        try:
            sums = self.mark(block_id)["checksums"]
            whole = all(
                checksum(self.read(name, block_id)) == sums[name]
                for name in self.arrays
            )
        except (OSError, ValueError, RuntimeError, KeyError):
            whole = False
        if not whole:
            (self.path / MARKS / "complete.json").unlink(missing_ok=True)
            self._mark(block_id).unlink(missing_ok=True)
            self._clear(block_id)
        return whole

    def _clear(self, block_id: Block) -> None:
        """Delete the files of a block: Zarr reads what is there before it writes."""
        for name, array in self.arrays.items():
            outer = (array.shards or array.chunks)[:2]
            spans = (
                range(part.start // n, -(-part.stop // n))
                for part, n in zip(self.region(block_id), outer, strict=True)
            )
            rest = (0,) * (array.ndim - 2)
            for index in itertools.product(*spans):
                key = array.metadata.encode_chunk_key((*index, *rest))
                (self.path / name / key).unlink(missing_ok=True)

    def _mark(self, block_id: Block) -> Path:
        return self.path / MARKS / str(block_id[0]) / f"{block_id[1]}.json"

    # --- the whole ---------------------------------------------------------------
    def put(
        self,
        name: str,
        dims: tuple[str, ...],
        values: Array,
        attrs: Mapping[str, Any] | None = None,
    ) -> None:
        """Write, or replace, a small array at once.

        Parameters
        ----------
        name : str
            Of the array.
        dims : tuple of str
            Of the array.
        values : numpy.ndarray
            Of the array.
        attrs : mapping, optional
            Plain JSON.
        """
        with writing(self.path, values.nbytes):
            scratch = self.path / MARKS / f"{name}.{uuid.uuid4().hex}.partial"
            array = zarr.create_array(
                scratch,
                shape=values.shape,
                dtype=values.dtype,
                chunks=tuple(max(n, 1) for n in values.shape),
                compressors=compressors() if values.ndim else None,
                dimension_names=dims,
                attributes=dict(attrs or {}),
                config={"write_empty_chunks": True},
            )
            array[...] = values
            target = self.path / name
            if target.exists():
                remove(target)
            scratch.rename(target)

    @property
    def complete(self) -> bool:
        """Whether `finish` has declared the store whole."""
        return (self.path / MARKS / "complete.json").exists()

    @property
    def summary(self) -> dict[str, Any]:
        """What was said of the whole when it was finished."""
        return read_json(self.path / MARKS / "complete.json")

    def finish(self, summary: Mapping[str, Any] | None = None) -> None:
        """Declare the store whole.

        Raises
        ------
        StoreError
            If a block has no mark.
        """
        missing = self.pending()
        if missing:
            msg = f"{self.path}: {len(missing)} blocks are missing, first {missing[0]}"
            raise StoreError(msg)
        write_json(self.path / MARKS / "complete.json", dict(summary or {}))
