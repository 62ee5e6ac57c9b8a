"""``fcunet-dask demo``: the main job on a scan with known strain."""

import os
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer
import xarray as xr
import zarr

from fcunet_dask.cli.picture import draw, picture_path, refuse_others
from fcunet_dask.cli.screen import console, progress_bars
from fcunet_dask.cli.strain import report
from fcunet_dask.errors import StoreError
from fcunet_dask.io import open_scan, save_scan
from fcunet_dask.pipeline import run
from fcunet_dask.simulate import KinematicRecipe, simulate_scan

RECIPE = KinematicRecipe(
    scan=(48, 64), structure=0.5, dose=5e4, descan=(2.0, -3.0), hot_pixels=3, seed=4
)
_MARK: Final = {"made_by": "fcunet-dask demo"}
"""Attributes by which a scan is known as the demo's own."""


def demo(
    folder: Annotated[Path, typer.Argument(help="Where to leave it.")] = Path("demo"),
) -> None:
    """Make a scan with known strain, map it, and say how far off the map is.

    The scan has structure inside its disks, descan, hot pixels and counting noise; it
    is analysed without being told any of it. In a FOLDER of an earlier demo it is made
    anew; scans and results of others are left alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    scan_path, out = folder / "scan.zarr", folder / "strain.zarr"
    _refuse_foreign(scan_path, out)
    refuse_others(picture_path(out), "give another FOLDER")
    truth = simulate_scan(RECIPE).assign_attrs(_MARK)
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


def _refuse_foreign(scan: Path, out: Path) -> None:
    """Refuse to replace a scan that no demo made, or results of another scan."""
    source = _attributes(out).get("source")
    read = source.get("path") if isinstance(source, dict) else None
    made = _MARK.items() <= _attributes(scan).items()
    ours = {scan: made, out: made and read == os.path.realpath(scan)}
    for path, own in ours.items():
        if path.exists() and not own:
            msg = (
                f"{path} is none of a demo's and would be overwritten: move it away, or "
                "give another FOLDER"
            )
            raise StoreError(msg)


def _attributes(path: Path) -> dict[str, Any]:
    try:
        return dict(zarr.open_group(path, mode="r").attrs)
    except (OSError, ValueError):
        return {}


def _compared(results: xr.Dataset, truth: xr.Dataset, name: str) -> str:
    error = np.asarray(results[name]) - np.asarray(truth[f"true_{name}"])
    inside = np.abs(error) < np.asarray(results[f"{name}_std"])
    rms = float(np.sqrt(np.nanmean(error**2)))
    share = float(inside[np.isfinite(error)].mean())
    return (
        f"{name}: rms error {100 * rms:.3f} %, {100 * share:.0f} % of errors within σ"
    )
