"""A Zarr group that is filled block by block.

Each block of the scan owns whole chunks (shards) of every array, so blocks are written
without locks, by any process, any number of times; each gets its mark after its data.
"""

import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import zarr

from fcunet_dask._commit.files import (
    checksum,
    find_json,
    full_disk,
    read_attrs,
    read_json,
    write_json,
    writing,
)
from fcunet_dask._commit.mend import mend_store
from fcunet_dask._commit.owner import Owner
from fcunet_dask._commit.plan import (
    KEY,
    MARKS,
    ArraySpec,
    Block,
    Small,
    clear_store,
    make_plan,
    make_store,
    old_keys,
    plan_name,
    put_array,
)
from fcunet_dask._places import located, place
from fcunet_dask.errors import StoreError
from fcunet_dask.types import Array

_COMPLETE: Final = f"{MARKS}/complete.json"


class BlockStore:
    """A Zarr group that is filled block by block, and can be gone on with.

    Made by `create`, or by opening it: for reading, and in workers.

    Parameters
    ----------
    location : str or Path
        Folder of the group, or URL of an object store (``s3://bucket/prefix``).
    name : str, optional
        Of the plan that the store must have.

    Raises
    ------
    StoreError
        If there is no such group, or another one by now.
    """

    def __init__(self, location: str | Path, name: str | None = None) -> None:
        self.location = located(location)
        self.place = place(self.location)
        self._owner: Owner | None = None
        attrs = read_attrs(self.place)
        if KEY not in attrs or "grid" not in attrs[KEY]:
            msg = f"{self.location} is no store that this package wrote"
            raise StoreError(msg)
        self.attrs: dict[str, Any] = attrs
        plan = attrs[KEY]
        self.fingerprint: dict[str, Any] = plan["fingerprint"]
        self.scan_shape: Block = tuple(plan["scan_shape"])
        self.grid: Block = tuple(plan["grid"])
        self.block: Block = tuple(plan["block"])
        self.name: Final = name or plan_name(plan)
        self._expect_same(attrs)

    @property
    def path(self) -> Path:
        """Its folder, if it is one."""
        return Path(self.location)

    @classmethod
    def create(
        cls,
        location: str | Path,
        arrays: Mapping[str, ArraySpec],
        block: Block,
        *,
        fingerprint: Mapping[str, Any],
        attrs: Mapping[str, Any] | None = None,
        small: Mapping[str, Small] | None = None,
        overwrite: bool = False,
        resume: bool = True,
    ) -> Self:
        """Make the store, or open one with the same fingerprint to go on with it.

        Parameters
        ----------
        location : str or Path
            Folder of the group, or URL.
        arrays : mapping of str to ArraySpec
            What the blocks fill; all over the same scan.
        block : tuple of int
            Rows and columns of a block: whole chunks, or shards, of every array.
        fingerprint : mapping
            All that the content depends on (source, parameters, versions); plain JSON.
        attrs : mapping, optional
            Further attributes of the group; plain JSON. A store that is there keeps
            its own.
        small : mapping of str to (dims, values, attrs), optional
            Arrays that a store has from the first moment on; likewise, if they can be read.
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
            If there is something of others, a store with another fingerprint (the
            message names the difference), or one that a living process owns.
        """
        target = place(located(location))
        plan = make_plan(arrays, block, fingerprint)
        old = partial(
            old_keys, target, plan, small or {}, overwrite=overwrite, resume=resume
        )
        old()
        owner = Owner.take(target)
        try:
            keys = old()  # asked again: another process may have been quicker
            if keys is None:
                mend_store(target, arrays, small or {})
            else:
                clear_store(target, keys)
                make_store(target, arrays, small or {}, {**(attrs or {}), KEY: plan})
            return cls(location)._owned(owner)
        except BaseException:
            owner.release()
            raise

    def _owned(self, owner: Owner) -> Self:
        self._owner = owner
        return self

    def _expect_same(self, attrs: Mapping[str, Any]) -> None:
        """Refuse a store that was replaced: tasks may outlive the run they are of."""
        if plan_name(attrs.get(KEY, {})) != self.name:
            msg = f"{self.location}: another run has replaced this store meanwhile"
            raise StoreError(msg)

    def __reduce__(self) -> tuple[type[Self], tuple[str, str]]:
        return type(self), (self.location, self.name)

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
            name: zarr.open_array(self.place.zarr(name), mode="r+")
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
        done = self._marked()
        return [b for b in self.blocks() if b not in done]

    def committed(self) -> list[Block]:
        """Return the blocks that have a mark, row by row."""
        done = self._marked()
        return [b for b in self.blocks() if b in done]

    def _marked(self) -> set[tuple[int, ...]]:
        return {
            tuple(map(int, key.removesuffix(".json").split("/")[2:]))
            for key in self.place.keys(f"{MARKS}/{self.name}")
        }

    def has(self, block_id: Block) -> bool:
        """Whether a block has its mark."""
        return self.place.stamp(self._mark(block_id)) is not None

    def expect_room(self, block_id: Block) -> None:
        """Refuse a block that cannot be written, before any work on it.

        Raises
        ------
        StoreError
            If less is free than its arrays need without compression.
        """
        free = self.place.free_bytes()
        rows, columns = (part.stop - part.start for part in self.region(block_id))
        width = sum(
            math.prod(a.shape[2:]) * a.dtype.itemsize for a in self.arrays.values()
        )
        needed = rows * columns * width
        if free is not None and free < needed:
            raise full_disk(self.location, needed)

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
            If a block lacks or has another shape, the disk is full, or the store is
            another one by now.
        """
        region = self.region(block_id)
        checked = {name: self._checked(name, values, region) for name in self.arrays}
        sums = {name: checksum(block) for name, block in checked.items()}
        mark = {"checksums": sums, "summary": dict(summary or {})}
        with writing(self.location, sum(b.nbytes for b in checked.values())):
            self._expect_same(read_attrs(self.place))
            if self._ragged(region):
                self._clear(block_id)
            for name, block in checked.items():
                self.arrays[name][region] = block
            self._expect_same(read_attrs(self.place))
            write_json(self.place, self._mark(block_id), mark)

    def _ragged(self, region: tuple[slice, slice]) -> bool:
        """Whether a block ends with the scan: Zarr reads such files before it writes."""
        ends = zip(region, self.scan_shape, self.block, strict=True)
        return any(part.stop == size and size % n for part, size, n in ends)

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
        """Return ``checksums`` and ``summary`` of a block."""
        return read_json(self.place, self._mark(block_id))

    def digest(self) -> str:
        """Return a hash of all that the blocks hold, from their marks."""
        total = hashlib.blake2b(digest_size=16)
        for block_id in self.blocks():
            sums = self.mark(block_id)["checksums"]
            total.update(json.dumps(sums, sort_keys=True).encode())
        return total.hexdigest()

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
            self.place.delete(_COMPLETE)
            self.place.delete(self._mark(block_id))
            self._clear(block_id)
        return whole

    def _clear(self, block_id: Block) -> None:
        """Delete the files of a block."""
        for name, array in self.arrays.items():
            outer = (array.shards or array.chunks)[:2]
            spans = (
                range(part.start // n, -(-part.stop // n))
                for part, n in zip(self.region(block_id), outer, strict=True)
            )
            rest = (0,) * (array.ndim - 2)
            for index in itertools.product(*spans):
                key = array.metadata.encode_chunk_key((*index, *rest))
                self.place.delete(f"{name}/{key}")

    def groups(self) -> set[str]:
        """Return the names of the groups and arrays in this one."""
        return self.place.children()

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
        put_array(self.place, name, dims, values, attrs or {})

    @property
    def complete(self) -> bool:
        """Whether `finish` has declared the store whole."""
        return find_json(self.place, _COMPLETE) is not None

    @property
    def summary(self) -> dict[str, Any]:
        """What was said of the whole when it was finished."""
        return read_json(self.place, _COMPLETE)

    def finish(self, summary: Mapping[str, Any] | None = None) -> None:
        """Declare the store whole.

        Raises
        ------
        StoreError
            If a block has no mark, or another process has taken the store over.
        """
        missing = self.pending()
        if missing:
            msg = f"{self.location}: {len(missing)} blocks are missing, first {missing[0]}"
            raise StoreError(msg)
        if self._owner is not None and not self._owner.holds():
            msg = (
                f"{self.location}: another process took this store over, because this "
                "one gave no sign for minutes; it goes on there"
            )
            raise StoreError(msg)
        with writing(self.location, 1 << 16):
            write_json(self.place, _COMPLETE, summary or {})

    def _mark(self, block_id: Block) -> str:
        return f"{MARKS}/{self.name}/{block_id[0]}/{block_id[1]}.json"
