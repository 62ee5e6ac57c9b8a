"""Whether the end is that of an undisturbed run, and what was done twice for it."""

import sys
from hashlib import blake2b

import fcunet_dask
import numpy as np
from fcunet_dask._commit import BlockStore
from processes import BLOCK, BLOCKS, SCAN, marks


def content(out):
    """Digest of every file of a store."""
    return {
        str(p.relative_to(out)): blake2b(p.read_bytes()).hexdigest()
        for p in sorted(out.rglob("*"))
        if p.is_file() and p.name != "owner.json"
    }


def names(scan):
    """Which block has which digest of patterns."""
    patterns = fcunet_dask.open_scan(scan, blocks=BLOCK).pattern.values
    found = {}
    for y in range(SCAN[0] // BLOCK[0]):
        for x in range(SCAN[1] // BLOCK[1]):
            rows, columns = (slice(4 * i, 4 * i + 4) for i in (y, x))
            block = patterns[rows, columns]
            block = np.ascontiguousarray(block).reshape(-1, *block.shape[2:])
            name = blake2b(block, digest_size=8).hexdigest()
            found[name] = (str(y), str(x))
    return found


def judge(out, log, known, expected):
    """Whether the end is the same, and which blocks were searched more than once."""
    entries = [line.split() for line in log.read_text().splitlines()]
    marked = marks(out)
    strange = sorted({name for name, _ in entries if name not in known})
    if strange:
        msg = f"patterns that are not those of the scan were searched: {strange}"
        raise RuntimeError(msg)
    late = sum(float(t) > marked[known[n]] for n, t in entries)
    again = len(entries) - BLOCKS
    found = content(out)
    other = sorted(n for n in {*found, *expected} if found.get(n) != expected.get(n))
    if other:
        print(f"{out}: {other[:5]} differ", file=sys.stderr)
    whole = BlockStore(out).complete and not other
    return whole, late, again
