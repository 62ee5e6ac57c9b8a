"""One function from a name or an address to a Dask client."""

from typing import Any

from fcunet_dask.errors import ParameterError


def connect_cluster(where: str = "local", **options: Any) -> Any:
    """Connect to a Dask cluster; what is computed afterwards runs there.

    Parameters
    ----------
    where : str
        ``local``: worker processes of one thread each on this machine; or the address
        of a scheduler (``tcp://…``, ``tls://…``) or the path of its scheduler file.
    **options
        Passed to `distributed.LocalCluster` (``n_workers``, ``memory_limit``, …) or to
        `distributed.Client`.

    Returns
    -------
    distributed.Client

    Raises
    ------
    ParameterError
        If `where` is none of these.
    """
    from distributed import Client, LocalCluster  # noqa: PLC0415 - heavy

    if where == "local":
        defaults: dict[str, Any] = {
            "threads_per_worker": 1,
            "dashboard_address": "127.0.0.1:0",
        }
        return Client(LocalCluster(**(defaults | options)))
    if "://" in where:
        return Client(where, **options)
    if where.endswith(".json"):
        return Client(scheduler_file=where, **options)
    msg = f"where is 'local', an address or a scheduler file (*.json), got {where!r}"
    raise ParameterError(msg)
