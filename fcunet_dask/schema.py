"""The vocabulary: every dimension and variable that crosses a stage boundary.

Stages never import one another; they agree on this table.
"""

from dataclasses import dataclass
from typing import Final

import xarray as xr

from fcunet_dask.errors import SchemaError

SCAN: Final = ("scan_y", "scan_x")
Q: Final = ("q_y", "q_x")
PEAK: Final = "peak"
COMPONENT: Final = "component"
PAIR: Final = "pair"
PARAMETER: Final = "parameter"

COMPONENTS: Final = ("y", "x")
PAIRS: Final = ("yy", "yx", "xx")
PARAMETERS: Final = ("origin_y", "origin_x", "g1_y", "g1_x", "g2_y", "g2_x")


@dataclass(frozen=True, slots=True)
class Variable:
    """Specification of one array: what it is, its dims, dtype kinds and unit.

    The unit ``q`` stands for the unit of the scan's ``q_y`` and ``q_x``: 1/Å, or
    px where the camera length is not known.
    """

    name: str
    dims: tuple[str, ...]
    kind: str
    units: str
    long_name: str


def _v(name: str, dims: tuple[str, ...], kind: str, units: str, text: str) -> Variable:
    return Variable(name, dims, kind, units, text)


_PEAKS: Final = (*SCAN, PEAK)

PATTERN = _v("pattern", (*SCAN, *Q), "fiu", "counts", "diffraction pattern")
PROBE = _v("probe", Q, "fiu", "counts", "vacuum probe")
MASK = _v("mask", Q, "b", "1", "pixels that measure (not dead, hot or shadowed)")
STRUCTURE_FACTOR = _v("structure_factor", (*SCAN, *Q), "f", "1", "relative |V_g|")
BRAGG_Q = _v("bragg_q", (*_PEAKS, COMPONENT), "f", "q", "Bragg vector")
BRAGG_INTENSITY = _v("bragg_intensity", _PEAKS, "f", "counts", "counts in the disk")
BRAGG_SCORE = _v("bragg_score", _PEAKS, "f", "1", "likeness to the probe")
BRAGG_COVARIANCE = _v(
    "bragg_covariance", (*_PEAKS, PAIR), "f", "q²", "covariance of the Bragg vector"
)
BRAGG_STRUCTURE_FACTOR = _v(
    "bragg_structure_factor", _PEAKS, "f", "1", "relative |V_g| of the disk"
)
BRAGG_PROBABILITY = _v("bragg_probability", _PEAKS, "f", "1", "that the disk exists")
PATTERN_STATUS = _v(
    "pattern_status", SCAN, "iu", "1", "why a pattern gave no, or not all, disks"
)
ORIGIN = _v("origin", (*SCAN, COMPONENT), "f", "q", "unscattered beam")
G1 = _v("g1", (*SCAN, COMPONENT), "f", "q", "lattice vector g₁")
G2 = _v("g2", (*SCAN, COMPONENT), "f", "q", "lattice vector g₂")
LATTICE_COVARIANCE = _v(
    "lattice_covariance",
    (*SCAN, PARAMETER, f"{PARAMETER}_"),
    "f",
    "q²",
    "covariance of (origin, g₁, g₂)",
)
RESIDUAL = _v("residual", SCAN, "f", "q", "weighted rms misfit of the lattice")
N_INDEXED = _v("n_indexed", SCAN, "iu", "1", "disks on the lattice")
QUALITY = _v("quality", SCAN, "f", "1", "share of √intensity on the lattice")
LATTICE_STATUS = _v("lattice_status", SCAN, "iu", "1", "why no lattice was fitted")
STRAIN_XX = _v("strain_xx", SCAN, "f", "1", "ε_xx")
STRAIN_YY = _v("strain_yy", SCAN, "f", "1", "ε_yy")
STRAIN_XY = _v("strain_xy", SCAN, "f", "1", "ε_xy")
ROTATION = _v("rotation", SCAN, "f", "rad", "lattice rotation")
STRAIN_XX_STD = _v("strain_xx_std", SCAN, "f", "1", "σ(ε_xx)")
STRAIN_YY_STD = _v("strain_yy_std", SCAN, "f", "1", "σ(ε_yy)")
STRAIN_XY_STD = _v("strain_xy_std", SCAN, "f", "1", "σ(ε_xy)")
ROTATION_STD = _v("rotation_std", SCAN, "f", "rad", "σ(rotation)")

BRAGG_VARIABLES: Final = (
    BRAGG_Q,
    BRAGG_INTENSITY,
    BRAGG_SCORE,
    BRAGG_STRUCTURE_FACTOR,
    BRAGG_PROBABILITY,
    BRAGG_COVARIANCE,
    PATTERN_STATUS,
)
LATTICE_VARIABLES: Final = (
    ORIGIN,
    G1,
    G2,
    LATTICE_COVARIANCE,
    RESIDUAL,
    N_INDEXED,
    QUALITY,
    LATTICE_STATUS,
)
STRAIN_VARIABLES: Final = (
    STRAIN_XX,
    STRAIN_YY,
    STRAIN_XY,
    ROTATION,
    STRAIN_XX_STD,
    STRAIN_YY_STD,
    STRAIN_XY_STD,
    ROTATION_STD,
)


def validate(dataset: object, *variables: Variable) -> xr.Dataset:
    """Return `dataset` unchanged, or say what is wrong before any work starts.

    Parameters
    ----------
    dataset : xarray.Dataset
        Any.
    *variables : Variable
        What it must hold.

    Returns
    -------
    xarray.Dataset
        `dataset`.

    Raises
    ------
    SchemaError
        If it is no dataset, or a variable is absent, or has other dimensions or another
        dtype kind, or there are no patterns.
    """
    if not isinstance(dataset, xr.Dataset):
        msg = (
            f"expected an xarray.Dataset, got {type(dataset).__name__}: {dataset!r:.60}"
        )
        raise SchemaError(msg)
    for spec in variables:
        if spec.name not in dataset:
            msg = (
                f"no variable {spec.name!r} with dims {spec.dims}; "
                f"found {sorted(map(str, dataset.data_vars))}"
            )
            raise SchemaError(msg)
        array = dataset[spec.name]
        if array.dims != spec.dims:
            msg = f"{spec.name!r} has dims {array.dims}, expected {spec.dims}"
            raise SchemaError(msg)
        if array.dtype.kind not in spec.kind:
            msg = f"{spec.name!r} has dtype {array.dtype}, expected kind {spec.kind!r}"
            raise SchemaError(msg)
        if spec is PATTERN and 0 in array.shape:
            msg = f"{spec.name!r} is empty: {dict(array.sizes)}"
            raise SchemaError(msg)
    return dataset


def annotate(
    dataset: xr.Dataset, *variables: Variable, q_units: str = "1/Å"
) -> xr.Dataset:
    """Attach units and long names from the vocabulary, then validate.

    Parameters
    ----------
    dataset : xarray.Dataset
        With the `variables`.
    *variables : Variable
        Those to annotate.
    q_units : str
        What the unit ``q`` stands for: ``1/Å`` or ``px``.

    Returns
    -------
    xarray.Dataset
        `dataset`, its attributes set in place.
    """
    for spec in variables:
        if spec.name in dataset:
            units = spec.units.replace("q", q_units)
            dataset[spec.name].attrs.update(units=units, long_name=spec.long_name)
    return validate(dataset, *variables)


def q_units(dataset: xr.Dataset) -> str:
    """Return the unit of the scattering vectors of `dataset`: ``1/Å`` or ``px``."""
    for name in (*Q, BRAGG_Q.name, G1.name):
        if name in dataset.variables and "units" in dataset[name].attrs:
            return str(dataset[name].attrs["units"])
    calibration = dataset.attrs.get("calibration") or {}
    return "px" if calibration.get("q_step") is None else "1/Å"
