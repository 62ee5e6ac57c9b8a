"""Batches made ahead of the training, in processes of their own."""

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Any, Final

from fcunet_dask.train.data import Source, make_batch
from fcunet_dask.train.recipe import TrainRecipe

_AHEAD: Final = 4
"""Batches that wait, per process."""


def batches(
    source: Source, recipe: TrainRecipe, steps: range, processes: int
) -> Iterator[Any]:
    """Yield the batches of `steps`, in order.

    Parameters
    ----------
    source : Source
        The library.
    recipe : TrainRecipe
        What to draw.
    steps : range
        Which.
    processes : int
        How many make them; 0 makes them here.

    Yields
    ------
    tuple
        Inputs and targets, as of `make_batch`.
    """
    if not processes:
        for step in steps:
            yield make_batch(*_what(source, recipe, step))
        return
    waiting: deque[Future[Any]] = deque()
    todo = list(steps)[::-1]
    spawn = get_context("spawn")
    with ProcessPoolExecutor(processes, spawn, _end_with_the_training) as pool:
        try:
            while todo or waiting:
                while todo and len(waiting) < _AHEAD * processes:
                    waiting.append(
                        pool.submit(make_batch, *_what(source, recipe, todo.pop()))
                    )
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _end_with_the_training() -> None:
    """End this process when the one that it works for does, even if that was killed."""
    training = parent_process()

    def wait() -> None:
        if training is not None:
            training.join()
            os._exit(1)

    Thread(target=wait, daemon=True).start()


def _what(source: Source, recipe: TrainRecipe, step: int) -> tuple[Any, ...]:
    return source, recipe.data, recipe.batch, recipe.seed, step
