"""Disk detectors: template matching, the network, whatever fits `DiskDetector`."""

from fcunet_dask.model.detector import DiskDetector, PatternStatus, Peaks
from fcunet_dask.model.fcunet import FCUNet
from fcunet_dask.model.presets import load_detector
from fcunet_dask.model.template import TemplateMatching

__all__ = [
    "DiskDetector",
    "FCUNet",
    "PatternStatus",
    "Peaks",
    "TemplateMatching",
    "load_detector",
]
