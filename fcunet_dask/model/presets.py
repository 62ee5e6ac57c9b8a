"""Detectors by name."""

from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import numpy as np
import xarray as xr

from fcunet_dask.errors import ModelError, ParameterError
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
        error of single disks, and not of strain, at three times the cost of that;
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
    ParameterError
        If it has no such option.
    """
    name = str(name)
    if name == "template":
        values = _settings(probe) | options
        return TemplateMatching(**_known(TemplateMatching, values))
    if name in NETWORKS or name.endswith(".keras"):
        weights, own = NETWORKS.get(name, (name, {}))
        values = {"weights": weights, **_settings(probe), **own, **options}
        # dynamical patterns: anything may fill a disk, and rims do not say how high it is
        for option in {"structure", "saturation"} - set(options):
            values.pop(option, None)
        return FCUNet(**_known(FCUNet, values))
    msg = (
        f"no detector {name!r:.60}; there are template, {', '.join(NETWORKS)}, *.keras"
    )
    raise ModelError(msg)


def _known(kind: type[TemplateMatching | FCUNet], values: dict[str, Any]) -> Any:
    """Return parameters of a detector, if all are such."""
    names = [field.name for field in fields(kind) if field.init]
    unknown = sorted(set(values) - set(names))
    if unknown:
        msg = f"{kind.__name__} has no option {', '.join(unknown)}; it has {names}"
        raise ParameterError(msg)
    return values


def _settings(probe: xr.Dataset | None) -> dict[str, Any]:
    """Parameters of a detector that follow from a probe; none without one."""
    if probe is None:
        return {}
    attrs = probe.attrs
    settings: dict[str, Any] = {
        "radius": attrs["radius"],
        "edge": attrs["edge"],
        "structure": attrs["structure"],
        "gain": attrs["gain"],
        "readout": attrs.get("readout", 0.0),
        "dark": attrs.get("dark", 0.0),
        "saturation": attrs.get("saturation", 0.0),
    }
    mask = np.asarray(probe["mask"])
    settings["shape"] = mask.shape
    if not mask.all():
        settings["mask"] = mask
    if attrs["patterned"]:
        image = np.asarray(probe["probe"], float)
        settings["image"] = normalized_aperture(
            image, tuple(attrs["center"]), attrs["radius"]
        )
        settings["center"] = tuple(attrs["center"])
    return settings
