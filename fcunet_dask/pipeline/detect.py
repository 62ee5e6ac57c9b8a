"""First pass: from patterns to committed Bragg vectors."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import Any

import numpy as np
import xarray as xr

from fcunet_dask._blockwise import scan_blocks
from fcunet_dask._commit import ArraySpec, BlockStore, get_array, is_store
from fcunet_dask._places import failures, place
from fcunet_dask.errors import StoreError
from fcunet_dask.io import open_scan
from fcunet_dask.kernels.camera import CameraNoise
from fcunet_dask.model import DiskDetector, load_detector
from fcunet_dask.peaks import label_peaks, peak_shapes
from fcunet_dask.pipeline.identity import detection_identity
from fcunet_dask.pipeline.settings import Settings
from fcunet_dask.probe import measure_probe
from fcunet_dask.schema import BRAGG_VARIABLES, MASK, PATTERN, PROBE, SCAN, Q
from fcunet_dask.types import Array

Progress = Callable[[str, int, int], None]


def choose_detector(
    scan: xr.Dataset, settings: Settings
) -> tuple[xr.Dataset, DiskDetector]:
    """Measure the probe of a scan, and make the detector for it.

    Returns
    -------
    probe : xarray.Dataset
        From `estimate_probe`.
    detector : DiskDetector
    """
    vacuum = None
    if settings.vacuum is not None:
        vacuum = open_scan(settings.vacuum)[PATTERN.name]
    probe = estimate_probe(scan, vacuum=vacuum, region=settings.vacuum_region)
    return probe, make_detector(probe, settings)


def make_detector(probe: xr.Dataset, settings: Settings) -> DiskDetector:
    """Return the detector that the settings name, made for the probe; or their own."""
    if not isinstance(settings.detector, str):
        return settings.detector
    return load_detector(settings.detector, probe, **settings.detector_options)


def estimate_probe(
    scan: xr.Dataset,
    *,
    vacuum: xr.DataArray | Array | None = None,
    region: tuple[slice, slice] | None = None,
    semiangle: float | None = None,
) -> xr.Dataset:
    """Measure the probe of a scan; automatic unless told how.

    In this order: `vacuum`; `region`; a ``probe`` that came with the scan; `semiangle`
    or that of the calibration, unless the disks have another radius by more than 15 %;
    else the disks of the scan themselves, the radius that is most like them. Radius and
    edge are refined on the scan's own disks, except those of a measured probe.

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
    patterns: Array, mask: Array, radius: float, camera: CameraNoise
) -> tuple[Array, Array]:
    """Up to 200 disks of a sample, from strong to weak, for `estimate_probe`.

    Returns
    -------
    index : numpy.ndarray
        int (m,), pattern of each.
    position : numpy.ndarray
        float (m, 2): y, x, px.
    """
    detector = load_detector(radius=radius, mask=mask, max_peaks=48, **asdict(camera))
    peaks = detector(patterns)
    image, rank = np.nonzero(np.isfinite(peaks.intensity))
    order = np.argsort(-peaks.intensity[image, rank], kind="stable")
    order = order[:: max(1, len(order) // 200)][:200]
    image, rank = image[order], rank[order]
    return image, peaks.position[image, rank].astype(float)


def kept_probe(out: str, *, resume: bool, overwrite: bool) -> xr.Dataset | None:
    """Return the probe that an interrupted run measured; None where a new one starts.

    Raises
    ------
    StoreError
        If there is something at `out` that is not, or cannot be, gone on with.
    """
    if not is_store(place(out)) or overwrite:
        return None
    if not resume:
        msg = f"{out} exists; pass overwrite=True, or choose another name"
        raise StoreError(msg)
    store = BlockStore(out)
    if "probe" not in store.attrs:
        return None
    # these alone: what else lies there may be damaged, and is made again
    names = [n for n in (PROBE.name, MASK.name, *Q) if n in store.groups()]
    measured = {k: np.nan if v is None else v for k, v in store.attrs["probe"].items()}
    return xr.Dataset({n: get_array(store.place, n) for n in names}, attrs=measured)


def create_store(
    scan: xr.Dataset,
    out: str,
    chosen: tuple[xr.Dataset, DiskDetector],
    settings: Settings,
    *,
    overwrite: bool,
) -> BlockStore:
    """Make the output, with the probe and room for the Bragg vectors of every block."""
    probe, detector = chosen
    kept = {k: scan.attrs[k] for k in ("calibration", "source") if k in scan.attrs}
    measured = {k: None if v != v else v for k, v in probe.attrs.items()}  # noqa: PLR0124
    small = {
        str(n): small_array(a) for n, a in probe.variables.items() if n not in SCAN
    }
    return BlockStore.create(
        out,
        bragg_arrays(scan, detector.max_peaks),
        detection_block(scan),
        fingerprint=detection_identity(scan, settings),
        attrs={**kept, "probe": measured},
        small=small | scan_axes(scan),
        overwrite=overwrite,
    )


def detection_block(scan: xr.Dataset) -> tuple[int, int]:
    """Rows and columns of a block of the first pass."""
    rows, columns = scan_blocks(scan[PATTERN.name].data)
    return max(rows), max(columns)


def bragg_arrays(scan: xr.Dataset, max_peaks: int) -> dict[str, ArraySpec]:
    """Return what the first pass writes."""
    block = detection_block(scan)
    shape = scan[PATTERN.name].shape[:2]
    widths = peak_shapes(int(max_peaks))
    return {
        v.name: ArraySpec(
            dims=v.dims,
            shape=(*shape, *widths[v.name]),
            dtype="float32",
            chunks=(*block, *widths[v.name]),
            fill_value=float("nan"),
        )
        for v in BRAGG_VARIABLES
    }


def small_array(array: Any) -> tuple[tuple[str, ...], Array, dict[str, Any]]:
    """Return an array as a store takes it: dims, values and plain attributes."""
    attrs = {
        str(k): v
        for k, v in array.attrs.items()
        if isinstance(v, int | float | str | list)
    }
    return tuple(map(str, array.dims)), np.asarray(array), attrs


def scan_axes(scan: xr.Dataset) -> dict[str, Any]:
    """Coordinates of the scan as a store takes them."""
    return {n: small_array(scan[n]) for n in SCAN if n in scan.coords}


@contextmanager
def reported(store: BlockStore, stage: str, progress: Progress) -> Iterator[None]:
    """Report the marks of the store while blocks are committed, wherever that is."""
    stop = threading.Event()
    total = store.grid[0] * store.grid[1]

    def watch() -> None:
        pause = 0.5
        while not stop.wait(pause):
            start = time.monotonic()
            with suppress(*failures()):
                progress(stage, total - len(store.pending()), total)
            pause = max(0.5, 20 * (time.monotonic() - start))

    progress(stage, total - len(store.pending()), total)
    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    progress(stage, total, total)


def stored_bragg(
    store: BlockStore, scan: xr.Dataset, block: tuple[int, int]
) -> xr.Dataset:
    """Bragg vectors as committed, lazily, in blocks of the second pass."""
    raw = xr.open_zarr(
        store.place.zarr(),
        consolidated=False,
        chunks=dict(zip(SCAN, block, strict=True)),
    )
    arrays = {v.name: raw[v.name].data for v in BRAGG_VARIABLES}
    return label_peaks(arrays, scan)
