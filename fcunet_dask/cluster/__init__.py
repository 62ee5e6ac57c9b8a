"""Where the work runs; the only importer of `distributed`."""

from fcunet_dask.cluster.connect import connect_cluster

__all__ = ["connect_cluster"]
