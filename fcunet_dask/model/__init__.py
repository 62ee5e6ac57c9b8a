"""Disk detectors: template matching, and whatever else fits `DiskDetector`."""

from fcunet_dask.model.detector import DiskDetector, PatternStatus, Peaks
from fcunet_dask.model.presets import load_detector
from fcunet_dask.model.template import TemplateMatching

__all__ = [
    "DiskDetector",
    "PatternStatus",
    "Peaks",
    "TemplateMatching",
    "load_detector",
]
