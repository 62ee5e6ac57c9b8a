"""What a loss of power leaves of arrays: names of files, and nothing in them."""

from collections.abc import Mapping

import numpy as np
import zarr

from fcunet_dask._commit.files import writing
from fcunet_dask._commit.plan import MARKS, ArraySpec, Small, make_array, put_array
from fcunet_dask._places import Place
from fcunet_dask.errors import StoreError


def damage(place: Place, name: str, *, values: bool) -> str:
    """Return which file of an array or group cannot be read, and why; or nothing.

    Parameters
    ----------
    place : Place
        Of the store.
    name : str
        Of the array or group in it.
    values : bool
        Whether to read the values of an array that is one chunk, too.
    """
    key = f"{name}/zarr.json"
    try:
        found = zarr.open(place.zarr(name), mode="r")
        if values and isinstance(found, zarr.Array) and found.nchunks == 1:
            key = f"{name}/{found.metadata.encode_chunk_key((0,) * found.ndim)}"
            place.read(key)
            np.asarray(found[...])
    except (ValueError, KeyError, RuntimeError, FileNotFoundError) as error:
        return f"{key} cannot be read ({error})"
    return ""


def mend_store(
    place: Place, arrays: Mapping[str, ArraySpec], small: Mapping[str, Small]
) -> None:
    """Make again what cannot be read but is known; blocks are left to their checksums."""
    with writing(place.name, 1 << 16):
        place.drop_partial()
        if damage(place, MARKS, values=False):
            place.delete(f"{MARKS}/zarr.json")
            zarr.create_group(place.zarr(MARKS), zarr_format=3)
        for name, spec in arrays.items():
            if damage(place, name, values=False):
                place.delete(f"{name}/zarr.json")
                make_array(place, name, spec)
        for name, array in small.items():
            if damage(place, name, values=True):
                put_array(place, name, *array)


def get_array(place: Place, name: str) -> Small:
    """Read an array that was written in one piece.

    Raises
    ------
    StoreError
        If it cannot be read.
    """
    damaged = damage(place, name, values=True)
    if damaged:
        msg = (
            f"{place.name}/{damaged}: the store is damaged; copy it again, or begin anew "
            "with overwrite=True"
        )
        raise StoreError(msg)
    array = zarr.open_array(place.zarr(name), mode="r")
    names = getattr(array.metadata, "dimension_names", None) or ()
    return tuple(map(str, names)), np.asarray(array[...]), array.attrs.asdict()
