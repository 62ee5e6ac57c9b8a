"""The second pass over an output: lattice and strain of every block, from its workers.

Each analysis is a store of its own, in the store of the Bragg vectors; the completion
mark of that one names the analysis that is shown. So a new analysis takes the place of
the old one at once, or not at all (docs/adr/0015-one-analysis-at-a-time.md).
"""

from dataclasses import dataclass
from math import prod
from typing import Any, Final

import numpy as np
import xarray as xr

from fcunet_dask._blockwise import commit_blocks, verify_blocks
from fcunet_dask._commit import ArraySpec, BlockStore, first_damage
from fcunet_dask.errors import StoreError
from fcunet_dask.peaks import label_peaks
from fcunet_dask.pipeline.analyze import analyze_block, find_common
from fcunet_dask.pipeline.detect import (
    Progress,
    reported,
    scan_axes,
    small_array,
    stored_bragg,
)
from fcunet_dask.pipeline.identity import analysis_identity, short_hash
from fcunet_dask.pipeline.settings import Settings
from fcunet_dask.schema import (
    BRAGG_VARIABLES,
    COMPONENT,
    LATTICE_VARIABLES,
    PARAMETER,
    SCAN,
    STRAIN_VARIABLES,
)
from fcunet_dask.types import Array

POSITIONS: Final = 4096
"""In a block of the second pass, about."""

_SIZES: Final = {COMPONENT: 2, PARAMETER: 6, f"{PARAMETER}_": 6}
_DTYPES: Final = {
    "n_indexed": "int32",
    "lattice_status": "uint8",
    "grain_index": "uint8",
}
_PREFIX: Final = "analysis-"


def map_strain(
    store: BlockStore,
    scan: xr.Dataset,
    probe: xr.Dataset,
    settings: Settings,
    progress: Progress,
) -> tuple[str, dict[str, Any]]:
    """Fill the analysis that the settings ask for, or go on with it.

    Returns
    -------
    name : str
        Of the analysis, a group in `store`.
    choices : dict
        What was chosen, and from what.
    """
    frame = xr.Dataset(coords={n: scan[n] for n in SCAN}, attrs=scan.attrs)
    block = analysis_block(store.block, store.scan_shape)
    identity = analysis_identity(scan, settings, block)
    name = f"{_PREFIX}{short_hash(identity)}"
    where = f"{store.location}/{name}"
    choices, small = _kept_choices(where), {}
    if choices is None:
        bragg = stored_bragg(store, frame, block)
        common, choices = find_common(bragg, probe, settings)
        small = {str(n): small_array(a) for n, a in common.variables.items()}
        small = {n: a for n, a in small.items() if a[1].dtype.kind not in "UO"}
    analysis = BlockStore.create(
        where,
        map_arrays(store.scan_shape, block),
        block,
        fingerprint=identity,
        attrs={"choices": choices},
        small=small | scan_axes(frame),
    )
    with analysis, reported(analysis, "strain", progress):
        verify_blocks(analysis)
        if not analysis.complete:
            commit_blocks(_BlockStrain(store, frame, choices), analysis)
            analysis.finish()
    return name, choices


def drop_analyses(store: BlockStore, keep: set[str]) -> None:
    """Delete the analyses that nobody can be looking at any more."""
    for name in store.groups():
        if name.startswith(_PREFIX) and name not in keep:
            store.place.below(name).clear()


def drop_unreadable(store: BlockStore) -> None:
    """Delete the analyses of which a loss of power left names of files only."""
    for name in store.groups():
        if name.startswith(_PREFIX) and not _readable(f"{store.location}/{name}"):
            store.place.below(name).clear()


def _readable(where: str) -> bool:
    try:
        return not first_damage(BlockStore(where))
    except StoreError:
        return False


def analysis_block(block: tuple[int, int], scan: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of a block of the second pass: whole blocks of the first."""
    rows, columns = block
    while rows * columns * 2 <= POSITIONS and (rows < scan[0] or columns < scan[1]):
        if columns < scan[1] and (columns <= rows or rows >= scan[0]):
            columns *= 2
        else:
            rows *= 2
    return rows, columns


def map_arrays(scan: tuple[int, int], block: tuple[int, int]) -> dict[str, ArraySpec]:
    """Return what the second pass writes."""
    dims = {v.name: v.dims for v in (*LATTICE_VARIABLES, *STRAIN_VARIABLES)}
    dims |= {"grain_index": SCAN, "beam": (*SCAN, COMPONENT)}
    arrays = {}
    for name, names in dims.items():
        dtype = _DTYPES.get(name, "float64")
        rest = tuple(_SIZES[n] for n in names[2:])
        arrays[name] = ArraySpec(
            dims=names,
            shape=(*scan, *rest),
            dtype=dtype,
            chunks=(*block, *rest),
            fill_value=float("nan") if dtype == "float64" else 0,
        )
    return arrays


def bytes_per_position(arrays: dict[str, ArraySpec]) -> int:
    """Bytes of one position in all arrays, before compression."""
    return sum(prod(a.shape[2:]) * np.dtype(a.dtype).itemsize for a in arrays.values())


@dataclass(frozen=True, slots=True)
class _BlockStrain:
    """The work on one block: rows and columns → lattice and strain."""

    store: BlockStore
    frame: xr.Dataset
    choices: dict[str, Any]

    def __call__(self, region: tuple[slice, slice]) -> dict[str, Array]:
        arrays = {v.name: self.store.arrays[v.name][region] for v in BRAGG_VARIABLES}
        here = self.frame.isel(dict(zip(SCAN, region, strict=True)))
        bragg = label_peaks(arrays, here)
        found = analyze_block(bragg, self.choices, (region[0].start, region[1].start))
        return {
            name: np.ascontiguousarray(found[name], spec.dtype)
            for name, spec in map_arrays((1, 1), (1, 1)).items()
        }


def _kept_choices(where: str) -> dict[str, Any] | None:
    """Return what an interrupted analysis chose; None where there is none."""
    try:
        return dict(BlockStore(where).attrs["choices"])
    except OSError:
        return None
