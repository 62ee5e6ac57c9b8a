"""``fcunet-dask strain``: a scan on disk to a strain map."""

from typing import Annotated, Any

import numpy as np
import typer
import xarray as xr
from rich.table import Table

from fcunet_dask.cli.picture import draw, picture_path, refuse_others
from fcunet_dask.cli.screen import (
    console,
    given_calibration,
    pair,
    progress_bars,
    region,
    whole_pair,
)
from fcunet_dask.cli.where import Blocks, Cluster, Workers, computing
from fcunet_dask.io import open_scan
from fcunet_dask.pipeline import Settings, run

Option = typer.Option
_REMEDY = "give OUT another name; --overwrite replaces it, and results at OUT"


def strain(
    scan: Annotated[
        str,
        typer.Argument(help="Scan: native store, HDF5, vendor file, URL of a store."),
    ],
    out: Annotated[
        str, typer.Argument(help="Folder of the results (Zarr), or URL (s3://…).")
    ],
    q_step: Annotated[float | None, Option(help="Detector pixel, 1/Å.")] = None,
    scan_step: Annotated[float | None, Option(help="Probe step, nm.")] = None,
    voltage: Annotated[float | None, Option(help="Accelerating voltage, kV.")] = None,
    semiangle: Annotated[float | None, Option(help="Of convergence, mrad.")] = None,
    scan_rotation: Annotated[
        float | None, Option(help="From scan x to detector x, degrees.")
    ] = None,
    dataset: Annotated[str | None, Option(help="Dataset in an HDF5 file.")] = None,
    scan_shape: Annotated[
        str | None, Option(help="ROWS,COLUMNS of a scan stored as one row.")
    ] = None,
    blocks: Blocks = None,
    vacuum: Annotated[
        str | None, Option(help="Patterns in vacuum: file, or URL of a store.")
    ] = None,
    vacuum_region: Annotated[
        str | None, Option(help="ROWS,COLUMNS in vacuum, such as ':,56:64'.")
    ] = None,
    reference: Annotated[
        str | None,
        Option(
            help="Unstrained ROWS,COLUMNS, such as ':,0:8'; else the median of all."
        ),
    ] = None,
    g1: Annotated[str | None, Option(help="Lattice vector Y,X; else found.")] = None,
    g2: Annotated[str | None, Option(help="Lattice vector Y,X; else found.")] = None,
    grains: Annotated[int, Option(help="Most lattices to look for.", min=1)] = 1,
    axes: Annotated[
        str, Option(help="Of the tensor: scan, detector, g1 or degrees.")
    ] = "scan",
    origin: Annotated[
        str, Option(help="Surface of the beam: auto, constant, plane, parabola.")
    ] = "auto",
    detector: Annotated[str, Option(help="Name of the disk detector.")] = "template",
    cluster: Cluster = "none",
    workers: Workers = 0,
    resume: Annotated[
        bool, Option(help="Go on with a run of the same scan and settings at OUT.")
    ] = True,
    overwrite: Annotated[
        bool,
        Option(
            "--overwrite",
            help="Delete results at OUT and start anew; replace the figure.",
        ),
    ] = False,
) -> None:
    """Find the disks of every pattern, fit the lattice, map the strain.

    Everything is found automatically unless told; what was chosen is printed, stored
    with the results, and drawn in a figure beside them. A run that was interrupted goes
    on where it stopped; with --no-resume results that are there are refused.
    """
    calibration = given_calibration(
        q_step=q_step,
        scan_step=scan_step,
        voltage=voltage,
        semiangle=semiangle,
        scan_rotation=scan_rotation,
    )
    if not overwrite:
        refuse_others(picture_path(out), _REMEDY)
    opened = open_scan(
        scan,
        dataset=dataset,
        scan_shape=whole_pair(scan_shape, "--scan-shape"),
        blocks=whole_pair(blocks, "--blocks"),
        calibration=calibration,
    )
    settings = Settings(
        calibration=calibration,
        detector=detector,
        vacuum=vacuum,
        vacuum_region=region(vacuum_region, "--vacuum-region"),
        origin=origin,
        g1=pair(g1, "--g1"),
        g2=pair(g2, "--g2"),
        grains=grains,
        reference=region(reference, "--reference"),
        axes=_axes(axes),
    )
    with computing(cluster, workers), progress_bars() as progress:
        results = run(
            opened,
            out,
            settings=settings,
            resume=resume,
            overwrite=overwrite,
            progress=progress,
        )
    report(results)
    console.print(f"results {out}, figure {draw(results, out)}", highlight=False)


def _axes(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


def report(results: xr.Dataset) -> None:
    """Print what was chosen and what came out."""
    provenance = results.attrs["provenance"]
    probe, basis = provenance["probe"], provenance["basis"]
    units = results["reference_g1"].attrs.get("units", "px")
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_row(
        "probe",
        f"radius {probe['radius']:.2f} px, edge {probe['edge']:.2f} px, fillings "
        f"±{100 * probe['structure']:.0f} %, {_camera(probe)} "
        f"(from {probe['origin']})",
    )
    if probe.get("saturation"):
        table.add_row("saturated", _saturated(probe))
    table.add_row(
        "origin",
        f"{provenance['origin']['kind']} through {provenance['origin']['measured']} "
        f"positions, scatter {provenance['origin']['residual']:.2g} {units}",
    )
    for place in provenance["origin"].get("covered", [])[:1]:
        table.add_row("", _missing_disk(place, units))
    for g1, g2 in zip(basis["g1"], basis["g2"], strict=True):
        table.add_row("lattice", f"{_lattice(g1, g2, units)} (from {basis['from']})")
    positions = ", ".join(map(str, provenance["reference"]["positions"]))
    said = f"{provenance['reference']['from']}: {positions} positions"
    table.add_row("reference", said)
    for text in _referred_to_itself(provenance["reference"]):
        table.add_row("", text)
    pulls = provenance.get("pulls", {"pull_axes": [], "pull_variance": []})
    for axes, variance in zip(*pulls.values(), strict=True):
        table.add_row("shared errors", _shared(axes, variance, units))
    table.add_row("positions", _positions(results))
    for name in ("strain_xx", "strain_yy", "strain_xy", "rotation"):
        table.add_row(name, _range(results, name))
    console.print(table, highlight=False)


def _referred_to_itself(reference: dict[str, Any]) -> list[str]:
    """Say which grains are not at all in the region that is the reference."""
    grains = zip(reference.get("outside", []), reference["positions"], strict=False)
    return [
        f"grain {grain} has no position there: its strain is that from the median of all "
        f"of its own {positions}, about zero whatever it is"
        for grain, (outside, positions) in enumerate(grains)
        if outside and positions
    ]


def _camera(probe: dict[str, Any]) -> str:
    words = [f"{probe['gain']:.3g} counts per electron"]
    if probe.get("readout"):
        words.append(f"readout noise of {probe['readout']:.3g}")
    if probe.get("dark"):
        words.append(f"dark level of {probe['dark']:.4g}")
    return ", ".join(words)


def _saturated(probe: dict[str, Any]) -> str:
    """Say how much of the sample that the probe is measured on is cut off."""
    patterns, pixels = probe["saturated_patterns"], probe["saturated_pixels"]
    return (
        f"at {probe['saturation']:.6g} counts: {100 * patterns:.0f} % of the patterns "
        f"looked at, {100 * pixels:.2g} % of their pixels; intensities of these disks are "
        "not measured. Less dose would be better"
    )


def _missing_disk(place: list[float], units: str) -> str:
    """Say where the beam may be, if not where it was taken to be."""
    y, x = (f"{value:.4g}" for value in place)
    return (
        f"no disk at y {y}, x {x} {units}, between others. If a beam stop covers the "
        "direct beam, it is there, and the origin another disk's, or off: strain does not "
        "depend on it. Mask the stop (variable mask of the scan), and pass "
        f"measure_origin expected=({y}, {x})"
    )


def _lattice(g1: list[float], g2: list[float], units: str) -> str:
    a, b = np.array(g1), np.array(g2)
    angle = np.degrees(np.arccos(a @ b / (np.hypot(*a) * np.hypot(*b))))
    return f"|g₁| {np.hypot(*a):.4g}, |g₂| {np.hypot(*b):.4g} {units}, {angle:.2f}°"


def _shared(axes: list[list[float]], variance: list[float], units: str) -> str:
    """Errors that all disks of a pattern have outwards."""
    found = [
        f"{np.sqrt(v):.2g} {units} along y {y:+.2f}, x {x:+.2f}"
        for (y, x), v in zip(axes, variance, strict=True)
        if v > 0
    ]
    return "; ".join(found) or "none found"


def _positions(results: xr.Dataset) -> str:
    status = np.asarray(results["lattice_status"])
    return f"{status.size}, of them {int((status > 0).sum())} without a lattice"


def _range(results: xr.Dataset, name: str) -> str:
    values = np.asarray(results[name])
    if not np.isfinite(values).any():
        return "none"
    factor, unit = (180 / np.pi, "°") if name == "rotation" else (100, "%")
    least, low, middle, high, most = (
        np.nanpercentile(values, [0, 2, 50, 98, 100]) * factor
    )
    sigma = float(np.nanmedian(np.asarray(results[f"{name}_std"]))) * factor
    usual = f"{low:+.3f} … {middle:+.3f} … {high:+.3f} {unit}, σ {sigma:.3f} {unit}"
    return f"{usual} (all {least:+.3f} … {most:+.3f})"
