"""The whole analysis: the only package that knows the order of the stages."""

from fcunet_dask.pipeline.analyze import analyze
from fcunet_dask.pipeline.detect import choose_detector, estimate_probe, sample_disks
from fcunet_dask.pipeline.live import strain_so_far, watch
from fcunet_dask.pipeline.plan import Plan, plan
from fcunet_dask.pipeline.results import open_results
from fcunet_dask.pipeline.run import run
from fcunet_dask.pipeline.settings import Settings
from fcunet_dask.pipeline.survey import survey
from fcunet_dask.pipeline.survey_table import Scanned

__all__ = [
    "Plan",
    "Scanned",
    "Settings",
    "analyze",
    "choose_detector",
    "estimate_probe",
    "open_results",
    "plan",
    "run",
    "sample_disks",
    "strain_so_far",
    "survey",
    "watch",
]
