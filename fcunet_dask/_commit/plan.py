"""What a store is to hold, and whether one that is there holds the same."""

import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

from fcunet_dask._commit.files import read_attrs, remove, writing
from fcunet_dask.errors import StoreError

Block = tuple[int, int]

KEY: Final = "fcunet_dask"
"""Attribute of the group that holds the plan of the store."""

_VERSION: Final = 1
MARKS: Final = "marks"


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


def refuse_foreign(path: Path) -> None:
    if KEY not in read_attrs(path):
        msg = f"{path} exists and is no store of this package; choose another name"
        raise StoreError(msg)


def refuse_kind(path: Path, plan: Mapping[str, Any]) -> None:
    """Refuse a store of other things: results never replace a scan, nor it them."""
    there = set(read_attrs(path)[KEY].get("arrays", plan["arrays"]))
    if there != set(plan["arrays"]):
        msg = (
            f"{path} holds {', '.join(sorted(there))}, which is something else than what "
            "is to be written; it is never replaced by it: choose another name"
        )
        raise StoreError(msg)


def refuse_other(path: Path, plan: Mapping[str, Any], *, resume: bool) -> None:
    if not resume:
        msg = f"{path} exists; pass overwrite=True, or choose another name"
        raise StoreError(msg)
    old = _flat(read_attrs(path)[KEY])
    new = _flat(plan)
    other = [
        f"{key}: {old.get(key)!r} there, {new.get(key)!r} now"
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key)
    ]
    if other:
        msg = (
            f"{path} was begun with other parameters ({'; '.join(other[:5])}); "
            "pass overwrite=True, or choose another name"
        )
        raise StoreError(msg)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def make_store(
    path: Path, arrays: Mapping[str, ArraySpec], attrs: Mapping[str, Any]
) -> None:
    """Make the empty store beside its place, and move it there at once."""
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with writing(path.parent, 1 << 16):
            path.parent.mkdir(parents=True, exist_ok=True)
            group = zarr.create_group(scratch, attributes=dict(attrs), zarr_format=3)
            group.create_group(MARKS)
            for name, spec in arrays.items():
                group.create_array(
                    name,
                    shape=spec.shape,
                    dtype=spec.dtype,
                    chunks=spec.chunks,
                    shards=spec.shards,
                    compressors=compressors(),
                    fill_value=spec.fill_value,
                    dimension_names=spec.dims,
                    attributes=dict(spec.attrs),
                )
            scratch.rename(path)
    except BaseException:
        if scratch.exists():
            remove(scratch)
        raise
