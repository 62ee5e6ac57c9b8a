"""By what a run knows its own output again: the settings, not what was measured."""

from collections.abc import Mapping
from dataclasses import asdict
from hashlib import blake2b
from importlib.metadata import version
from typing import Any

import numpy as np
import xarray as xr
from dask.tokenize import tokenize

from fcunet_dask._source import source_of
from fcunet_dask.io import open_scan
from fcunet_dask.model import DiskDetector
from fcunet_dask.model.weights import find_weights
from fcunet_dask.pipeline.settings import Settings
from fcunet_dask.schema import MASK, PATTERN, PROBE, Q


def detection_identity(scan: xr.Dataset, settings: Settings) -> dict[str, Any]:
    """All that the Bragg vectors depend on, plain JSON.

    Radius, edge and gain of the probe are not among it: they are measured once, when the
    output is made, and kept with it.
    """
    detector = settings.detector
    calibration = scan.attrs.get("calibration", {})
    return {
        "source": source_identity(scan),
        "probe": {
            name: tokenize(np.asarray(scan[name]))
            for name in (PROBE.name, MASK.name)
            if name in scan
        },
        "detector": {
            "name": detector,
            **_options(settings.detector_options),
            **_weights(detector),
        }
        if isinstance(detector, str)
        else describe(detector),
        "vacuum": None
        if settings.vacuum is None
        else source_identity(open_scan(settings.vacuum)),
        "vacuum_region": _region(settings.vacuum_region),
        "beam": [calibration.get(name) for name in ("semiangle", "voltage")],
        "q": [float(scan[n][i]) for n in Q for i in (0, -1)],
        "version": version("fcunet-dask"),
    }


def analysis_identity(
    scan: xr.Dataset, settings: Settings, block: tuple[int, int]
) -> dict[str, Any]:
    """All that lattice and strain depend on beside the Bragg vectors, plain JSON."""
    return {
        "calibration": scan.attrs.get("calibration", {}),
        "origin": settings.origin,
        "transform": None
        if settings.transform is None
        else np.asarray(settings.transform, float).tolist(),
        "basis": None
        if settings.g1 is None or settings.g2 is None
        else [list(map(float, settings.g1)), list(map(float, settings.g2))],
        "grains": settings.grains,
        "reference": _region(settings.reference),
        "axes": settings.axes,
        "pulls": "measured",
        "block": list(block),
        "version": version("fcunet-dask"),
    }


def source_identity(scan: xr.Dataset) -> dict[str, Any]:
    """Return what the patterns are, wherever they lie: files are moved and renamed.

    The digest that a native store keeps of its content; of other files their size and
    time of change; of a part of a file, or an array in memory, the Dask token.
    """
    source = dict(scan.attrs.get("source", {}))
    source.pop("path", None)
    data = scan[PATTERN.name].data
    if source_of(data) is None:
        source["token"] = tokenize(data)
    return source


def describe(detector: DiskDetector) -> dict[str, Any]:
    """Plain parameters of a detector, arrays by their hash."""
    values: dict[str, Any] = {
        "type": type(detector).__name__,
        "token": str(getattr(detector, "token", "") or tokenize(detector)),
    }
    for name, value in getattr(detector, "__dict__", {}).items():
        if isinstance(value, int | float | str) and name != "token":
            values[name] = value
    return values


def short_hash(identity: Mapping[str, Any]) -> str:
    """Eight letters for an identity."""
    return blake2b(repr(sorted(identity.items())).encode(), digest_size=4).hexdigest()


def _options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values as they are, others by their Dask token."""
    plain = bool, int, float, str
    return {
        k: v if v is None or isinstance(v, plain) else tokenize(v)
        for k, v in options.items()
    }


def _weights(detector: str) -> dict[str, Any]:
    """Return by what a network in a file is known: the file may be another one later."""
    if not detector.endswith(".keras"):
        return {}
    card = asdict(find_weights(detector)[1])
    del card["training"]
    return card


def _region(region: tuple[slice, slice] | None) -> list[list[int | None]] | None:
    if region is None:
        return None
    return [
        [None if v is None else int(v) for v in (s.start, s.stop, s.step)]
        for s in region
    ]
