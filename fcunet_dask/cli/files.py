"""``fcunet-dask convert`` and ``info``: scans as files."""

from typing import Annotated

import typer
import xarray as xr
from rich.table import Table

from fcunet_dask.cli.screen import console, progress_bars, whole_pair
from fcunet_dask.io import convert as convert_scan
from fcunet_dask.io import open_scan
from fcunet_dask.schema import SCAN


def convert(
    scan: Annotated[str, typer.Argument(help="Any file that can be read.")],
    out: Annotated[str, typer.Argument(help="Native store to write (Zarr), or URL.")],
    dataset: Annotated[
        str | None, typer.Option(help="Dataset in an HDF5 file.")
    ] = None,
    scan_shape: Annotated[
        str | None, typer.Option(help="ROWS,COLUMNS of a scan stored as one row.")
    ] = None,
    resume: Annotated[
        bool, typer.Option(help="Go on with a conversion of the same scan at OUT.")
    ] = True,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete what is at OUT.")
    ] = False,
) -> None:
    """Copy a scan into the native store: sharded, compressed, with checksums.

    In bounded memory; each block is read back and compared. A conversion that was
    interrupted goes on where it stopped.
    """
    with progress_bars() as bars:
        convert_scan(
            scan,
            out,
            resume=resume,
            overwrite=overwrite,
            dataset=dataset,
            scan_shape=whole_pair(scan_shape, "--scan-shape"),
            progress=lambda done, total: bars("blocks", done, total),
        )
    console.print(f"wrote {out}", highlight=False)


def info(
    scan: Annotated[str, typer.Argument(help="Any file that can be read.")],
    dataset: Annotated[
        str | None, typer.Option(help="Dataset in an HDF5 file.")
    ] = None,
    scan_shape: Annotated[
        str | None, typer.Option(help="ROWS,COLUMNS of a scan stored as one row.")
    ] = None,
) -> None:
    """Say what a file holds: shape, type, calibration."""
    opened = open_scan(
        scan, dataset=dataset, scan_shape=whole_pair(scan_shape, "--scan-shape")
    )
    pattern = opened["pattern"]
    sizes = " × ".join(f"{n} {s}" for n, s in pattern.sizes.items())
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_row(
        "patterns", f"{sizes}, {pattern.dtype}, {pattern.nbytes / 2**20:.1f} MiB"
    )
    table.add_row("reader", str(opened.attrs["source"]["reader"]))
    for name, value in opened.attrs["calibration"].items():
        said = _both_steps(opened) if name == "scan_step" and value is None else ""
        table.add_row(name, said or ("not known" if value is None else f"{value:g}"))
    extra = [n for n in ("probe", "mask") if n in opened]
    table.add_row("with it", ", ".join(extra) or "nothing")
    console.print(table, highlight=False)


def _both_steps(scan: xr.Dataset) -> str:
    """Say the steps of a scan whose rows and columns are not as far apart."""
    axes = [scan[n] for n in SCAN]
    if any(a.size < 2 or a.attrs.get("units") != "nm" for a in axes):
        return ""
    return " × ".join(f"{abs(float(a[1] - a[0])):g}" for a in axes) + " (y, x)"
