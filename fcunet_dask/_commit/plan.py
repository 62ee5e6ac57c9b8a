"""What a store is to hold, and whether one that is there holds the same."""

import hashlib
import json
import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any, Final

import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

from fcunet_dask._commit.files import read_attrs, read_json, writing
from fcunet_dask._commit.owner import OWNER
from fcunet_dask._places import Place
from fcunet_dask.errors import OtherRunError, StoreError
from fcunet_dask.types import Array

Block = tuple[int, int]

KEY: Final = "fcunet_dask"
"""Attribute of the group that holds the plan of the store."""

_VERSION: Final = 2
MARKS: Final = "marks"

_OWN: Final = re.compile(
    r"(?P<analysis>analysis-[0-9a-f]{8}/)?"
    r"(zarr\.json|marks/.+|(?P<array>[^/]+)/(zarr\.json|c(/\d+)*))"
)
"""Keys that this package writes: of a group, and of the analyses in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArraySpec:
    """One array that blocks fill.

    Parameters
    ----------
    dims : tuple of str
        The first two are those of the scan.
    shape : tuple of int
        Of the whole array.
    dtype : str
        As NumPy writes it.
    chunks : tuple of int
        What is compressed at a time.
    shards : tuple of int or None
        What lies in one file; None for a file per chunk.
    fill_value : float or int
        Of blocks not yet written. NaN for results.
    attrs : mapping
        Units, long name and the like; plain JSON.
    """

    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None = None
    fill_value: float | int = 0
    attrs: Mapping[str, Any] = field(default_factory=dict)


def compressors() -> tuple[BloscCodec, Crc32cCodec]:
    """Return the codecs of every array: small for counts, and a flipped bit raises."""
    return BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle"), Crc32cCodec()


def make_plan(
    arrays: Mapping[str, ArraySpec], block: Block, fingerprint: Mapping[str, Any]
) -> dict[str, Any]:
    scans = {spec.shape[:2] for spec in arrays.values()}
    if len(scans) != 1:
        msg = f"arrays over one scan are needed, got scans of {sorted(scans)}"
        raise StoreError(msg)
    (scan,) = scans
    for name, spec in arrays.items():
        outer = spec.shards or spec.chunks
        for n, size, file in zip(block, scan, outer, strict=False):
            if n < size and n % file:
                msg = f"{name}: files of {file} positions do not fit blocks of {n}"
                raise StoreError(msg)
        if any(file < n for file, n in zip(outer[2:], spec.shape[2:], strict=True)):
            msg = f"{name}: files of {outer} split {spec.dims[2:]} of {spec.shape}"
            raise StoreError(msg)
    plan = {
        "version": _VERSION,
        "arrays": {name: _plain(spec) for name, spec in arrays.items()},
        "scan_shape": scan,
        "block": block,
        "grid": [-(-size // n) for size, n in zip(scan, block, strict=True)],
        "fingerprint": dict(fingerprint),
    }
    return dict(json.loads(json.dumps(plan)))


def _plain(spec: ArraySpec) -> dict[str, Any]:
    # as text: NaN differs from itself, and is no JSON
    return asdict(spec) | {"fill_value": str(spec.fill_value)}


def plan_name(plan: Mapping[str, Any]) -> str:
    """Return a name for a plan: stores of one name end in the same bytes."""
    text = json.dumps(plan, sort_keys=True).encode()
    return hashlib.blake2b(text, digest_size=8).hexdigest()


Small = tuple[tuple[str, ...], Array, Mapping[str, Any]]
"""Dimensions, values and attributes of an array that is written at once."""


def is_store(place: Place) -> bool:
    """Whether there is a store of this package; refuse what is none.

    Raises
    ------
    StoreError
        If there is something else. What a killed process was about to make, or to
        delete, is no store: it still has an owner, but no description.
    """
    if KEY in read_attrs(place):
        return True
    if place.empty() or place.stamp(OWNER) is not None:
        return False
    msg = f"{place.name} exists and is no store of this package; choose another name"
    raise StoreError(msg)


def old_keys(
    place: Place,
    plan: Mapping[str, Any],
    small: Iterable[str],
    *,
    overwrite: bool,
    resume: bool,
) -> list[str] | None:
    """Return what is to be deleted for a store; None where one is gone on with.

    Raises
    ------
    StoreError
        If there is a store that neither is wanted of, or anything else.
    """
    with writing(place.name, 0):
        if is_store(place):
            refuse_kind(place, plan)
            if not overwrite:
                refuse_other(place, plan, resume=resume)
                return None
        return own_keys(place, {*plan["arrays"], *small})


def own_keys(place: Place, arrays: Container[str]) -> list[str]:
    """Return every key of a store, or of what a killed process left of one.

    An array that is not among `arrays` is one of the store if it is encoded like them.

    Raises
    ------
    StoreError
        If there is anything else, which nobody but its owner is to delete.
    """

    @cache
    def known(array: str) -> bool:
        return array in arrays or _encoded_here(place, array)

    keys = list(place.keys(""))
    for key in keys:
        found = _OWN.fullmatch(key)
        array = found and not found["analysis"] and found["array"]
        if found is None or (array and not known(array)):
            msg = (
                f"{place.name} holds {key}, which this package did not write: nothing "
                "was deleted; move it away, or choose another name"
            )
            raise StoreError(msg)
    return keys


def _encoded_here(place: Place, array: str) -> bool:
    try:
        there = read_json(place, f"{array}/zarr.json")
        codecs = [codec["name"] for codec in there["codecs"]]
    except (FileNotFoundError, ValueError, KeyError):
        return False
    return codecs == (["bytes", "blosc", "crc32c"] if there["shape"] else ["bytes"])


def clear_store(place: Place, keys: Iterable[str]) -> None:
    """Delete `keys`, and what interrupted writers left, but not the claim."""
    place.drop_partial()
    place.clear(key for key in keys if key != OWNER)


def refuse_kind(place: Place, plan: Mapping[str, Any]) -> None:
    """Refuse a store of other things: results never replace a scan, nor it them."""
    there = set(read_attrs(place)[KEY].get("arrays", plan["arrays"]))
    if there != set(plan["arrays"]):
        msg = (
            f"{place.name} holds {', '.join(sorted(there))}, which is something else "
            "than what is to be written; it is never replaced by it: choose another name"
        )
        raise StoreError(msg)


def refuse_other(place: Place, plan: Mapping[str, Any], *, resume: bool) -> None:
    if not resume:
        msg = f"{place.name} exists; pass overwrite=True, or choose another name"
        raise StoreError(msg)
    old = _flat(read_attrs(place)[KEY])
    new = _flat(plan)
    other = [
        f"{key}: {old.get(key)!r} there, {new.get(key)!r} now"
        for key in sorted({*old, *new}, key=lambda k: (k.startswith("arrays"), k))
        if old.get(key) != new.get(key)
    ]
    if other:
        msg = (
            f"{place.name} was begun with other parameters ({'; '.join(other[:5])}); "
            "pass overwrite=True, or choose another name"
        )
        raise OtherRunError(msg)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def make_store(
    place: Place,
    arrays: Mapping[str, ArraySpec],
    small: Mapping[str, Small],
    attrs: Mapping[str, Any],
) -> None:
    """Make an empty store; its description comes last, and makes it one."""
    try:
        with writing(place.name, 1 << 16):
            zarr.create_group(place.zarr(MARKS), zarr_format=3)
            for name, spec in arrays.items():
                make_array(place, name, spec)
            for name, array in small.items():
                put_array(place, name, *array)
            zarr.create_group(place.zarr(), attributes=dict(attrs), zarr_format=3)
    except BaseException:
        clear_store(place, own_keys(place, {*arrays, *small}))
        raise


def make_array(place: Place, name: str, spec: ArraySpec) -> None:
    """Write the description of an array that blocks fill."""
    zarr.create_array(
        place.zarr(name),
        shape=spec.shape,
        dtype=spec.dtype,
        chunks=spec.chunks,
        shards=spec.shards,
        compressors=compressors(),
        fill_value=spec.fill_value,
        dimension_names=spec.dims,
        attributes=dict(spec.attrs),
    )


def put_array(
    place: Place,
    name: str,
    dims: tuple[str, ...],
    values: Array,
    attrs: Mapping[str, Any],
) -> None:
    """Write, or replace, a small array in one piece."""
    with writing(place.name, values.nbytes):
        array = zarr.create_array(
            place.zarr(name),
            shape=values.shape,
            dtype=values.dtype,
            chunks=tuple(max(n, 1) for n in values.shape),
            compressors=compressors() if values.ndim else None,
            dimension_names=dims,
            attributes=dict(attrs),
            config={"write_empty_chunks": True},
            overwrite=True,
        )
        array[...] = np.asarray(values)
