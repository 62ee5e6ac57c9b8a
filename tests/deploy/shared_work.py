"""Workers note the blocks that they commit, and the work is seen to be shared.

Dask's workers load this file where `NOTING` is in their environment.
"""

import json
import os
import platform
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fcunet_dask._commit import BlockStore

NOTING = {"DASK_DISTRIBUTED__WORKER__PRELOAD": __file__}


def dask_setup(worker: Any) -> None:
    """Note blocks in the temporary folder, by host and process."""
    del worker
    write = BlockStore.write
    notes = Path(tempfile.gettempdir(), f"blocks-{platform.node()}-{os.getpid()}")

    def noting(self: Any, block_id: Any, *args: Any, **options: Any) -> None:
        write(self, block_id, *args, **options)
        with notes.open("a") as file:
            file.write(json.dumps([self.location, *block_id]) + "\n")

    BlockStore.write = noting


def made_by(folder: Path, out: Path) -> dict[tuple[str, str], set[Any]]:
    """Return the blocks of `out` that each worker, of a host, has committed.

    Workers are started with `NOTING`, and have their $TMPDIR directly in `folder`.
    """
    made: dict[tuple[str, str], set[Any]] = {}
    for file in folder.glob("*/blocks-*"):
        _, host, process = file.name.split("-")
        lines = map(json.loads, file.read_text().splitlines())
        blocks = {(y, x) for at, y, x in lines if Path(at).name == out.name}
        if blocks:
            made[host, process] = blocks
    return made


def expect_shared_work(folder: Path, out: Path, hosts: Iterable[str] = ()) -> None:
    """Expect that several workers, on each of the hosts, have made the blocks of `out`."""
    made = made_by(folder, out)
    blocks = BlockStore(out).committed()
    assert len(blocks) > 1
    assert sorted(set().union(*made.values())) == blocks
    assert len(made) > 1, made
    assert {host for host, _ in made} >= set(hosts), made
