"""``fcunet-dask demo``: the main job on a scan with known strain."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
import xarray as xr

from fcunet_dask.cli.picture import draw, picture_path, refuse_others
from fcunet_dask.cli.screen import console, progress_bars
from fcunet_dask.cli.strain import report
from fcunet_dask.io import open_scan, save_scan
from fcunet_dask.pipeline import run
from fcunet_dask.simulate import KinematicRecipe, simulate_scan

RECIPE = KinematicRecipe(
    scan=(48, 64), structure=0.5, dose=5e4, descan=(2.0, -3.0), hot_pixels=3, seed=4
)


def demo(
    folder: Annotated[Path, typer.Argument(help="Where to leave it.")] = Path("demo"),
) -> None:
    """Make a scan with known strain, map it, and say how far off the map is.

    The scan has structure inside its disks, descan, hot pixels and counting noise; it
    is analysed without being told any of it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    scan_path, out = folder / "scan.zarr", folder / "strain.zarr"
    refuse_others(picture_path(out), "give another FOLDER")
    truth = simulate_scan(RECIPE)
    save_scan(truth[["pattern"]], scan_path, overwrite=True)
    scan = open_scan(scan_path)
    unstrained = (slice(None), slice(0, RECIPE.scan[1] // 4))
    with progress_bars() as progress:
        results = run(
            scan, out, reference=unstrained, overwrite=True, progress=progress
        )
    report(results)
    for name in ("strain_xx", "strain_yy", "strain_xy"):
        console.print(_compared(results, truth, name), highlight=False)
    console.print(f"strain map: {draw(results, out)}", highlight=False)


def _compared(results: xr.Dataset, truth: xr.Dataset, name: str) -> str:
    error = np.asarray(results[name]) - np.asarray(truth[f"true_{name}"])
    inside = np.abs(error) < np.asarray(results[f"{name}_std"])
    rms = float(np.sqrt(np.nanmean(error**2)))
    share = float(inside[np.isfinite(error)].mean())
    return (
        f"{name}: rms error {100 * rms:.3f} %, {100 * share:.0f} % of errors within σ"
    )
