"""Zarr groups: the native store, and those that others wrote."""

import math
from typing import Any

import numpy as np
import zarr

from fcunet_dask._axes import UNITS
from fcunet_dask._commit import KEY, BlockStore, first_damage
from fcunet_dask._places import failures, is_url, place
from fcunet_dask._source import ZarrSource
from fcunet_dask.calibration import Calibration
from fcunet_dask.errors import ReaderError
from fcunet_dask.io.raw import Coords, RawScan
from fcunet_dask.io.units import Axis, metadata
from fcunet_dask.schema import MASK, PATTERN, PROBE, SCAN, Q
from fcunet_dask.types import Array


def read_zarr(path: str, dataset: str | None) -> RawScan:
    """Open a Zarr group: ``pattern``, or the only array with four axes.

    Raises
    ------
    ReaderError
        If `path` is no group, holds no scan, was not written to the end or is damaged.
    """
    try:
        group = zarr.open_group(place(path).zarr(), mode="r")
    except failures(ValueError, KeyError) as error:
        reason = str(error).partition("\n")[0]
        kind = "is" if is_url(path) else "is a folder, but"
        msg = f"{path} {kind} no Zarr group ({reason})"
        raise ReaderError(msg) from error
    native = KEY in group.attrs
    digest = _digest_of_whole(path) if native else None
    name = dataset or (PATTERN.name if native else _only(path, group))
    array = group.get(name)
    if not isinstance(array, zarr.Array):
        msg = f"{path} has no array {name!r}"
        raise ReaderError(msg)
    labelled = native or _dims(path, array) == (*SCAN, *Q)
    attrs = dict(group.attrs) if native else {}
    stored = group.attrs.get("calibration") if labelled else None
    for key in (KEY, "calibration"):
        attrs.pop(key, None)
    if "source" in attrs:
        attrs["converted_from"] = attrs.pop("source")
    return RawScan(
        source=ZarrSource(str(path), name, strict=native),
        shape=array.shape,
        dtype=array.dtype,
        reader="native" if native else "zarr",
        dataset=name,
        chunks=array.shards or array.chunks,
        axes=_axes(group)
        if labelled and not native
        else _hyperspy_axes(group, name, array.ndim),
        known=_known(group, name, stored),
        probe=_small(group, PROBE.name),
        mask=_small(group, MASK.name),
        coords=_coords(group) if labelled else {},
        attrs=attrs,
        digest=digest,
    )


def _known(group: zarr.Group, name: str, stored: Any) -> Calibration:
    if isinstance(stored, dict):
        return Calibration.from_dict(stored)
    parent = name.rpartition("/")[0]
    microscope = group.get(f"{parent}/metadata/Acquisition_instrument/TEM")
    return metadata({} if microscope is None else microscope.attrs.asdict())


def _digest_of_whole(path: str) -> str | None:
    """Return the digest of a store that was written to the end; refuse another."""
    store = BlockStore(path)
    damaged = first_damage(store, (PATTERN.name, PROBE.name, MASK.name, *SCAN, *Q))
    if damaged:
        msg = (
            f"{damaged}: the store is damaged; copy it again, or convert the scan again"
        )
        raise ReaderError(msg)
    if not store.complete:
        missing, total = len(store.pending()), math.prod(store.grid)
        msg = (
            f"{path} was not written to the end: {missing} of {total} blocks are "
            "missing; run the same conversion again to go on with it"
        )
        raise ReaderError(msg)
    return store.summary.get("digest")


def _only(path: str, group: zarr.Group) -> str:
    found = {
        name: item.shape
        for name, item in group.members(max_depth=None)
        if isinstance(item, zarr.Array)
    }
    scans = [name for name, shape in found.items() if len(shape) > 3]
    if PATTERN.name in scans:
        return PATTERN.name
    if len(scans) != 1:
        msg = (
            f"{path}: {len(scans)} arrays with four axes in {found}; pass dataset= "
            "the one that is the scan"
        )
        raise ReaderError(msg)
    return scans[0]


def _hyperspy_axes(group: zarr.Group, name: str, ndim: int) -> tuple[Axis, ...]:
    """Return the axes that HyperSpy keeps beside its data; none elsewhere."""
    parent = name.rpartition("/")[0]
    axes = []
    for index in range(ndim):
        item = group.get(f"{parent}/axis-{index}") if parent else None
        if item is None:
            return ()
        axes.append(Axis.of(item.attrs.get("scale"), item.attrs.get("units")))
    return tuple(axes)


def _dims(path: str, array: zarr.Array[Any]) -> tuple[Any, ...]:
    """Names of the axes, as xarray and the native store write them; none elsewhere.

    Raises
    ------
    ReaderError
        If they are ours in another order.
    """
    names: Any = array.attrs.get("_ARRAY_DIMENSIONS")  # of xarray, in Zarr 2
    dims = tuple(getattr(array.metadata, "dimension_names", None) or names or ())
    if dims != (*SCAN, *Q) and {*dims} == {*SCAN, *Q}:
        msg = (
            f"{path}: the axes of {array.basename} are {dims}: transpose it to "
            f"{(*SCAN, *Q)} and save it anew"
        )
        raise ReaderError(msg)
    return dims


def _axes(group: zarr.Group) -> tuple[Axis, ...]:
    """Axes as coordinates have them, in whatever unit."""
    axes = []
    for name in (*SCAN, *Q):
        array = group.get(name)
        if (
            isinstance(array, zarr.Array)
            and array.size > 1
            and array.dtype.kind in "fiu"
        ):
            values = np.asarray(array[...])
            step = (values[-1] - values[0]) / (values.size - 1)
            axes.append(Axis.of(step, array.attrs.get("units")))
        else:
            axes.append(Axis())
    return tuple(axes)


def _coords(group: zarr.Group) -> Coords:
    """Coordinates in units that are ours."""
    arrays = {name: group.get(name) for name in (*SCAN, *Q)}
    return {
        name: (np.asarray(array[...]), str(array.attrs["units"]))
        for name, array in arrays.items()
        if isinstance(array, zarr.Array)
        and array.attrs.get("units") in (*UNITS[SCAN], *UNITS[Q])
    }


def _small(group: zarr.Group, name: str) -> Array | None:
    array = group.get(name)
    return np.asarray(array[...]) if isinstance(array, zarr.Array) else None
