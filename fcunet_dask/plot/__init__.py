"""Figures; the only importer of matplotlib."""

from fcunet_dask.plot.live import live
from fcunet_dask.plot.maps import strain_maps, summary
from fcunet_dask.plot.patterns import pattern

__all__ = ["live", "pattern", "strain_maps", "summary"]
