"""Results committed block by block: what is marked is whole, the rest is done again.

The protocol and its reasons are in docs/adr/0004-block-commit.md.
"""

from fcunet_dask._commit.files import checksum, writing
from fcunet_dask._commit.mend import damage, get_array
from fcunet_dask._commit.owner import is_owned
from fcunet_dask._commit.plan import KEY, ArraySpec, Block, compressors, is_store
from fcunet_dask._commit.store import BlockStore
from fcunet_dask._commit.whole import expect_readable, expect_whole, first_damage

__all__ = [
    "KEY",
    "ArraySpec",
    "Block",
    "BlockStore",
    "checksum",
    "compressors",
    "damage",
    "expect_readable",
    "expect_whole",
    "first_damage",
    "get_array",
    "is_owned",
    "is_store",
    "writing",
]
