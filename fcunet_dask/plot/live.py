"""Strain maps that are drawn anew while a run goes on."""

import sys
from collections.abc import Iterable

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from fcunet_dask.plot.maps import strain_maps


def live(maps: Iterable[xr.Dataset]) -> Figure | None:
    """Draw each of `maps` in the place of the one before; in Jupyter, without widgets.

    Parameters
    ----------
    maps : iterable of xarray.Dataset
        From `fcunet_dask.pipeline.watch`.

    Returns
    -------
    matplotlib.figure.Figure or None
        The last; None if there was none.
    """
    figure = None
    for data in maps:
        figure = strain_maps(data)
        share = float(np.asarray(data["finished"]).mean())
        figure.suptitle(f"{100 * share:.0f} % of the positions", fontsize=10)
        _show(figure)
    return figure


def _show(figure: Figure) -> None:
    """Replace the output of the cell, where there is one."""
    display = sys.modules.get("IPython.display")
    if display is not None:
        display.clear_output(wait=True)
        display.display(figure)
