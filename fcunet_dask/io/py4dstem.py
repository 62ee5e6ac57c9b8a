"""Bragg vectors and strain as files that py4DSTEM 0.14 opens (EMD 1.0).

py4DSTEM calls the first axis of an array x and the second y; here the first is y.
Hence its ``qx`` is our y, its ``e_xx`` our ``strain_yy``; ``e_xy`` and ``theta`` keep
their values, and its ``QR_rotation`` is minus our ``scan_rotation``.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import xarray as xr

from fcunet_dask import schema
from fcunet_dask._axes import detector_axes
from fcunet_dask._commit import writing
from fcunet_dask.calibration import Calibration
from fcunet_dask.errors import SchemaError, StoreError
from fcunet_dask.types import Array

_POINT: Final = np.dtype([("qx", "<f8"), ("qy", "<f8"), ("intensity", "<f8")])
_SLICES: Final = {
    "e_xx": "strain_yy",
    "e_yy": "strain_xx",
    "e_xy": "strain_xy",
    "theta": "rotation",
    "e_xx_std": "strain_yy_std",
    "e_yy_std": "strain_xx_std",
    "e_xy_std": "strain_xy_std",
    "theta_std": "rotation_std",
}


def write_bragg_vectors(
    path: str | Path,
    bragg: xr.Dataset,
    scan: xr.Dataset,
    *,
    origin: xr.Dataset | None = None,
    overwrite: bool = False,
) -> None:
    """Write Bragg vectors as py4DSTEM's ``BraggVectors``, in raw detector pixels.

    Parameters
    ----------
    path : str or Path
        Of the file, .h5 by custom.
    bragg : xarray.Dataset
        ``bragg_q`` (scan_y, scan_x, peak, component), ``bragg_intensity`` (scan_y,
        scan_x, peak), and the attribute ``calibration``; an empty slot is NaN. As
        `find_bragg_vectors` gives them, not referred to the origin.
    scan : xarray.Dataset
        That they were found in: ``pattern`` and its axes say which pixels they are in.
    origin : xarray.Dataset, optional
        From `measure_origin`: ``origin`` (scan_y, scan_x, component), the unscattered
        beam.
    overwrite : bool
        Whether to replace a file that is there.

    Raises
    ------
    SchemaError
        If `bragg`, `scan` or `origin` lacks a variable, they have other units, or `bragg`
        was calibrated.
    StoreError
        If the file exists, or cannot be written.
    """
    schema.validate(bragg, schema.BRAGG_Q, schema.BRAGG_INTENSITY)
    schema.validate(scan, schema.PATTERN)
    if bragg.attrs.get("calibrated"):
        msg = (
            "these Bragg vectors went through apply_calibration and are no pixels any "
            "more: pass those of find_bragg_vectors, and origin= beside them"
        )
        raise SchemaError(msg)
    if schema.q_units(bragg) != schema.q_units(scan):
        msg = (
            f"the Bragg vectors are in {schema.q_units(bragg)}, the axes of the scan in "
            f"{schema.q_units(scan)}: pass the scan that they were found in"
        )
        raise SchemaError(msg)
    calibration = Calibration.from_dict(bragg.attrs.get("calibration", {}))
    pixels = _pixels(bragg["bragg_q"], scan)
    points = _ragged(pixels, np.asarray(bragg["bragg_intensity"]))
    known = _calibration(calibration)
    if origin is not None:
        schema.validate(origin, schema.ORIGIN)
        known |= _origin(_pixels(origin["origin"], scan))
    target = _free(path, overwrite=overwrite)
    with writing(target.parent, pixels.nbytes * 2), h5py.File(target, "w") as file:
        root = _root(file, {**known, "_target_paths": ["/braggvectors"]})
        group = _group(root, "braggvectors", "custom", "BraggVectors")
        data = _group(group, "_v_uncal", "custom_pointlistarray", "PointListArray")
        kind = h5py.vlen_dtype(_POINT)
        data.create_dataset("data", points.shape, kind)[...] = points
        bundle = _group(group, "metadatabundle", "metadatabundle")
        shape = _group(bundle, "_braggvectors_shape", "metadata", "Metadata")
        detector = scan[schema.PATTERN.name].shape[2:]
        _items(shape, {"Rshape": points.shape, "Qshape": detector})


def write_strain(
    path: str | Path, strain: xr.Dataset, *, overwrite: bool = False
) -> None:
    """Write strain maps as a ``RealSlice``: py4DSTEM cannot read its own StrainMap.

    Parameters
    ----------
    path : str or Path
        Of the file, .h5 by custom.
    strain : xarray.Dataset
        ``strain_xx``, ``strain_yy``, ``strain_xy`` (1) and ``rotation`` (rad), all
        (scan_y, scan_x), and the standard deviations where there are any. In the file
        they are slices with py4DSTEM's labels, and ``mask`` is 1 where they are
        finite.
    overwrite : bool
        Whether to replace a file that is there.

    Raises
    ------
    SchemaError
        If `strain` lacks a variable.
    StoreError
        If the file exists, or cannot be written.
    """
    schema.validate(strain, *schema.STRAIN_VARIABLES[:4])
    found = {k: np.asarray(strain[v]) for k, v in _SLICES.items() if v in strain}
    mask = np.all([np.isfinite(values) for values in found.values()], axis=0)
    maps = np.stack([*found.values(), mask]).astype(np.float64)
    calibration = Calibration.from_dict(strain.attrs.get("calibration", {}))
    target = _free(path, overwrite=overwrite)
    with writing(target.parent, maps.nbytes), h5py.File(target, "w") as file:
        root = _root(file, {**_calibration(calibration), "_target_paths": []})
        group = _group(root, "strainmap", "array", "RealSlice")
        group.create_dataset("data", data=maps).attrs["units"] = "1, rad"
        for index, (name, step) in enumerate((("Rx", 1.0), ("Ry", 1.0))):
            dim = group.create_dataset(f"dim{index}", data=[0.0, step])
            dim.attrs.update(name=name, units="pixels")
        labels = np.array([*found, "mask"], dtype="S")
        group.create_dataset("dim2", data=labels).attrs["name"] = "_labels_"


def _pixels(vectors: xr.DataArray, scan: xr.Dataset) -> Array:
    """Return vectors (..., 2) as pixels from the first one, (y, x)."""
    first, step = detector_axes(scan)
    pixels: Array = (np.asarray(vectors, np.float64) - first) / step
    return pixels


def _ragged(pixels: Array, intensity: Array) -> Array:
    """Return (scan_y, scan_x) of lists of points, without the empty slots."""
    used = np.isfinite(pixels).all(axis=-1)
    flat = np.empty(int(used.sum()), _POINT)
    flat["qx"], flat["qy"] = pixels[used].T
    flat["intensity"] = intensity[used]
    ends = np.cumsum(used.sum(axis=-1).ravel())
    points = np.empty(ends.size, object)
    for index, part in enumerate(np.split(flat, ends[:-1])):
        points[index] = part
    return points.reshape(used.shape[:2])


def _calibration(calibration: Calibration) -> dict[str, Any]:
    rotation = -(calibration.scan_rotation or 0.0)
    return {
        "Q_pixel_size": calibration.q_step or 1,
        "Q_pixel_units": "pixels" if calibration.q_step is None else "A^-1",
        "R_pixel_size": calibration.scan_step or 1,
        "R_pixel_units": "pixels" if calibration.scan_step is None else "nm",
        "QR_flip": False,
        "QR_rotation": math.radians(rotation),
        "QR_rotation_degrees": rotation,
        "_root_treepath": "",
    }


def _origin(pixels: Array) -> dict[str, Any]:
    known: dict[str, Any] = {}
    for index, name in enumerate(("qx0", "qy0")):
        values = pixels[..., index]
        mean = float(np.nanmean(values))
        known |= {
            name: values,
            f"{name}_mean": mean,
            f"{name}_shift": values - mean,
        }
    return known


def _free(path: str | Path, *, overwrite: bool) -> Path:
    target = Path(path)
    if target.exists() and not overwrite:
        msg = f"{target} exists; pass overwrite=True, or choose another name"
        raise StoreError(msg)
    return target


def _root(file: h5py.File, calibration: Mapping[str, Any]) -> h5py.Group:
    file.attrs.update(
        emd_group_type="file",
        version_major=1,
        version_minor=0,
        authoring_program="fcunet_dask",
        authoring_user="",
    )
    root = _group(file, "root", "root", "Root")
    bundle = _group(root, "metadatabundle", "metadatabundle")
    _items(_group(bundle, "calibration", "metadata", "Calibration"), calibration)
    return root


def _group(
    parent: h5py.Group, name: str, kind: str, python_class: str = ""
) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs["emd_group_type"] = kind
    if python_class:
        group.attrs["python_class"] = python_class
    return group


def _items(group: h5py.Group, values: Mapping[str, Any]) -> None:
    """Write values with the type that emdfile wants beside each, as bytes."""
    for name, value in values.items():
        if isinstance(value, list):
            names = group.create_group(name)
            names.attrs.update(type=b"list_of_strings", length=len(value))
            for index, text in enumerate(value):
                names.create_dataset(str(index), data=text.encode())
            continue
        data = value.encode() if isinstance(value, str) else value
        item = group.create_dataset(name, data=data)
        item.attrs["type"] = _TYPES.get(type(value), b"number")


_TYPES: Final = {str: b"string", bool: b"bool", tuple: b"tuple", np.ndarray: b"array"}
