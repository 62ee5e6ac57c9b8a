"""Lattices: found in the Bragg-vector map, fitted at every position."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from fcunet_dask._blockwise import map_positions
from fcunet_dask.errors import AnalysisError, ParameterError, SchemaError
from fcunet_dask.kernels.basis import find_bases, histogram_maxima
from fcunet_dask.kernels.lattice import LatticeFit, LatticeStatus, fit_lattices
from fcunet_dask.kernels.pulls import Pulls, no_pulls
from fcunet_dask.kernels.strain import deformed_vectors, strain_tensor
from fcunet_dask.schema import (
    BRAGG_COVARIANCE,
    BRAGG_INTENSITY,
    BRAGG_Q,
    COMPONENT,
    COMPONENTS,
    G1,
    G2,
    LATTICE_STATUS,
    LATTICE_VARIABLES,
    N_INDEXED,
    PARAMETER,
    PARAMETERS,
    Q,
    annotate,
    q_units,
    validate,
)
from fcunet_dask.types import Array, is_region

_WIDTH = 6 + 36 + 5
_BETTER = 0.01
"""By how much a weaker grain must rank higher: noise is not to choose between equals."""


def find_lattice(
    bragg_map: xr.DataArray, *, radius: float, most_grains: int = 1
) -> xr.Dataset:
    """Find the lattice vectors that explain a Bragg-vector map.

    Missing spots, satellites and spots of other grains are normal: the pair of vectors
    is chosen by likelihood (`fcunet_dask.kernels.basis.find_basis`).

    Parameters
    ----------
    bragg_map : xarray.DataArray
        (q_y, q_x), from `bragg_vector_map`.
    radius : float
        Radius of a disk, in the unit of the map: lattice vectors are longer, spots
        narrower.
    most_grains : int
        Most lattices to look for.

    Returns
    -------
    xarray.Dataset
        ``g1``, ``g2`` (grain, component), the strongest grain first; ``explained``
        (grain), its share of the weight that the grains before it left.

    Raises
    ------
    SchemaError
        If it is no such map.
    AnalysisError
        If there is no lattice: too few spots, or all on a line.
    """
    if getattr(bragg_map, "dims", None) != Q:
        msg = f"a Bragg-vector map has dims {Q}: pass that of bragg_vector_map"
        raise SchemaError(msg)
    step = float(bragg_map["q_y"][1] - bragg_map["q_y"][0])
    position, weight = histogram_maxima(np.asarray(bragg_map), step, radius / 4)
    bases = find_bases(position, weight, radius / 4, 1.3 * radius, most_grains)
    if not bases:
        msg = (
            f"no lattice in the Bragg-vector map: {len(position)} spots, too few or all "
            "on one line; check the detected disks, or pass g1 and g2"
        )
        raise AnalysisError(msg)
    return _lattice_dataset(
        np.array([b.vectors for b in bases]),
        q_units(bragg_map.to_dataset(name="map")),
        explained=("grain", [b.explained for b in bases]),
    )


def given_lattice(
    g1: Sequence[float], g2: Sequence[float], units: str = "1/Å"
) -> xr.Dataset:
    """Return a lattice in the form that `find_lattice` has.

    Parameters
    ----------
    g1, g2 : sequence of float
        y, x, in `units`.
    units : str
        ``1/Å`` or ``px``.

    Returns
    -------
    xarray.Dataset
        ``g1``, ``g2`` (grain, component).

    Raises
    ------
    ParameterError
        If they are not two independent vectors.
    """
    vectors = np.array([*g1, *g2], float)
    if vectors.shape != (4,) or not np.isfinite(vectors).all():
        msg = f"g1 and g2 are pairs y, x of finite numbers, got {g1!r} and {g2!r}"
        raise ParameterError(msg)
    area = abs(vectors[0] * vectors[3] - vectors[1] * vectors[2])
    if area < 1e-6 * np.hypot(*vectors[:2]) * np.hypot(*vectors[2:]) or area == 0:
        msg = f"g1 {tuple(g1)} and g2 {tuple(g2)} are parallel: they span no lattice"
        raise ParameterError(msg)
    return _lattice_dataset(vectors[None], units)


def _lattice_dataset(vectors: Array, units: str, **more: Any) -> xr.Dataset:
    attrs = {"units": units}
    return xr.Dataset(
        {
            "g1": (("grain", COMPONENT), vectors[:, :2], attrs),
            "g2": (("grain", COMPONENT), vectors[:, 2:], attrs),
            **more,
        },
        {COMPONENT: list(COMPONENTS)},
    )


def fit_lattice(
    bragg: xr.Dataset, basis: xr.Dataset, *, pulls: xr.Dataset | None = None
) -> xr.Dataset:
    """Origin, g₁ and g₂ of every position, with covariance, lazily.

    Disks are indexed on the basis and fitted by robust, weighted least squares
    (`fcunet_dask.kernels.lattice`). With several grains the one is taken that explains
    most of the intensity of a position and is deformed least.

    Parameters
    ----------
    bragg : xarray.Dataset
        With ``bragg_q``, ``bragg_covariance``, ``bragg_intensity``, relative to the
        origin.
    basis : xarray.Dataset
        From `find_lattice` or `given_lattice`.
    pulls : xarray.Dataset, optional
        From `measure_pulls`: errors that the disks of a position share, which the
        covariance then has, too.

    Returns
    -------
    xarray.Dataset
        ``origin``, ``g1``, ``g2`` (scan_y, scan_x, component), ``lattice_covariance``
        (scan_y, scan_x, parameter, parameter_), ``residual``, ``n_indexed``,
        ``quality``, ``lattice_status`` (`LatticeStatus`) and ``grain_index`` (scan_y,
        scan_x). Positions that cannot be fitted are NaN.

    Raises
    ------
    SchemaError
        If a variable is missing.
    ParameterError
        If the pulls are of another number of grains, or in another unit.
    """
    validate(bragg, BRAGG_Q, BRAGG_COVARIANCE, BRAGG_INTENSITY)
    vectors = np.concatenate([basis["g1"].values, basis["g2"].values], axis=1)
    result = map_positions(
        _lattice_kernel,
        [bragg[v.name] for v in (BRAGG_Q, BRAGG_COVARIANCE, BRAGG_INTENSITY)],
        _WIDTH,
        bases=vectors,
        pulls=_pulls_of_grains(pulls, len(vectors), f"{q_units(bragg)}²"),
    )
    lattice = _labelled(result)
    lattice.attrs = {
        **{k: v for k, v in bragg.attrs.items() if k in ("calibration", "source")},
        "basis": vectors.tolist(),
    }
    return annotate(lattice, *LATTICE_VARIABLES, q_units=q_units(bragg))


def _pulls_of_grains(pulls: xr.Dataset | None, grains: int, unit: str) -> list[Pulls]:
    if pulls is None:
        return [no_pulls()] * grains
    axes, variance = pulls["pull_axes"].values, pulls["pull_variance"].values
    if len(axes) != grains:
        msg = f"the pulls are those of {len(axes)} grains, the basis has {grains}"
        raise ParameterError(msg)
    given = pulls["pull_variance"].attrs.get("units", unit)
    if given != unit:
        msg = f"the pulls are in {given}, the disks in {unit}: measure them again"
        raise ParameterError(msg)
    return [Pulls(*of_grain) for of_grain in zip(axes, variance, strict=True)]


def _lattice_kernel(
    position: Array,
    covariance: Array,
    intensity: Array,
    bases: Array,
    pulls: list[Pulls],
) -> Array:
    """Disks (n, peaks, ...) → (n, 47): the best grain's fit, and which it was."""
    position = position.astype(float)
    origin = np.zeros((len(position), 2))
    fits = [
        fit_lattices(position, covariance, intensity, basis, origin, pull)
        for basis, pull in zip(bases, pulls, strict=True)
    ]
    if not fits:
        msg = "a basis holds at least one grain"
        raise ParameterError(msg)
    best, rank = _packed(fits[0], 0), _rank(fits[0])
    for grain, fit in enumerate(fits[1:], 1):
        better = _rank(fit) > rank + _BETTER
        best = np.where(better[:, None], _packed(fit, grain), best)
        rank = np.where(better, _rank(fit), rank)
    return best


def _rank(fit: LatticeFit) -> Array:
    """Return what speaks for a grain: that it has a lattice, whole and little deformed."""
    fitted = fit.status == 0
    return fit.quality + np.where(fitted, 1 - fit.deformation, -1)


def _packed(fit: LatticeFit, grain: int) -> Array:
    n = len(fit.residual)
    columns = [
        fit.parameters,
        fit.covariance.reshape(n, 36),
        fit.residual[:, None],
        fit.n_indexed[:, None],
        fit.quality[:, None],
        fit.status[:, None],
        np.full((n, 1), grain),
    ]
    return np.concatenate([c.astype(float) for c in columns], axis=1)


def _labelled(result: xr.DataArray) -> xr.Dataset:
    """Name the columns of `_lattice_kernel`."""

    def vector(start: int) -> xr.DataArray:
        part = result.isel(result=slice(start, start + 2))
        return part.rename(result=COMPONENT).assign_coords(component=list(COMPONENTS))

    def number(column: int, dtype: str = "f8") -> xr.DataArray:
        return result.isel(result=column, drop=True).astype(dtype)

    matrix = result.isel(result=slice(6, 42))
    matrix_dims = (*result.dims[:2], PARAMETER, f"{PARAMETER}_")
    covariance = matrix.data.reshape(*result.shape[:2], 6, 6)
    return xr.Dataset(
        {
            "origin": vector(0),
            "g1": vector(2),
            "g2": vector(4),
            "lattice_covariance": (matrix_dims, covariance),
            "residual": number(42),
            "n_indexed": number(43, "i4"),
            "quality": number(44),
            "lattice_status": number(45, "u1"),
            "grain_index": number(46, "u1"),
        },
        {PARAMETER: list(PARAMETERS), f"{PARAMETER}_": list(PARAMETERS)},
    )


def reference_lattice(
    lattice: xr.Dataset,
    *,
    region: tuple[slice, slice] | None = None,
    mask: Any = None,
) -> xr.Dataset:
    """Unstrained lattice: the median over a part of the scan, for each grain.

    Parameters
    ----------
    lattice : xarray.Dataset
        From `fit_lattice`.
    region : (slice, slice), optional
        Rows and columns of the scan that are unstrained; by default the whole scan.
    mask : array, optional
        bool (scan_y, scan_x), True where unstrained.

    Returns
    -------
    xarray.Dataset
        ``g1``, ``g2`` (grain, component), ``n_positions`` (grain) behind them, and
        ``outside`` (grain), whether these are not of the region, in memory.

    Raises
    ------
    ParameterError
        If the mask has another shape, or both region and mask are given.
    AnalysisError
        If the region holds no position, or none with a lattice.

    Notes
    -----
    Referred to it the median strain and rotation of the region are zero, in any basis.
    A grain without a position in the region takes its vectors from all of its positions:
    its strain is that from its own median, not from the region's lattice.
    """
    validate(lattice, G1, G2, N_INDEXED, LATTICE_STATUS)
    inside = _region_mask(lattice, region, mask)
    vectors = np.concatenate([np.asarray(lattice["g1"]), np.asarray(lattice["g2"])], -1)
    status = np.asarray(lattice[LATTICE_STATUS.name])
    fitted = status == 0
    if not fitted.any():
        msg = f"no position has a lattice: {_why_none(status)}"
        raise AnalysisError(msg)
    if not (fitted & inside).any():
        msg = (
            f"no position of the reference region has a lattice: {_why_none(status)}, or "
            "choose another region"
        )
        raise AnalysisError(msg)
    grain = np.asarray(lattice.get("grain_index", np.zeros_like(fitted)))
    known = lattice.attrs.get("basis", [])
    count = max(len(known), int(grain[fitted].max()) + 1)
    rows, numbers, outside = [], [], []
    for g in range(count):
        of_grain = fitted & (grain == g)
        chosen = of_grain & inside if (of_grain & inside).any() else of_grain
        start = np.array(known[g]) if g < len(known) else np.full(4, np.nan)
        rows.append(_median_lattice(vectors[chosen]) if chosen.any() else start)
        numbers.append(int(chosen.sum()))
        outside.append(not (of_grain & inside).any())
    return _lattice_dataset(
        np.array(rows),
        q_units(lattice),
        n_positions=("grain", numbers),
        outside=("grain", outside),
    )


def _median_lattice(vectors: Array) -> Array:
    """Lattice from which the median strain and rotation are zero, in any basis."""
    middle = np.median(vectors, axis=0)
    for _ in range(3):
        strain, _ = strain_tensor(vectors, np.broadcast_to(middle, vectors.shape))
        shift = np.median(strain, axis=0)
        middle = deformed_vectors(middle, shift[:3], shift[3])
    return middle


def _why_none(status: Array) -> str:
    """Message that says why positions have no lattice."""
    few, line, misfit = (
        int((status & flag).astype(bool).sum()) for flag in LatticeStatus
    )
    return (
        f"of {status.size} positions {few} have fewer than four disks on it, {line} have "
        f"all on one line, in {misfit} less than half of the disks or of their √intensity "
        "lies on it, or loosely, or by chance, or it is stretched by more than 15 %; look "
        "at the disks (fcunet-dask view), mask what does not measure, pass g1 and g2, or "
        "allow more grains"
    )


def _region_mask(
    lattice: xr.Dataset, region: tuple[slice, slice] | None, mask: Any
) -> Array:
    shape = lattice[N_INDEXED.name].shape
    if region is not None and mask is not None:
        msg = "give a region or a mask, not both"
        raise ParameterError(msg)
    if mask is not None:
        mask = np.asarray(mask, bool)
        if mask.shape != shape:
            msg = f"the mask has shape {mask.shape}, the scan {shape}"
            raise ParameterError(msg)
        return np.asarray(mask)
    if region is not None and not is_region(region):
        msg = f"region is two slices (rows, columns), got {region!r}"
        raise ParameterError(msg)
    inside = np.zeros(shape, bool)
    inside[region if region is not None else (slice(None), slice(None))] = True
    if not inside.any():
        msg = f"the region {region} holds no position of the scan, {shape}"
        raise AnalysisError(msg)
    return inside


__all__ = [
    "LatticeStatus",
    "find_lattice",
    "fit_lattice",
    "given_lattice",
    "reference_lattice",
]
