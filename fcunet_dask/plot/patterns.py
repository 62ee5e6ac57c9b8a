"""One pattern with what was found in it."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Ellipse

from fcunet_dask._axes import detector_axes
from fcunet_dask.plot.figure import NotebookFigure
from fcunet_dask.schema import q_units
from fcunet_dask.types import Array


def pattern(
    scan: xr.Dataset, results: xr.Dataset | None = None, at: tuple[int, int] = (0, 0)
) -> Figure:
    """Draw the pattern of a position, its disks with error ellipses, and the lattice.

    Parameters
    ----------
    scan : xarray.Dataset
        With ``pattern``.
    results : xarray.Dataset, optional
        From `run`.
    at : (int, int)
        Row and column of the position.

    Returns
    -------
    matplotlib.figure.Figure
        √counts; circles are disks, crosses the fitted lattice; the ellipses are three
        standard deviations, ten times enlarged.
    """
    figure = NotebookFigure(figsize=(7, 7), layout="constrained")
    ax = figure.subplots()
    image = np.asarray(scan["pattern"].isel(scan_y=at[0], scan_x=at[1]), float)
    first, step = np.array(detector_axes(scan))
    low, high = first - 0.5 * step, first + step * (np.array(image.shape) - 0.5)
    extent = (low[1], high[1], high[0], low[0])
    root = np.sqrt(np.clip(np.nan_to_num(image), 0, None))
    top = np.percentile(root, 99.8)
    ax.imshow(root, extent=extent, cmap="gray", vmax=max(float(top), 1e-9))
    title = f"position {at[0]}, {at[1]}"
    if results is not None:
        here = results.isel(scan_y=at[0], scan_x=at[1])
        radius = results.attrs["provenance"]["probe"]["radius"] * abs(step[1])
        for position, covariance in _disks(here):
            ax.add_patch(
                Circle((position[1], position[0]), radius, fill=False, ec="C1", lw=0.8)
            )
            ax.add_patch(_ellipse(position, covariance))
        transform = np.array(results.attrs["provenance"]["transform"])
        points = _lattice(here, transform, float(np.abs(extent).max()))
        ax.plot(points[:, 1], points[:, 0], "x", ms=4, mew=0.8, color="C0")
        title += f"; strain ε_xx {100 * float(here['strain_xx']):.3f} %"
        title += f" ± {100 * float(here['strain_xx_std']):.3f} %"
    units = q_units(scan)
    ax.set(title=title, xlabel=f"q_x ({units})", ylabel=f"q_y ({units})")
    ax.set_xlim(extent[0], extent[1])
    ax.set_ylim(extent[2], extent[3])
    return figure


def _disks(here: xr.Dataset) -> list[tuple[Array, Array]]:
    """Positions (2,) and covariances (2, 2) of the disks of a position."""
    positions = np.asarray(here["bragg_q"], float)
    pairs = np.asarray(here["bragg_covariance"], float)
    found = np.isfinite(positions[:, 0])
    matrices = pairs[:, [0, 1, 1, 2]].reshape(-1, 2, 2)
    return list(zip(positions[found], matrices[found], strict=True))


def _ellipse(position: Array, covariance: Array, enlarged: float = 10.0) -> Ellipse:
    """Three standard deviations, enlarged."""
    values, vectors = np.linalg.eigh(covariance)
    lengths = 6 * enlarged * np.sqrt(np.maximum(values, 0))
    angle = np.degrees(np.arctan2(vectors[0, 1], vectors[1, 1]))
    return Ellipse(
        (position[1], position[0]),
        lengths[1],
        lengths[0],
        angle=float(angle),
        fill=False,
        ec="C3",
        lw=0.8,
    )


def _lattice(here: xr.Dataset, transform: Array, reach: float) -> Array:
    """Points of the fitted lattice, in the coordinates of the pattern."""
    G = np.stack([np.asarray(here["g1"]), np.asarray(here["g2"])])
    distortion = np.linalg.inv(transform).T
    beam = np.asarray(here["beam"])
    if not np.isfinite(G).all():
        return np.empty((0, 2))
    most = int(np.ceil(3 * reach / np.sqrt((G**2).sum(1)).min()))
    axis = np.arange(-most, most + 1)
    h, k = (a.ravel() for a in np.meshgrid(axis, axis))
    lattice = np.asarray(here["origin"]) + np.stack([h, k], axis=-1) @ G
    points = beam + lattice @ distortion
    return np.asarray(points[(np.abs(points) < reach).all(axis=1)])
