"""Whether a store has all of its files."""

import math

from fcunet_dask._commit.store import BlockStore
from fcunet_dask.errors import StoreError


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
