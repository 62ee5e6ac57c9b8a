"""What a run leaves, opened."""

from pathlib import Path

import numpy as np
import xarray as xr

from fcunet_dask._commit import BlockStore, expect_readable, expect_whole
from fcunet_dask._source import ZarrSource, lazy
from fcunet_dask.errors import StoreError
from fcunet_dask.schema import (
    BRAGG_VARIABLES,
    COMPONENTS,
    LATTICE_VARIABLES,
    PAIRS,
    PARAMETER,
    PARAMETERS,
    PATTERN_STATUS,
    SCAN,
    STRAIN_VARIABLES,
    Variable,
    annotate,
    q_units,
)


def open_results(out: str | Path, *, partial: bool = False) -> xr.Dataset:
    """Open what `run` left, or has found so far, lazily.

    Parameters
    ----------
    out : str or Path
        Its folder, or URL.
    partial : bool
        Whether to accept a run that is not finished: its Bragg vectors, and ``finished``
        (scan_y, scan_x), bool, where there are any. What is not finished is NaN.

    Returns
    -------
    xarray.Dataset
        Probe, Bragg vectors, Bragg-vector map, lattice and strain.

    Raises
    ------
    StoreError
        If there are no finished results, and `partial` is not set; or files of them
        are missing or cannot be read.
    """
    store = BlockStore(out)
    expect_readable(store)
    if BRAGG_VARIABLES[0].name not in store.arrays:
        msg = f"{out} is a scan, not the results of a run"
        raise StoreError(msg)
    if store.complete:
        return _finished(store)
    if partial:
        return _unfinished(store)
    total = store.grid[0] * store.grid[1]
    msg = (
        f"{out} is not finished: {total - len(store.pending())} of {total} blocks; run "
        "it again with the same settings to go on, or pass partial=True"
    )
    raise StoreError(msg)


def _finished(store: BlockStore) -> xr.Dataset:
    summary = store.summary
    analysis = _analysis(f"{store.location}/{summary['analysis']}")
    for part in (store, analysis):
        expect_whole(part)
    chunks = dict(zip(SCAN, analysis.block, strict=True))
    maps, bragg = (_strict(part, chunks) for part in (analysis, store))
    results = xr.merge(
        [maps.drop_attrs(deep=False), bragg.drop_vars(SCAN, errors="ignore")],
        combine_attrs="override",
    )
    results.attrs = {**store.attrs, "provenance": summary["provenance"]}
    results.attrs["calibration"] = summary["provenance"]["calibration"]["values"]
    names = {PARAMETER: list(PARAMETERS), f"{PARAMETER}_": list(PARAMETERS)}
    variables = (*BRAGG_VARIABLES, *LATTICE_VARIABLES, *STRAIN_VARIABLES)
    return _labelled(results.assign_coords(names), variables)


def _strict(store: BlockStore, chunks: dict[str, int]) -> xr.Dataset:
    """Open a finished store; what is deleted later is then an error, and not NaN."""
    group = xr.open_zarr(store.place.zarr(), consolidated=False, chunks=chunks)
    arrays = {}
    for name in store.arrays:
        array = group[name]
        sizes = zip(array.dims, array.shape, strict=True)
        blocks = tuple(chunks.get(str(dim), size) for dim, size in sizes)
        source = ZarrSource(store.location, name)
        data = lazy(source, array.shape, array.dtype, blocks)
        arrays[name] = array.dims, data, array.attrs
    return group.assign(arrays)


def _analysis(where: str) -> BlockStore:
    try:
        analysis = BlockStore(where)
    except StoreError as error:
        msg = f"{where} is missing: run again with the same settings to make it anew"
        raise StoreError(msg) from error
    expect_readable(analysis)
    return analysis


def _unfinished(store: BlockStore) -> xr.Dataset:
    chunks = dict(zip(SCAN, store.block, strict=True))
    bragg = xr.open_zarr(store.place.zarr(), consolidated=False, chunks=chunks)
    finished = np.ones(store.scan_shape, bool)
    for block_id in store.pending():
        finished[store.region(block_id)] = False
    results = bragg.where(xr.DataArray(finished, dims=SCAN))
    others = [n for n in bragg.variables if SCAN[0] not in bragg[n].dims]
    results = results.assign({n: bragg[n] for n in others})
    results["finished"] = (SCAN, finished)
    return _labelled(results, BRAGG_VARIABLES)


def _labelled(results: xr.Dataset, variables: tuple[Variable, ...]) -> xr.Dataset:
    results = results.assign_coords(component=list(COMPONENTS), pair=list(PAIRS))
    status = results[PATTERN_STATUS.name].fillna(0).astype("u1")
    results[PATTERN_STATUS.name] = status
    return annotate(results, *variables, q_units=q_units(results))
