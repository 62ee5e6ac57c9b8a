"""Where the work runs; the only importer of `distributed`."""

from fcunet_dask.cluster.connect import connect_cluster
from fcunet_dask.cluster.workers import warm_up

__all__ = ["connect_cluster", "warm_up"]
