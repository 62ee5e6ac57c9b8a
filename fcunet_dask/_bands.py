"""Bands of tasks on the active scheduler, from any thread."""

import sys
from collections.abc import Sequence
from typing import Any, Final

from dask import config
from dask.base import compute, get_scheduler
from dask.delayed import Delayed

from fcunet_dask.errors import ComputeError

_BEHIND: Final = -1
"""Priority of a band: what another run asks for meanwhile is small, and comes first."""

_computed: set[Any] = set()


def cluster_client() -> Any:
    """Return the client of the cluster that computes; None where it is this process."""
    distributed = sys.modules.get("distributed")
    owner = getattr(get_scheduler(), "__self__", None)
    return owner if distributed and isinstance(owner, distributed.Client) else None


def compute_band(tasks: Sequence[Delayed]) -> None:
    """Compute tasks for what they do.

    Raises
    ------
    ComputeError
        If workers die on a task, again and again.
    """
    client, keys = cluster_client(), {task.key for task in tasks}
    options = {} if client is None else {"priority": _BEHIND}
    _computed.update(keys)
    try:
        with config.set({"optimization.fuse.active": False}):
            compute(*tasks, **options)
    except Exception as error:
        distributed = sys.modules.get("distributed")
        if distributed and isinstance(error, distributed.KilledWorker):
            msg = (
                f"workers died again and again ({error}): most often they had too "
                "little memory for a block: give them more and run again, what is "
                "finished is kept; or begin anew with smaller blocks (open_scan(blocks=), "
                "--blocks)"
            )
            raise ComputeError(msg) from error
        raise
    finally:
        _computed.difference_update(keys)


def lost_cluster() -> ComputeError:
    """Return the error of a cluster that does not compute any more."""
    return ComputeError(
        "the cluster is lost: its scheduler has ended or was restarted, or does not "
        "answer; start it and give the same command again: what is done is kept"
    )


def cancel_bands() -> None:
    """Cancel the bands of all threads of this process on its cluster, if there is one."""
    client, keys = cluster_client(), tuple(_computed)
    if client is None or not keys:
        return
    distributed = sys.modules["distributed"]
    client.cancel([distributed.Future(key, client) for key in keys])
