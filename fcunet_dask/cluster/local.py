"""Worker processes on this machine."""

from typing import Any, Final

import numpy as np
from dask.system import CPU_COUNT

from fcunet_dask.cluster.memory import own_memory
from fcunet_dask.errors import ComputeError, ParameterError

DEFAULTS: Final[dict[str, Any]] = {
    "threads_per_worker": 1,
    "dashboard_address": "127.0.0.1:0",
}


def local_cluster(**options: Any) -> Any:
    """Start worker processes of one thread each; they end with the client's cluster.

    Together they have the memory that this process may have, in equal parts.

    Parameters
    ----------
    **options
        Passed to `distributed.LocalCluster`: ``n_workers``, ``memory_limit``, …; on a
        machine with other users ``security=True`` (TLS with a certificate of its own).

    Returns
    -------
    distributed.Client

    Raises
    ------
    ComputeError
        If the worker processes do not start.
    ParameterError
        If there are to be none, or an option is unknown or makes no sense.
    """
    from distributed import Client, LocalCluster  # noqa: PLC0415 - heavy

    options = DEFAULTS | options
    threads = _positive(options, "threads_per_worker") or CPU_COUNT
    number = _positive(options, "n_workers") or max(1, CPU_COUNT // threads)
    try:
        cluster = LocalCluster(**({"memory_limit": own_memory() // number} | options))
    except RuntimeError as error:
        cause = _first_cause(error)
        if isinstance(cause, TypeError):  # an option that no worker has
            raise cause from error
        msg = f"worker processes do not start: {type(cause).__name__}: {cause}"
        if isinstance(cause, OSError):
            msg += "; they need room to write in /dev/shm and in the temporary folder"
        raise ComputeError(msg) from error
    return Client(cluster)


def _positive(options: dict[str, Any], name: str) -> int | None:
    value = options.get(name)
    if value is None or (isinstance(value, int | np.integer) and value > 0):
        return None if value is None else int(value)
    msg = f"{name} must be a positive integer, got {value!r}"
    raise ParameterError(msg)


def _first_cause(error: BaseException) -> BaseException:
    while (earlier := error.__cause__ or error.__context__) is not None:
        error = earlier
    return error
