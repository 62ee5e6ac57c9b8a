"""Detectors by name."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr

from fcunet_dask.errors import ModelError
from fcunet_dask.kernels.aperture import normalized_aperture
from fcunet_dask.model.detector import DiskDetector
from fcunet_dask.model.fcunet import FCUNet
from fcunet_dask.model.template import TemplateMatching

NETWORKS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "fcunet": ("fcunet", {}),
    "fcunet_fine": ("fcunet", {"scale": "fine"}),
    "fcunet_mean": ("fcunet", {"scale": "fine", "refine": "mean", "mirrored": True}),
    "fcunet_paper": ("fcunet_paper", {}),
}
"""Weights and options of each shipped network."""


def load_detector(
    name: str | Path = "template", probe: xr.Dataset | None = None, **options: Any
) -> DiskDetector:
    """Make a detector by name.

    Parameters
    ----------
    name : str or Path
        ``template``: template matching; ``fcunet``: the network; ``fcunet_fine``: the
        same on more pixels, for large disks; ``fcunet_mean``: that with the smallest
        error of single disks, and not of strain, at four times the cost;
        ``fcunet_paper``: the published network, for comparison; or a `.keras` file with
        its card.
    probe : xarray.Dataset, optional
        From `estimate_probe`: sets all that follows from it.
    **options
        Parameters, such as ``radius`` (px), over those of the probe:
        `TemplateMatching`, `FCUNet`.

    Returns
    -------
    DiskDetector

    Raises
    ------
    ModelError
        If there is no such detector.
    """
    name = str(name)
    settings = {} if probe is None else _settings(probe)
    if name == "template":
        return TemplateMatching(**(settings | options))
    if name in NETWORKS or name.endswith(".keras"):
        weights, own = NETWORKS.get(name, (name, {}))
        settings.pop("structure", None)  # dynamical patterns: anything may fill a disk
        return FCUNet(weights=weights, **(settings | own | options))
    msg = f"no detector {name!r}; there are template, {', '.join(NETWORKS)}, *.keras"
    raise ModelError(msg)


def _settings(probe: xr.Dataset) -> dict[str, Any]:
    """Parameters of a detector that follow from a probe."""
    attrs = probe.attrs
    settings: dict[str, Any] = {
        "radius": attrs["radius"],
        "edge": attrs["edge"],
        "structure": attrs["structure"],
        "gain": attrs["gain"],
    }
    mask = np.asarray(probe["mask"])
    if not mask.all():
        settings["mask"] = mask
    if attrs["patterned"]:
        image = np.asarray(probe["probe"], float)
        settings["image"] = normalized_aperture(
            image, tuple(attrs["center"]), attrs["radius"]
        )
        settings["center"] = tuple(attrs["center"])
    return settings
