"""Worker processes on this machine."""

from typing import Any, Final

DEFAULTS: Final = {"threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}


def local_cluster(**options: Any) -> Any:
    """Start worker processes of one thread each; they end with the client's cluster.

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

    return Client(LocalCluster(**(DEFAULTS | options)))
