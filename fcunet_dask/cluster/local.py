"""Worker processes on this machine."""

from typing import Any, Final

from dask.system import CPU_COUNT

from fcunet_dask.cluster.memory import own_memory

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
    """
    from distributed import Client, LocalCluster  # noqa: PLC0415 - heavy

    options = DEFAULTS | options
    threads = options["threads_per_worker"] or CPU_COUNT
    number = options.get("n_workers") or max(1, CPU_COUNT // threads)
    return Client(LocalCluster(**({"memory_limit": own_memory() // number} | options)))
