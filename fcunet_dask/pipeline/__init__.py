"""The whole analysis: the only package that knows the order of the stages."""

from fcunet_dask.pipeline.analyze import analyze
from fcunet_dask.pipeline.detect import choose_detector, estimate_probe, sample_disks
from fcunet_dask.pipeline.results import open_results
from fcunet_dask.pipeline.run import run
from fcunet_dask.pipeline.settings import Settings

__all__ = [
    "Settings",
    "analyze",
    "choose_detector",
    "estimate_probe",
    "open_results",
    "run",
    "sample_disks",
]
