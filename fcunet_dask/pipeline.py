"""The whole analysis: the only module that knows the order of the stages."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from threadpoolctl import threadpool_limits

from fcunet_dask._blockwise import commit_patterns, scan_blocks
from fcunet_dask._commit import ArraySpec, BlockStore
from fcunet_dask.calibrate import apply_calibration, measure_origin
from fcunet_dask.calibration import Calibration
from fcunet_dask.errors import AnalysisError, ParameterError, StoreError
from fcunet_dask.io import open_scan
from fcunet_dask.lattice import (
    find_lattice,
    fit_lattice,
    given_lattice,
    reference_lattice,
)
from fcunet_dask.model import DiskDetector, load_detector
from fcunet_dask.peaks import block_peaks, bragg_vector_map, label_peaks, peak_shapes
from fcunet_dask.probe import estimate_probe
from fcunet_dask.schema import (
    BRAGG_VARIABLES,
    PATTERN,
    PROBE,
    SCAN,
    Q,
    q_units,
)
from fcunet_dask.strain import compute_strain
from fcunet_dask.types import Array

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]


def _silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a run may be told; everything has a default that works.

    Parameters
    ----------
    calibration : Calibration, optional
        In place of the file's.
    detector : str or DiskDetector
        ``template`` with the measured probe, or any detector.
    detector_options : dict
        Parameters of a named detector.
    vacuum : str, optional
        File with patterns without a specimen, for the probe.
    vacuum_region : (slice, slice), optional
        Rows and columns of the scan that are vacuum.
    origin : str
        Surface of the unscattered beam: ``auto``, ``constant``, ``plane``,
        ``parabola``.
    transform : sequence, optional
        (2, 2), undoes the elliptic distortion (`measure_ellipse`).
    g1, g2 : (float, float), optional
        y, x, lattice vectors, in the unit of q; found by default.
    grains : int
        Most lattices to look for.
    reference : (slice, slice), optional
        Rows and columns that are unstrained; by default the median of all.
    axes : str or float
        Of the strain tensor (`compute_strain`).
    """

    calibration: Calibration | None = None
    detector: str | DiskDetector = "template"
    detector_options: dict[str, Any] = field(default_factory=dict)
    vacuum: str | None = None
    vacuum_region: tuple[slice, slice] | None = None
    origin: str = "auto"
    transform: Any = None
    g1: tuple[float, float] | None = None
    g2: tuple[float, float] | None = None
    grains: int = 1
    reference: tuple[slice, slice] | None = None
    axes: str | float = "scan"

    def __post_init__(self) -> None:
        if (self.g1 is None) != (self.g2 is None):
            msg = "g1 and g2 are given together or not at all"
            raise ParameterError(msg)


def run(
    scan: str | Path | xr.Dataset,
    out: str | Path,
    *,
    settings: Settings | None = None,
    overwrite: bool = False,
    progress: Progress = _silent,
    **changes: Any,
) -> xr.Dataset:
    """Patterns to strain map, automatic, block by block, on the active Dask scheduler.

    Bragg vectors are committed block by block as they are found: a run that was
    interrupted goes on where it stopped, with the same settings only. Lattice and
    strain are computed from them, so another reference costs no new detection.

    Parameters
    ----------
    scan : str, Path or xarray.Dataset
        A file that `open_scan` reads, or a scan.
    out : str or Path
        Folder of the results, one Zarr group.
    settings : Settings, optional
        What should not be automatic.
    overwrite : bool
        Delete results of another run at `out`.
    progress : callable
        Called with the stage, blocks done and blocks in all.
    **changes
        Fields of the settings.

    Returns
    -------
    xarray.Dataset
        Probe, Bragg vectors, Bragg-vector map, lattice and strain, lazily, from `out`;
        ``attrs["provenance"]`` says how each was chosen.

    Raises
    ------
    ReaderError, SchemaError, ParameterError, AnalysisError, StoreError
        Before any work where it can be known; otherwise what was finished stays.
    """
    settings = Settings(**{**_fields(settings), **changes})
    if not isinstance(scan, xr.Dataset):
        scan = open_scan(scan, calibration=settings.calibration)
    elif settings.calibration is not None:
        scan = _recalibrated(scan, settings.calibration)
    with threadpool_limits(1):
        return _run(scan, Path(out), settings, overwrite=overwrite, progress=progress)


def _fields(settings: Settings | None) -> dict[str, Any]:
    return {} if settings is None else dict(vars(settings))


def _recalibrated(scan: xr.Dataset, calibration: Calibration) -> xr.Dataset:
    shape = scan[PATTERN.name].shape
    sizes = dict(zip((*SCAN, *Q), shape, strict=True))
    axes = {
        n: (n, calibration.scan_axis(sizes[n]), {"units": calibration.scan_units})
        for n in SCAN
    }
    axes |= {
        n: (n, calibration.q_axis(sizes[n]), {"units": calibration.q_units}) for n in Q
    }
    out = scan.assign_coords(axes)
    out.attrs["calibration"] = calibration.to_dict()
    return out


def _run(
    scan: xr.Dataset,
    out: Path,
    settings: Settings,
    *,
    overwrite: bool,
    progress: Progress,
) -> xr.Dataset:
    progress("probe", 0, 1)
    probe, detector = choose_detector(scan, settings)
    progress("probe", 1, 1)
    store = _create_store(scan, out, detector, settings, overwrite=overwrite)
    with store:
        provenance = _provenance(scan, probe, detector, settings)
        total = store.grid[0] * store.grid[1]
        with _reported(store, total, progress):
            commit_patterns(block_peaks(scan, detector), scan[PATTERN.name], store)
        progress("disks", total, total)
        bragg = _stored_bragg(out, scan)
        results, choices = analyze(bragg, probe, settings)
        provenance |= choices
        progress("strain", 0, 1)
        _write_results(store, results, probe)
        store.finish({"provenance": provenance})
        progress("strain", 1, 1)
    return open_results(out)


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
    probe = estimate_probe(
        scan,
        vacuum=vacuum,
        region=settings.vacuum_region,
        find_disks=sample_disks,
    )
    if not isinstance(settings.detector, str):
        return probe, settings.detector
    detector = load_detector(settings.detector, probe, **settings.detector_options)
    return probe, detector


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


def _create_store(
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
            "source": scan.attrs.get("source", {"path": "memory"}),
            "detector": _describe(detector),
            "q": [float(scan[n][i]) for n in Q for i in (0, -1)],
            "version": version("fcunet-dask"),
        },
        attrs={k: scan.attrs[k] for k in ("calibration", "source") if k in scan.attrs},
        overwrite=overwrite,
    )


def _describe(detector: DiskDetector) -> dict[str, Any]:
    """Plain parameters of a detector, arrays by their hash."""
    values: dict[str, Any] = {
        "type": type(detector).__name__,
        "token": str(getattr(detector, "token", "")),
    }
    for name, value in vars(detector).items():
        if isinstance(value, int | float | str) and name != "token":
            values[name] = value
    return values


@contextmanager
def _reported(store: BlockStore, total: int, progress: Progress) -> Iterator[None]:
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


def _stored_bragg(out: Path, scan: xr.Dataset) -> xr.Dataset:
    """Bragg vectors as committed, lazily, in the store's blocks."""
    raw = xr.open_zarr(out, consolidated=False, chunks={})
    arrays = {v.name: raw[v.name].data for v in BRAGG_VARIABLES}
    return label_peaks(arrays, scan)


def analyze(
    bragg: xr.Dataset, probe: xr.Dataset, settings: Settings
) -> tuple[xr.Dataset, dict[str, Any]]:
    """Bragg vectors → calibrated map, lattice and strain.

    Parameters
    ----------
    bragg : xarray.Dataset
        From `find_bragg_vectors`.
    probe : xarray.Dataset
        From `estimate_probe`.
    settings : Settings

    Returns
    -------
    results : xarray.Dataset
        ``bragg_vector_map`` (map_q_y, map_q_x), ``beam`` (the fitted origin surface),
        ``basis_g1``, ``basis_g2``, ``reference_g1``, ``reference_g2`` (grain,
        component), and all variables of lattice and strain.
    choices : dict
        What was chosen, and from what.
    """
    step = _pixel(bragg, probe)
    radius = probe.attrs["radius"] * step
    origin = measure_origin(bragg, kind=settings.origin)
    calibrated = apply_calibration(bragg, origin=origin, transform=settings.transform)
    reach = 0.5 * step * max(probe["probe"].shape) * 1.42
    bragg_map = bragg_vector_map(calibrated, step=step / 2, extent=reach).compute()
    if settings.g1 is not None and settings.g2 is not None:
        basis = given_lattice(settings.g1, settings.g2, q_units(bragg))
        how = "given"
    else:
        basis = find_lattice(bragg_map, radius=radius, most_grains=settings.grains)
        how = "Bragg-vector map"
    lattice = fit_lattice(calibrated, basis)
    lattice = lattice.persist() if _small(lattice) else lattice
    reference = reference_lattice(lattice, region=settings.reference)
    strain = compute_strain(lattice, reference, axes=settings.axes)
    results = xr.merge([lattice.drop_attrs(deep=False), strain.drop_attrs(deep=False)])
    results["bragg_vector_map"] = bragg_map.rename(q_y="map_q_y", q_x="map_q_x")
    results["beam"] = origin["origin"]
    for name in ("g1", "g2"):
        results[f"basis_{name}"] = basis[name]
        results[f"reference_{name}"] = reference[name]
    choices = {
        "origin": {**origin.attrs, "from": "brightest disks"},
        "ellipse": "none" if settings.transform is None else "given",
        "basis": {
            "from": how,
            "g1": basis["g1"].values.tolist(),
            "g2": basis["g2"].values.tolist(),
        },
        "reference": {
            "from": "median of all"
            if settings.reference is None
            else str(settings.reference),
            "positions": reference["n_positions"].values.tolist(),
        },
        "axes": settings.axes,
    }
    return results, choices


def _pixel(bragg: xr.Dataset, probe: xr.Dataset) -> float:
    """Width of a detector pixel in the unit of q."""
    if Q[0] in probe.coords:
        return float(abs(probe[Q[0]][1] - probe[Q[0]][0]))
    return Calibration.from_dict(bragg.attrs.get("calibration", {})).q_step or 1.0


def _small(lattice: xr.Dataset) -> bool:
    return bool(lattice.nbytes < 2**30)


def _provenance(
    scan: xr.Dataset, probe: xr.Dataset, detector: DiskDetector, settings: Settings
) -> dict[str, Any]:
    return {
        "version": version("fcunet-dask"),
        "source": scan.attrs.get("source", {"path": "memory"}),
        "calibration": {
            "values": scan.attrs.get("calibration", {}),
            "from": "file"
            if settings.calibration is None
            else "given, over the file's",
        },
        "probe": dict(probe.attrs),
        "detector": _describe(detector),
    }


def _write_results(
    store: BlockStore,
    results: xr.Dataset,
    probe: xr.Dataset,
) -> None:
    """Add everything behind the Bragg vectors to the store."""
    extra = results.assign({PROBE.name: probe["probe"], "mask": probe["mask"]})
    extra = extra.drop_vars(
        [n for n in (*SCAN, *Q) if n in extra.coords], errors="ignore"
    )
    for name in list(extra.variables):
        variable = extra[name].variable
        values = np.asarray(variable)
        if values.dtype.kind in "UO":
            continue
        store.put(
            str(name), tuple(map(str, variable.dims)), values, _plain(variable.attrs)
        )
    for name in (*SCAN, *Q):
        source = probe if name in Q else results
        if name in source.coords:
            axis = source[name]
            store.put(name, (name,), np.asarray(axis), _plain(axis.attrs))


def _plain(attrs: dict[Any, Any]) -> dict[str, Any]:
    """Attributes as plain JSON."""
    return {
        str(k): v for k, v in attrs.items() if isinstance(v, int | float | str | list)
    }


def open_results(out: str | Path) -> xr.Dataset:
    """Open what `run` left, lazily.

    Parameters
    ----------
    out : str or Path
        Its folder.

    Returns
    -------
    xarray.Dataset

    Raises
    ------
    StoreError
        If there are no finished results; those of finished blocks can be had with
        `xarray.open_zarr`.
    """
    store = BlockStore(out)
    if not store.complete:
        done = store.grid[0] * store.grid[1] - len(store.pending())
        msg = (
            f"{out} is not finished: {done} of {store.grid[0] * store.grid[1]} blocks; "
            "run it again with the same settings to go on"
        )
        raise StoreError(msg)
    results = xr.open_zarr(out, consolidated=False, chunks={})
    results.attrs["provenance"] = store.summary["provenance"]
    results = results.assign_coords(component=["y", "x"], pair=["yy", "yx", "xx"])
    if "strain_xx" not in results:
        msg = f"{out} holds no strain: run it again"
        raise AnalysisError(msg)
    return results
