"""Position of a disk of known outline and unknown, smooth filling.

The counts around a disk are modelled as μ = T(q − c) f(q) + b: the tabulated aperture
T, a background b, and a filling f that is a constant plus smooth modes, each with a
Gaussian prior of the width that the fillings of the scan have. Fisher scoring with
Poisson weights finds all of them together, so that structure drawn inside the disk by
dynamical scattering does not pull its centre, while flat disks keep the precision that
the counting statistics allow. The posterior covariance of c is the error bar.
"""

from dataclasses import dataclass

from fcunet_dask.kernels.aperture import OFFSETS, cell_offsets
from fcunet_dask.kernels.arrays import namespace
from fcunet_dask.kernels.camera import COUNTING, CameraNoise
from fcunet_dask.kernels.censored import saturated_deviances, weigh_saturated
from fcunet_dask.kernels.disk_equations import add_priors, normal_equations, solve
from fcunet_dask.kernels.disk_model import DiskModel
from fcunet_dask.kernels.windows import cut_windows
from fcunet_dask.types import Array

_LONG_STEP = 0.05
"""Last step, px, of a disk that is given more."""
_MORE_ROUNDS = (1.0, 0.5, 0.5)
"""Length of the steps that it is given: half steps end oscillations."""
_SATURATED_ROUNDS = (1.0, 1.0, 1.0)
"""The same of disks with saturated pixels, whose height is found on the way."""
_LOWEST = 5.0
"""Least count of a pixel without electrons, in units of its readout noise."""
_OUTLIER = 25.0
"""Squared misfit of a pixel, in units of its variance, beyond which it counts less."""


@dataclass(frozen=True, slots=True)
class DiskFits:
    """Fitted disks, one row each.

    Attributes
    ----------
    position : array
        float64 (m, 2): y, x, px.
    covariance : array
        float64 (m, 3): yy, yx, xx, px².
    intensity : array
        float64 (m,): counts in the disk, above background.
    background : array
        float64 (m,): counts per pixel around it.
    filling : array
        float64 (m,): variance of the fitted filling relative to its mean.
    moved : array
        float64 (m,): distance from the start, px.
    step : array
        float32 (m,): the last step, px, uncut; where it is long the fit has not
        converged.
    """

    position: Array
    covariance: Array
    intensity: Array
    background: Array
    filling: Array
    moved: Array
    step: Array


def fit_disks(
    patterns: Array,
    padded_mask: Array,
    index: Array,
    offset: Array,
    model: DiskModel,
    camera: CameraNoise = COUNTING,
    steps: tuple[int, ...] = (1, 2),
) -> DiskFits:
    """Fit the disks near `index` + `offset`.

    Parameters
    ----------
    patterns : array
        (n, rows, columns), counts, any real dtype.
    padded_mask : array
        float32 (rows + 2 half, columns + 2 half), from `pad_mask`.
    index : array
        int (3, m): pattern, row, column of each disk.
    offset : array
        float (m, 2): y, x from that pixel, px.
    model : DiskModel
        On the same device.
    camera : CameraNoise
        Of the patterns.
    steps : tuple of int
        Steps of Fisher scoring with the window at one place; between them the window
        moves to the pixel nearest to the disk. Disks that still move are given more.

    Returns
    -------
    DiskFits
    """
    xp = namespace(patterns)
    start = index[1:].T + offset
    counts, _, index, state = _fitted(
        patterns, padded_mask, index, offset, model, camera, steps
    )
    rounds: tuple[float, ...] = _MORE_ROUNDS
    full = xp.zeros(len(counts), bool)
    if camera.saturation:
        full = (counts >= camera.full).any(axis=1)
        rounds = _SATURATED_ROUNDS + rounds
    for i, length in enumerate(rounds, start=len(_MORE_ROUNDS) - len(rounds)):
        late = xp.nonzero((state.step > _LONG_STEP) | (full & (i < 0)))[0]
        if not len(late):
            break
        index[:, late], part = _moved_on(
            patterns,
            padded_mask,
            index[:, late],
            state.rows(late),
            model,
            camera,
            length,
        )
        state.put(late, part)
    return _result(index, start, state, model, camera.gain)


def _moved_on(
    patterns: Array,
    padded_mask: Array,
    index: Array,
    state: "_State",
    model: DiskModel,
    camera: CameraNoise,
    length: float,
) -> tuple[Array, "_State"]:
    """Three more steps, or parts of steps, with the window moved to the disk."""
    index, state = _recentred(index, state, patterns.shape)
    counts, kept = cut_windows(patterns, padded_mask, index, model, camera)
    for _ in range(3):
        state = _step(counts, kept, state, model, camera, length)
    return index, state


def _recentred(
    index: Array, state: "_State", shape: tuple[int, ...]
) -> tuple[Array, "_State"]:
    """Move the windows to the pixels nearest to the disks."""
    xp = namespace(index)
    nearest = index + _as_index(xp.rint(state.offset))
    nearest = _inside(nearest, shape)
    state.offset = state.offset - (nearest - index)[1:].T.astype(xp.float32)
    return nearest, state


def disk_deviances(
    patterns: Array,
    padded_mask: Array,
    index: Array,
    offset: Array,
    model: DiskModel,
    camera: CameraNoise = COUNTING,
) -> Array:
    """Poisson deviance 2 Σ [μ − n + n log(n/μ)] of each fitted disk, float64 (m,).

    Parameters and raising as for `fit_disks`; the deviance compares models, which the
    weighted residuals, whose weights follow the model, do not. Readout noise of variance
    v is that of v more electrons, in n and in μ (Huang et al., *Nat. Methods* 10 (2013)
    653); of n below zero the terms with μ are kept.
    """
    xp = namespace(patterns)
    counts, kept, _, state = _fitted(
        patterns, padded_mask, index, offset, model, camera, (2, 2)
    )
    T, _, _ = _aperture(state.offset, model)
    mean = xp.maximum(state.filling[:, :1], 1e-3)
    filling = xp.maximum(state.filling @ model.modes, 0.05 * mean)
    expected = xp.maximum(T * filling + state.background[:, None], 1e-3 * mean + 1e-4)
    expected = expected + camera.floor
    found = xp.maximum(counts + camera.floor, -_LOWEST * camera.floor**0.5)
    log = found * xp.log(xp.maximum(found, 1e-9 + camera.floor) / expected)
    deviance = 2 * (expected - found + log)
    if camera.saturation:
        beyond = saturated_deviances(expected, found - expected)
        deviance = xp.where(counts >= camera.full, beyond, deviance)
    return (kept * deviance).sum(1).astype(xp.float64)


def _fitted(
    patterns: Array,
    padded_mask: Array,
    index: Array,
    offset: Array,
    model: DiskModel,
    camera: CameraNoise,
    steps: tuple[int, ...],
) -> tuple[Array, Array, Array, "_State"]:
    """Electrons, mask, pixel and state of each disk after all steps."""
    counts, kept = cut_windows(patterns, padded_mask, index, model, camera)
    state = _start(counts, kept, offset, model)
    for i, number in enumerate(steps):
        if i:
            index, state = _recentred(index, state, patterns.shape)
            counts, kept = cut_windows(patterns, padded_mask, index, model, camera)
        for _ in range(number):
            state = _step(counts, kept, state, model, camera)
    return counts, kept, index, state


def _as_index(shift: Array) -> Array:
    """(m, 2) y, x as (3, m) pattern, row, column."""
    xp = namespace(shift)
    return xp.concatenate([xp.zeros((1, len(shift))), shift.T]).astype(xp.int64)


def _inside(index: Array, shape: tuple[int, ...]) -> Array:
    xp = namespace(index)
    index[1] = xp.clip(index[1], 0, shape[1] - 1)
    index[2] = xp.clip(index[2], 0, shape[2] - 1)
    return index


@dataclass(slots=True)
class _State:
    offset: Array
    filling: Array
    background: Array
    covariance: Array
    step: Array

    def rows(self, which: Array) -> "_State":
        """Return the state of some of the disks."""
        names = self.__dataclass_fields__
        return _State(*(getattr(self, name)[which] for name in names))

    def put(self, which: Array, part: "_State") -> None:
        """Replace the state of some of the disks."""
        for name in self.__dataclass_fields__:
            getattr(self, name)[which] = getattr(part, name)


def _start(counts: Array, kept: Array, offset: Array, model: DiskModel) -> _State:
    xp = namespace(counts)
    middle = model.table[0, OFFSETS * (OFFSETS + 1) // 2]
    outside = kept * (middle < 0.02)
    inside = kept * (middle > 0.9)
    background = (counts * outside).sum(1) / xp.maximum(outside.sum(1), 1)
    height = (counts * inside).sum(1) / xp.maximum(inside.sum(1), 1) - background
    filling = xp.zeros((len(counts), len(model.modes)), xp.float32)
    filling[:, 0] = xp.maximum(height, 1e-3)
    return _State(
        offset.astype(xp.float32),
        filling,
        background.astype(xp.float32),
        xp.zeros((len(counts), 3)),
        xp.zeros(len(counts), xp.float32),
    )


def _aperture(offset: Array, model: DiskModel) -> tuple[Array, Array, Array]:
    """T and its slopes, (m, n), at `offset`: the nearest cell, and Taylor from there."""
    xp = namespace(offset)
    cell = xp.clip(xp.floor((offset + 0.5) * OFFSETS), 0, OFFSETS - 1).astype(xp.int64)
    nearest = xp.asarray(cell_offsets(), dtype=xp.float32)[cell]
    entry = cell[:, 0] * OFFSETS + cell[:, 1]
    T, slope_y, slope_x = (xp.take(t, entry, axis=0) for t in model.table)
    rest = offset - nearest
    T += rest[:, :1] * slope_y
    T += rest[:, 1:] * slope_x
    return xp.maximum(T, 0, out=T), slope_y, slope_x


def _step(
    counts: Array,
    kept: Array,
    state: _State,
    model: DiskModel,
    camera: CameraNoise,
    length: float = 1.0,
) -> _State:
    """One step of Fisher scoring for centre, filling and background, or part of it.

    A pixel of μ electrons has the variance μ + `camera.floor`; one that is saturated says
    no more than that μ may be higher.
    """
    xp, floor = namespace(counts), camera.floor
    T, slope_y, slope_x = _aperture(state.offset, model)
    mean = xp.maximum(state.filling[:, 0], 1e-3)
    filling = xp.maximum(state.filling @ model.modes, 0.05 * mean[:, None])
    slope_y *= filling
    slope_x *= filling
    filling *= T
    filling += state.background[:, None]
    rest = counts - filling
    xp.maximum(filling, (0.02 * mean + 0.002)[:, None], out=filling)
    if floor:
        filling += floor
    weight = xp.divide(kept, filling, out=filling)
    if camera.saturation:
        weigh_saturated(weight, rest, counts >= camera.full)
    _spare_outliers(weight, rest, kept)
    system = normal_equations(weight, T, slope_y, slope_x, rest, model)
    add_priors(system, state.filling, mean, model)
    solution, covariance = solve(system)
    whole = xp.hypot(solution[-2], solution[-1])
    solution *= length
    step = xp.clip(solution[-2:].T, -0.5, 0.5)
    filled = state.filling + solution[:-3].T
    filled[:, 0] = xp.maximum(filled[:, 0], 1e-3)
    return _State(
        xp.clip(state.offset + step, -1.5, 1.5),
        filled,
        xp.maximum(state.background + solution[-3], -(floor**0.5)),
        covariance,
        whole,
    )


def _spare_outliers(weight: Array, rest: Array, kept: Array) -> None:
    """Reduce the weight of pixels that no model of the disk explains, in place."""
    xp = namespace(weight)
    misfit = weight * rest
    misfit *= rest
    rows = xp.nonzero(misfit.max(axis=1) > _OUTLIER)[0]
    misfit = misfit[rows]
    typical = xp.minimum(misfit, 100).sum(1) / kept[rows].sum(1)
    scale = _OUTLIER * xp.maximum(typical, 1)
    weight[rows] *= xp.minimum(1, scale[:, None] / xp.maximum(misfit, 1e-6))


def correlation_covariance(
    patterns: Array,
    padded_mask: Array,
    index: Array,
    offset: Array,
    model: DiskModel,
    camera: CameraNoise = COUNTING,
) -> Array:
    """Covariance of the maximum of a correlation with the flat disk.

    Of δ = argmax Σ T(q − δ) x(q) it is H⁻¹ J H⁻¹ with J = Σ ∇T ∇Tᵀ Var x and
    H = h Σ ∇T ∇Tᵀ for a disk of height h; Var x, Poisson, is that of the disk on its
    background: the few electrons of a faint one need not lie on its rim.

    Parameters
    ----------
    patterns, padded_mask, index, offset, model, camera
        As for `fit_disks`.

    Returns
    -------
    array
        float64 (m, 3): yy, yx, xx, px².
    """
    xp = namespace(patterns)
    counts, kept = cut_windows(patterns, padded_mask, index, model, camera)
    start = _start(counts, kept, offset, model)
    height = start.filling[:, 0]
    T, slope_y, slope_x = _aperture(xp.clip(offset, -0.5, 0.5), model)
    background = xp.maximum(start.background, 0) + camera.floor
    variance = (height[:, None] * T + background[:, None]) * kept
    pairs = (slope_y * slope_y, slope_y * slope_x, slope_x * slope_x)
    noise = _symmetric([(p * variance).sum(1) for p in pairs])
    curvature = _symmetric([height * (p * kept).sum(1) for p in pairs])
    inverse = xp.linalg.inv(curvature + 1e-6 * xp.eye(2))
    covariance = inverse @ noise @ inverse
    return covariance.reshape(-1, 4)[:, [0, 1, 3]]


def _symmetric(parts: list[Array]) -> Array:
    """Stack yy, yx, xx (m,) into float64 (m, 2, 2)."""
    xp = namespace(parts[0])
    yy, yx, xx = (p.astype(xp.float64) for p in parts)
    return xp.stack([yy, yx, yx, xx], axis=-1).reshape(-1, 2, 2)


def _result(
    index: Array, start: Array, state: _State, model: DiskModel, gain: float
) -> DiskFits:
    xp = namespace(state.offset)
    position = index[1:].T + state.offset.astype(xp.float64)
    relative = state.filling[:, 1:] / state.filling[:, :1]
    return DiskFits(
        position=position,
        covariance=state.covariance,
        intensity=(state.filling @ model.area).astype(xp.float64) * gain,
        background=state.background.astype(xp.float64) * gain,
        filling=(relative**2).sum(1).astype(xp.float64),
        moved=xp.hypot(*(position - start).T),
        step=state.step,
    )
