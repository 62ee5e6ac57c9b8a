"""Detectors by name."""

from typing import Any

from fcunet_dask.errors import ModelError
from fcunet_dask.model.detector import DiskDetector
from fcunet_dask.model.template import TemplateMatching

PRESETS = {"template": TemplateMatching}


def load_detector(name: str = "template", **options: Any) -> DiskDetector:
    """Make a detector by name.

    Parameters
    ----------
    name : str
        ``template``: template matching.
    **options
        Its parameters, such as ``radius`` (px): `TemplateMatching`.

    Returns
    -------
    DiskDetector

    Raises
    ------
    ModelError
        If there is no such detector.
    """
    if name not in PRESETS:
        msg = f"no detector {name!r}; there are {sorted(PRESETS)}"
        raise ModelError(msg)
    return PRESETS[name](**options)
