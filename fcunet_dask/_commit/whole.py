"""Whether a store has all of its files."""

import math
from collections.abc import Iterable

from fcunet_dask._commit.mend import damage
from fcunet_dask._commit.plan import KEY
from fcunet_dask._commit.store import BlockStore
from fcunet_dask.errors import StoreError


def first_damage(store: BlockStore, names: Iterable[str] | None = None) -> str:
    """Return which file cannot be read, and why; or nothing. Blocks are not read.

    Parameters
    ----------
    store : BlockStore
        What is looked at.
    names : iterable of str, optional
        Of its arrays, if not all matter.
    """
    blocks = store.attrs[KEY]["arrays"]
    there = store.groups()
    for name in sorted(there if names is None else there.intersection(names)):
        damaged = damage(store.place, name, values=name not in blocks)
        described = name in blocks or store.place.stamp(f"{name}/zarr.json")
        if damaged and described:
            return f"{store.location}/{damaged}"
    return ""


def expect_readable(store: BlockStore) -> None:
    """Refuse a store with a description, or a small array, that cannot be read.

    Raises
    ------
    StoreError
        If there is one.
    """
    damaged = first_damage(store)
    if damaged:
        msg = (
            f"{damaged}: the store is damaged; copy it again, or run again to make "
            "what is missing"
        )
        raise StoreError(msg)


def expect_whole(store: BlockStore) -> None:
    """Refuse a store that lacks files: Zarr would read them as fill values.

    Raises
    ------
    StoreError
        If an array has not as many files as it was written with.
    """
    for name, array in store.arrays.items():
        outer = array.shards or array.chunks
        sizes = zip(array.shape, outer, strict=True)
        wanted = math.prod(-(-size // n) for size, n in sizes)
        found = sum(1 for _ in store.place.keys(f"{name}/c"))
        if found != wanted:
            msg = (
                f"{store.location}: {name} has {found} of its {wanted} files: the "
                "store is damaged; copy it again, or run again to make what is missing"
            )
            raise StoreError(msg)
