"""Results committed block by block: what is marked is whole, the rest is done again.

The protocol and its reasons are in docs/adr/0004-block-commit.md.
"""

from fcunet_dask._commit.files import checksum, writing
from fcunet_dask._commit.plan import KEY, ArraySpec, Block, compressors, is_store
from fcunet_dask._commit.store import BlockStore
from fcunet_dask._commit.whole import expect_whole

__all__ = [
    "KEY",
    "ArraySpec",
    "Block",
    "BlockStore",
    "checksum",
    "compressors",
    "expect_whole",
    "is_store",
    "writing",
]
