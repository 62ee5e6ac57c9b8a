"""Several runs at once from one process, on the same workers."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextvars import copy_context
from typing import Final

from dask import config

from fcunet_dask._bands import cancel_bands
from fcunet_dask._computing import computing

_PAUSE: Final = 0.1
"""Between attempts to cancel, s."""


def side_by_side(work: Callable[[int], None], number: int, at_once: int) -> None:
    """Call ``work(0)``, ``work(1)``, …, so many at once.

    One at a time they run in this thread. Several share the workers of the cluster: one
    is at its beginning or end, which this process computes, while the blocks of another
    keep the workers busy. What interrupts (Ctrl-C, an error of `work`) cancels what the
    cluster computes for the others, and is raised when all have stopped.

    Parameters
    ----------
    work : callable
        Called with its number.
    number : int
        Of calls.
    at_once : int
        Of threads.
    """
    if at_once == 1:
        for i in range(number):
            work(i)
        return
    # what runs change for a while is the process's: here, for as long as any of them runs
    with computing(), config.set({"optimization.fuse.active": False}):
        _threads(work, number, at_once)


def _threads(work: Callable[[int], None], number: int, at_once: int) -> None:
    with ThreadPoolExecutor(at_once, thread_name_prefix="run") as pool:
        # the client that is current, if it is not the default, is so in a context
        futures = [pool.submit(copy_context().run, work, i) for i in range(number)]
        try:
            for future in as_completed(futures):
                future.result()
        except BaseException:
            _stop(futures)
            raise


def _stop(futures: list[Future[None]]) -> None:
    for future in futures:
        future.cancel()
    while not all(future.done() for future in futures):
        cancel_bands()
        time.sleep(_PAUSE)
