"""What every worker process does before its first block."""

import asyncio
from collections.abc import Callable
from typing import Any

from dask.tokenize import tokenize


def warm_up(client: Any, load: Callable[[], object]) -> None:
    """Call `load` once in every worker process, and in those that join later.

    The worker stays responsive meanwhile; its first task may begin before `load` is
    done, so what is loaded guards itself against being loaded twice.

    Parameters
    ----------
    client : distributed.Client
        Of the cluster.
    load : callable
        Without arguments; travels to the workers by pickle. What it raises is raised
        here.
    """
    from distributed import WorkerPlugin  # noqa: PLC0415 - heavy

    class WarmUp(WorkerPlugin):
        async def setup(self, worker: Any) -> None:
            del worker
            await asyncio.to_thread(load)

    client.register_plugin(WarmUp(), name=f"fcunet-warm-up-{tokenize(load)}")
