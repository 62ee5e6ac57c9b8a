"""One function from a name or an address to a Dask client."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from fcunet_dask.cluster.cuda import cuda_cluster
from fcunet_dask.cluster.existing import existing_cluster
from fcunet_dask.cluster.kubernetes import kubernetes_cluster
from fcunet_dask.cluster.local import local_cluster
from fcunet_dask.cluster.recipes import use_defaults
from fcunet_dask.cluster.slurm import slurm_cluster
from fcunet_dask.cluster.workers import warm_up
from fcunet_dask.errors import FcunetError, ParameterError

KINDS: Final[dict[str, Callable[..., Any]]] = {
    "local": local_cluster,
    "cuda": cuda_cluster,
    "slurm": slurm_cluster,
    "kubernetes": kubernetes_cluster,
}


def connect_cluster(
    where: str = "local",
    *,
    load: Callable[[], object] | None = None,
    **options: Any,
) -> Any:
    """Connect to a Dask cluster; what is computed afterwards runs there.

    Parameters
    ----------
    where : str
        ``local``: worker processes of one thread each on this machine.
        ``cuda``: one worker process per GPU of this machine; on the CPU, with a warning
        that says why, where there is none.
        ``slurm``: jobs of workers, by a recipe of ``deploy/slurm/jobqueue.yaml``.
        ``kubernetes``: a DaskCluster of ``deploy/kubernetes``.
        Otherwise the address of a scheduler (``tls://…``, ``tcp://…``) or the path of
        its scheduler file.
    load : callable, optional
        Called once in every worker process, those that join later included: what takes
        long to load (a network) is there before the first block.
    **options
        Of the kind: see `fcunet_dask.cluster.local`, ``cuda``, ``slurm``,
        ``kubernetes`` and ``existing``.

    Returns
    -------
    distributed.Client
        Its cluster, where this call has started one, is ``client.cluster``.

    Raises
    ------
    ParameterError
        If `where` is none of these, nothing answers there, or an option is missing,
        unknown or makes no sense.
    MissingDependencyError
        If the kind needs a package or a program that is not installed.
    """
    use_defaults()
    try:
        client = _kind(where)(**options)
    except FcunetError:
        raise
    except (TypeError, ValueError, KeyError) as error:
        said = ", ".join(f"{name}={value!r}" for name, value in options.items())
        msg = f"cluster {where!r} with options {said or 'none'}: {error}"
        raise ParameterError(msg) from error
    if load is not None:
        warm_up(client, load)
    return client


def _kind(where: str) -> Callable[..., Any]:
    if where in KINDS:
        return KINDS[where]
    if "://" in where or where.endswith(".json"):
        return partial(existing_cluster, where)
    kinds = ", ".join(repr(kind) for kind in KINDS)
    msg = (
        f"where is {kinds}, an address (tls://…) or a scheduler file (*.json), "
        f"got {where!r}"
    )
    raise ParameterError(msg)
