"""What a run leaves, written and opened."""

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from fcunet_dask._commit import BlockStore
from fcunet_dask.errors import AnalysisError, StoreError
from fcunet_dask.schema import (
    BRAGG_VARIABLES,
    COMPONENTS,
    PAIRS,
    PATTERN_STATUS,
    PROBE,
    SCAN,
    Q,
    annotate,
    q_units,
)


def write_results(
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
    if BRAGG_VARIABLES[0].name not in store.arrays:
        msg = f"{out} is a scan, not the results of a run"
        raise StoreError(msg)
    if not store.complete:
        done = store.grid[0] * store.grid[1] - len(store.pending())
        msg = (
            f"{out} is not finished: {done} of {store.grid[0] * store.grid[1]} blocks; "
            "run it again with the same settings to go on"
        )
        raise StoreError(msg)
    results = xr.open_zarr(out, consolidated=False, chunks={})
    results.attrs["provenance"] = store.summary["provenance"]
    results.attrs["calibration"] = store.summary["provenance"]["calibration"]["values"]
    results = results.assign_coords(component=list(COMPONENTS), pair=list(PAIRS))
    if "strain_xx" not in results:
        msg = f"{out} holds no strain: run it again"
        raise AnalysisError(msg)
    status = results[PATTERN_STATUS.name].astype("u1")
    results[PATTERN_STATUS.name] = status
    return annotate(results, *BRAGG_VARIABLES, q_units=q_units(results))
