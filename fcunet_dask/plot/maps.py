"""Maps over the scan."""

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from scipy.ndimage import gaussian_filter

from fcunet_dask.plot.figure import NotebookFigure
from fcunet_dask.schema import SCAN
from fcunet_dask.types import Array

_PANELS = (
    ("strain_xx", "ε$_{xx}$ (%)", 100.0),
    ("strain_yy", "ε$_{yy}$ (%)", 100.0),
    ("strain_xy", "ε$_{xy}$ (%)", 100.0),
    ("rotation", "rotation (°)", 180 / np.pi),
)


def strain_maps(strain: xr.Dataset, *, limit: float | None = None) -> Figure:
    """Draw ε_xx, ε_yy, ε_xy and the rotation.

    Parameters
    ----------
    strain : xarray.Dataset
        From `compute_strain` or `run`; it is computed.
    limit : float, optional
        End of the colour scale of the strains, 1; by default the 98th percentile of
        their magnitude.

    Returns
    -------
    matplotlib.figure.Figure
        Positions without a lattice are grey; a colour bar ends in an arrow where values
        lie beyond it.
    """
    figure = NotebookFigure(figsize=(12, 3.4), layout="constrained")
    axes = figure.subplots(1, 4)
    for ax, panel in zip(axes, _PANELS, strict=True):
        _strain_panel(ax, strain, *panel, limit=_limit(strain, panel[0], limit))
    return figure


def summary(results: xr.Dataset) -> Figure:
    """Draw all that a person needs to judge a run.

    Strain, its standard deviation, misfit and indexed disks, the Bragg-vector map with
    the lattice, and the number of disks.

    Parameters
    ----------
    results : xarray.Dataset
        From `run`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = NotebookFigure(figsize=(14, 9), layout="constrained")
    axes = figure.subplots(3, 4)
    for ax, panel in zip(axes[0], _PANELS, strict=True):
        _strain_panel(ax, results, *panel, limit=_limit(results, panel[0], None))
    for ax, (name, title, factor) in zip(axes[1], _PANELS, strict=True):
        values = np.asarray(results[f"{name}_std"]) * factor
        top = float(np.nanpercentile(values, 99)) if np.isfinite(values).any() else 1.0
        _map(ax, values, f"σ of {title}", results, vmin=0, vmax=top)
    _bragg_map(axes[2, 0], results)
    units = results["residual"].attrs.get("units", "")
    _map(axes[2, 1], results["residual"], f"misfit ({units})", results, cmap="magma")
    _map(axes[2, 2], results["n_indexed"], "disks on the lattice", results)
    _map(axes[2, 3], results["quality"], "quality", results, vmin=0, vmax=1)
    figure.suptitle(_headline(results))
    return figure


def _headline(results: xr.Dataset) -> str:
    status = np.asarray(results["lattice_status"])
    deviations = [np.asarray(results[f"strain_{c}_std"]) for c in ("xx", "yy", "xy")]
    usual = [float(np.nanmedian(d)) for d in deviations if np.isfinite(d).any()]
    text = f"{status.size} positions, {int((status > 0).sum())} without a lattice"
    if usual:
        text += f"; median σ of the strain {100 * np.mean(usual):.3f} %"
    reference = results.attrs.get("provenance", {}).get("reference", {})
    for grain in np.flatnonzero(reference.get("outside", [])):
        text += f"; grain {grain}, not in the reference, is referred to itself"
    return text


def _limit(results: xr.Dataset, name: str, limit: float | None) -> float:
    """End of a symmetric colour scale, common to the three strains."""
    if limit is not None and name != "rotation":
        return limit
    names = [name] if name == "rotation" else [p[0] for p in _PANELS[:3]]
    values = np.concatenate([np.abs(np.asarray(results[n])).ravel() for n in names])
    values = values[np.isfinite(values)]
    return float(np.percentile(values, 98)) if values.size else 1.0


def _strain_panel(
    ax: Axes, data: xr.Dataset, name: str, title: str, factor: float, *, limit: float
) -> None:
    end = max(limit * factor, 1e-9)
    values = np.asarray(data[name]) * factor
    _map(ax, values, title, data, cmap="RdBu_r", vmin=-end, vmax=end)


def _map(ax: Axes, values: Any, title: str, data: xr.Dataset, **options: Any) -> None:
    """Draw one map with scan coordinates and its colour bar."""
    ax.set_facecolor("0.7")
    extent, (y, x) = _extent(data)
    image = ax.imshow(
        np.asarray(values), extent=extent, interpolation="nearest", **options
    )
    ax.set_title(title, fontsize=10)
    ax.set_xlabel(f"x ({x})", fontsize=8)
    ax.set_ylabel(f"y ({y})", fontsize=8)
    ax.tick_params(labelsize=7)
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.8, extend=_beyond(image))
    bar.ax.tick_params(labelsize=7)


def _beyond(image: AxesImage) -> str:
    """On which ends of its colour scale an image has values beyond."""
    values, (low, high) = np.asarray(image.get_array(), float), image.get_clim()
    below, above = bool((values < low).any()), bool((values > high).any())
    return ("neither", "min", "max", "both")[below + 2 * above]


def _extent(
    data: xr.Dataset,
) -> tuple[tuple[float, float, float, float], tuple[str, str]]:
    """Outer edges of the map: left, right, bottom, top; and the units of y and x.

    Positions that are not evenly far apart are counted.
    """
    shape = data["n_indexed"].shape if "n_indexed" in data else data["strain_xx"].shape
    edges, units = [], []
    for name, size in zip(SCAN, shape, strict=True):
        axis, unit = np.arange(size, dtype=float), "px"
        if name in data.coords and _even(np.asarray(data[name], float)):
            axis = np.asarray(data[name], float)
            unit = str(data[name].attrs.get("units", "px"))
        half = 0.5 * (axis[1] - axis[0]) if size > 1 else 0.5
        edges.append((float(axis[0] - half), float(axis[-1] + half)))
        units.append(unit)
    return (*edges[1], edges[0][1], edges[0][0]), (units[0], units[1])


def _even(axis: Array) -> bool:
    """Whether positions are as far apart everywhere, up to a hundredth."""
    steps = np.diff(axis)
    return not steps.size or bool(
        steps[0] != 0 and np.allclose(steps, steps[0], rtol=0.01, atol=0)
    )


def _bragg_map(ax: Axes, results: xr.Dataset) -> None:
    """Draw the Bragg-vector map with the reference lattice on it."""
    histogram = np.asarray(results["bragg_vector_map"])
    y, x = (np.asarray(results[f"map_{n}"]) for n in ("q_y", "q_x"))
    rows, columns = np.nonzero(histogram > 0)
    if not len(rows):
        rows, columns = np.array([0, len(y) - 1]), np.array([0, len(x) - 1])
    reach = 1.08 * max(np.abs(y[rows]).max(), np.abs(x[columns]).max())
    blurred = gaussian_filter(histogram, reach / (y[1] - y[0]) / 120)
    image = np.log10(np.maximum(blurred / max(blurred.max(), 1e-30), 1e-4))
    half = 0.5 * (x[1] - x[0])
    extent = (x[0] - half, x[-1] + half, y[-1] + half, y[0] - half)
    ax.imshow(image, extent=extent, cmap="magma")
    for i in range(results["reference_g1"].shape[0]):
        points = _lattice_points(results, i, reach)
        ax.plot(points[:, 1], points[:, 0], "+", ms=8, mew=0.8, color=f"C{2 * i}")
    ax.set_xlim(-reach, reach)
    ax.set_ylim(reach, -reach)
    ax.set_title("Bragg vectors (log) and lattice", fontsize=10)
    ax.set_xlabel(f"q_x ({results['reference_g1'].attrs.get('units', '')})", fontsize=8)
    ax.tick_params(labelsize=7)


def _lattice_points(results: xr.Dataset, grain: int, reach: float) -> Array:
    G = np.stack([np.asarray(results[f"reference_{n}"])[grain] for n in ("g1", "g2")])
    most = int(np.ceil(2 * reach / np.sqrt((G**2).sum(1)).min()))
    axis = np.arange(-most, most + 1)
    h, k = (a.ravel() for a in np.meshgrid(axis, axis))
    points = np.stack([h, k], axis=-1) @ G
    return np.asarray(points[(np.abs(points) < reach).all(axis=1)])
