"""By what a run knows its own output again: the settings, not what was measured."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from hashlib import blake2b
from importlib.metadata import version
from typing import Any

import numpy as np
import xarray as xr
from dask.tokenize import tokenize

from fcunet_dask._source import source_of
from fcunet_dask.errors import ParameterError
from fcunet_dask.io import open_scan
from fcunet_dask.model import DiskDetector
from fcunet_dask.model.weights import find_weights
from fcunet_dask.pipeline.settings import Settings
from fcunet_dask.probe import sample_patterns
from fcunet_dask.schema import MASK, PATTERN, PATTERN_STATUS, PROBE, Q


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
    time of change; of a foreign Zarr array, whose chunks change behind that, a hash of
    some of its patterns, too; of a part of a file, or an array in memory, the Dask token.
    """
    source = dict(scan.attrs.get("source", {}))
    source.pop("path", None)
    data = scan[PATTERN.name].data
    if source_of(data) is None:
        source["token"] = tokenize(data)
    elif source.get("reader") == "zarr":
        patterns = sample_patterns(scan).tobytes()
        source["sample"] = blake2b(patterns, digest_size=16).hexdigest()
    return source


def expect_results_of(scan: xr.Dataset, results: xr.Dataset) -> str:
    """Refuse results that are of another scan; say where that cannot be known.

    Parameters
    ----------
    scan : xarray.Dataset
        From `open_scan`.
    results : xarray.Dataset
        From `open_results`.

    Returns
    -------
    str
        Empty where they are of this scan; else why they may be of another: a file that
        was copied has another time of change, one that was converted another reader.

    Raises
    ------
    ParameterError
        If scan or patterns have another shape, or the files cannot hold the same.
    """
    known = results.attrs["fcunet_dask"]["fingerprint"]["source"]
    asked = json.loads(json.dumps(source_identity(scan)))
    path = results.attrs.get("source", {}).get("path", "an array in memory")
    shape = scan[PATTERN.name].shape
    expected = (*results[PATTERN_STATUS.name].shape, *results[PROBE.name].shape)
    if shape != expected:
        msg = (
            f"the results are of {_said(expected)} ({path}), the scan has "
            f"{_said(shape)}: give the scan as they were made from it (--dataset, "
            "--scan-shape), or results of this one"
        )
        raise ParameterError(msg)
    _refuse_other_source(known, asked, path)
    if known == asked:
        return ""
    return (
        f"the results are of {path}{', or a part of it' if 'token' in known else ''}; "
        "whether this scan holds the same patterns is not known: its file was copied, "
        "converted or changed, or is another one"
    )


def _refuse_other_source(
    known: dict[str, Any], asked: dict[str, Any], path: str
) -> None:
    """Refuse a source that, read by the same reader, surely holds something else."""
    if known.get("reader") != asked.get("reader"):
        return
    for name in ("dataset", "size", "digest"):
        before, now = known.get(name), asked.get(name)
        if None not in (before, now) and before != now:
            msg = (
                f"the results are of another scan ({path}): its {name} is {before}, "
                f"here it is {now}; give the scan that they are of, or map this one"
            )
            raise ParameterError(msg)


def _said(shape: tuple[int, ...]) -> str:
    rows, columns, q_y, q_x = shape
    return f"{rows} × {columns} patterns of {q_y} × {q_x} px"


def describe(detector: DiskDetector) -> dict[str, Any]:
    """Plain parameters of a detector, arrays by their hash."""
    values: dict[str, Any] = {
        "type": type(detector).__name__,
        "token": str(getattr(detector, "token", "") or tokenize(detector)),
    }
    for name, given in getattr(detector, "__dict__", {}).items():
        value = _plain(given)
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
        for k, v in ((k, _plain(v)) for k, v in options.items())
    }


def _plain(value: Any) -> Any:
    """Return a number of NumPy as one of Python: the same, and JSON."""
    return value.item() if isinstance(value, np.generic) else value


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
