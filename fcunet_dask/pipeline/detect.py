"""First pass: from patterns to committed Bragg vectors."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from dask.tokenize import tokenize

from fcunet_dask._blockwise import scan_blocks
from fcunet_dask._commit import ArraySpec, BlockStore
from fcunet_dask._source import source_of
from fcunet_dask.io import open_scan
from fcunet_dask.model import DiskDetector, load_detector
from fcunet_dask.peaks import label_peaks, peak_shapes
from fcunet_dask.pipeline.settings import Settings
from fcunet_dask.probe import measure_probe
from fcunet_dask.schema import BRAGG_VARIABLES, PATTERN, Q
from fcunet_dask.types import Array

Progress = Callable[[str, int, int], None]


def choose_detector(
    scan: xr.Dataset, settings: Settings
) -> tuple[xr.Dataset, DiskDetector]:
    """Probe of the scan, and the detector made for it.

    Returns
    -------
    probe : xarray.Dataset
        From `estimate_probe`.
    detector : DiskDetector
    """
    vacuum = None
    if settings.vacuum is not None:
        patterns = open_scan(settings.vacuum)[PATTERN.name]
        vacuum = patterns.sum(("scan_y", "scan_x"), dtype=float)
    probe = estimate_probe(scan, vacuum=vacuum, region=settings.vacuum_region)
    if not isinstance(settings.detector, str):
        return probe, settings.detector
    detector = load_detector(settings.detector, probe, **settings.detector_options)
    return probe, detector


def estimate_probe(
    scan: xr.Dataset,
    *,
    vacuum: xr.DataArray | Array | None = None,
    region: tuple[slice, slice] | None = None,
    semiangle: float | None = None,
) -> xr.Dataset:
    """Measure the probe of a scan; automatic unless told how.

    In this order: `vacuum`; `region`; a ``probe`` that came with the scan; `semiangle`
    or that of the calibration; else the disks of the scan themselves, the radius that
    is most like them. Radius and edge are refined on the scan's own disks, except those
    of a measured probe.

    Parameters
    ----------
    scan : xarray.Dataset
        With ``pattern`` (scan_y, scan_x, q_y, q_x), counts; up to 36 patterns are read.
    vacuum : array, optional
        (..., q_y, q_x), counts: patterns without a specimen; summed.
    region : (slice, slice), optional
        Rows and columns of the scan that are vacuum; summed.
    semiangle : float, optional
        Convergence semi-angle, mrad (needs voltage and q_step).

    Returns
    -------
    xarray.Dataset
        ``probe`` and ``mask`` (q_y, q_x); attributes as of
        `fcunet_dask.probe.measure_probe`.

    Raises
    ------
    ParameterError
        If the semi-angle is given without voltage and q_step.
    AnalysisError
        If no disk is found, or the probe does not fit into the pattern.
    """
    return measure_probe(
        scan, sample_disks, vacuum=vacuum, region=region, semiangle=semiangle
    )


def sample_disks(
    patterns: Array, mask: Array, radius: float, gain: float
) -> tuple[Array, Array]:
    """Up to 200 disks of a sample, from strong to weak, for `estimate_probe`.

    Returns
    -------
    index : numpy.ndarray
        int (m,), pattern of each.
    position : numpy.ndarray
        float (m, 2): y, x, px.
    """
    detector = load_detector(radius=radius, gain=gain, mask=mask, max_peaks=48)
    peaks = detector(patterns)
    image, rank = np.nonzero(np.isfinite(peaks.intensity))
    order = np.argsort(-peaks.intensity[image, rank], kind="stable")
    order = order[:: max(1, len(order) // 200)][:200]
    image, rank = image[order], rank[order]
    return image, peaks.position[image, rank].astype(float)


def create_store(
    scan: xr.Dataset,
    out: Path,
    detector: DiskDetector,
    settings: Settings,
    *,
    overwrite: bool,
) -> BlockStore:
    """Make the output, with room for the Bragg vectors of every block."""
    shape = scan[PATTERN.name].shape
    block = tuple(max(sizes) for sizes in scan_blocks(scan[PATTERN.name].data))
    widths = peak_shapes(detector.max_peaks)
    arrays = {
        v.name: ArraySpec(
            dims=v.dims,
            shape=(*shape[:2], *widths[v.name]),
            dtype="float32",
            chunks=(*block, *widths[v.name]),
            fill_value=float("nan"),
            attrs={},
        )
        for v in BRAGG_VARIABLES
    }
    return BlockStore.create(
        out,
        arrays,
        (block[0], block[1]),
        fingerprint={
            "source": _identity(scan),
            "detector": describe(detector),
            "q": [float(scan[n][i]) for n in Q for i in (0, -1)],
            "version": version("fcunet-dask"),
        },
        attrs={k: scan.attrs[k] for k in ("calibration", "source") if k in scan.attrs},
        overwrite=overwrite,
    )


def _identity(scan: xr.Dataset) -> dict[str, Any]:
    """Where the patterns are from; a part of a file, or an array, by its content."""
    source = dict(scan.attrs.get("source", {"path": "memory"}))
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


@contextmanager
def reported(store: BlockStore, total: int, progress: Progress) -> Iterator[None]:
    """Report the marks of the store while blocks are committed, wherever that is."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.5):
            progress("disks", total - len(store.pending()), total)

    progress("disks", total - len(store.pending()), total)
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def stored_bragg(out: Path, scan: xr.Dataset) -> xr.Dataset:
    """Bragg vectors as committed, lazily, in the store's blocks."""
    raw = xr.open_zarr(out, consolidated=False, chunks={})
    arrays = {v.name: raw[v.name].data for v in BRAGG_VARIABLES}
    return label_peaks(arrays, scan)
