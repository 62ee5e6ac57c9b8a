"""Kinematic scans with known truth: disks on a strained lattice, and a camera's faults.

What is put in is exact: disks lie at o + E (h g₁ + k g₂) with G = F⁻ᵀ G₀ and the elliptic
distortion E of the camera. Their fillings are smooth and random, as dynamical scattering
makes them, but they do not move the outlines.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from scipy.special import erfc

from fcunet_dask.calibration import Calibration
from fcunet_dask.errors import ParameterError
from fcunet_dask.kernels.aperture import disk_image
from fcunet_dask.kernels.strain import axes_matrix, deformed_vectors
from fcunet_dask.schema import COMPONENT, COMPONENTS, PATTERN, PROBE, SCAN, Q, annotate
from fcunet_dask.types import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class KinematicRecipe:
    """All that a kinematic scan depends on.

    Parameters
    ----------
    scan, detector : (int, int)
        Positions and pixels, y and x.
    radius, edge : float
        Of the disks and of their blurred edges, px.
    g1, g2 : (float, float)
        Unstrained lattice vectors, y and x, px.
    dose : float
        Electrons of a pattern.
    central : float
        Share of the direct beam.
    structure : float
        Contrast inside the disks: 0 flat, 0.3 moderate, 0.6 strong.
    background : float
        Share of a diffuse background.
    strain : float
        Largest ε_xx of the strain field; the first quarter of the columns is unstrained.
    rotation : float
        Largest lattice rotation, degrees.
    descan : (float, float)
        Travel of the pattern over the scan, y and x, px.
    ellipse : (float, float)
        Ratio of the axes of the elliptic distortion, and the angle of the stretched axis
        from +x towards +y, degrees.
    hot_pixels : int
        Pixels stuck at 60 000 counts.
    vacuum_columns : int
        Columns at the end of the scan without specimen.
    center : (float, float), optional
        Direct beam in the middle of the scan, px; near the middle by default.
    calibration : Calibration
        Of the resulting scan.
    seed : int
        Same seed, same scan, in any blocks.
    """

    scan: tuple[int, int] = (32, 32)
    detector: tuple[int, int] = (128, 128)
    radius: float = 5.0
    edge: float = 0.5
    g1: tuple[float, float] = (6.4, 21.0)
    g2: tuple[float, float] = (21.0, -6.4)
    dose: float = 2e4
    central: float = 0.45
    structure: float = 0.3
    background: float = 0.05
    strain: float = 0.02
    rotation: float = 1.0
    descan: tuple[float, float] = (1.5, -1.0)
    ellipse: tuple[float, float] = (1.0, 0.0)
    hot_pixels: int = 0
    vacuum_columns: int = 0
    center: tuple[float, float] | None = None
    calibration: Calibration = field(
        default_factory=lambda: Calibration(q_step=0.02, scan_step=2.0)
    )
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.scan) < 1 or min(self.detector) < 8:
            msg = f"a scan of {self.scan} patterns of {self.detector} px is too small"
            raise ParameterError(msg)
        if not (0 < self.radius < min(self.detector) / 4 and self.edge > 0):
            msg = f"radius {self.radius} px must be positive and fit {self.detector} px"
            raise ParameterError(msg)
        if not (self.dose > 0 and 0 <= self.background < 1 and 0 < self.central <= 1):
            msg = "dose must be positive, background in [0, 1), central in (0, 1]"
            raise ParameterError(msg)
        inside = zip(self.beam, self.detector, strict=True)
        if not all(0 <= place <= size - 1 for place, size in inside):
            msg = f"center {self.center} lies outside of {self.detector} px"
            raise ParameterError(msg)

    @property
    def beam(self) -> tuple[float, float]:
        """Direct beam in the middle of the scan, y and x, px."""
        if self.center is not None:
            return self.center
        return (self.detector[0] / 2 - 0.37, self.detector[1] / 2 + 0.21)


def simulate_scan(
    recipe: KinematicRecipe | None = None,
    *,
    blocks: tuple[int, int] | None = (16, 16),
    **changes: Any,
) -> xr.Dataset:
    """Scan of a strained crystal with known truth, made block by block.

    Parameters
    ----------
    recipe : KinematicRecipe, optional
        The scan.
    blocks : (int, int) or None
        Rows and columns of a block; None makes the scan at once, in memory.
    **changes
        Fields of the recipe to change.

    Returns
    -------
    xarray.Dataset
        ``pattern`` (scan_y, scan_x, q_y, q_x), uint16 counts; ``probe`` (q_y, q_x);
        the truth: ``true_strain_xx``, ``…_yy``, ``…_xy``, ``true_rotation`` (scan_y,
        scan_x), ``true_origin``, ``true_g1``, ``true_g2`` (scan_y, scan_x, component),
        in the units of q, in the axes of the detector whatever its rotation, without
        the elliptic distortion.

    Examples
    --------
    >>> simulate_scan(scan=(2, 3), dose=100.0).pattern.shape
    (2, 3, 128, 128)
    """
    recipe = replace(recipe or KinematicRecipe(), **changes)
    truth = _truth(recipe)
    shape = (*recipe.scan, *recipe.detector)
    chunks = recipe.scan if blocks is None else blocks
    pattern = da.map_blocks(
        _render_block,
        recipe,
        chunks=da.core.normalize_chunks((*chunks, -1, -1), shape, dtype="u2"),
        meta=np.empty((0, 0, 0, 0), np.uint16),
        grid=chunks,
    )
    probe = disk_image(recipe.detector, recipe.beam, recipe.radius, recipe.edge)
    probe *= 100 * recipe.dose / probe.sum()
    counts = np.random.default_rng(recipe.seed).poisson(probe).astype(np.float32)
    data = pattern.compute() if blocks is None else pattern
    scan = xr.Dataset(
        {PATTERN.name: ((*SCAN, *Q), data), PROBE.name: (Q, counts), **truth},
        _coordinates(recipe),
        {"calibration": recipe.calibration.to_dict()},
    )
    return annotate(scan, PATTERN, PROBE)


def _coordinates(recipe: KinematicRecipe) -> dict[str, Any]:
    c = recipe.calibration
    axes: dict[str, Any] = {
        n: (n, c.scan_axis(s), {"units": c.scan_units})
        for n, s in zip(SCAN, recipe.scan, strict=True)
    }
    for n, s in zip(Q, recipe.detector, strict=True):
        axes[n] = (n, c.q_axis(s), {"units": c.q_units})
    return {**axes, COMPONENT: list(COMPONENTS)}


def strain_field(recipe: KinematicRecipe) -> tuple[Array, Array]:
    """Strain (rows, columns, 3: xx, yy, xy) and rotation (rows, columns), rad.

    Smooth; zero in the first quarter of the columns.
    """
    rows, columns = recipe.scan
    y = (np.arange(rows) + 0.5)[:, None] / rows
    first = round(0.25 * columns)
    x = np.arange(columns)
    t = np.clip((x - (first - 1)) / max(columns - first, 1), 0, 1)
    rise = t * t * (3 - 2 * t) * np.ones((rows, 1))
    xx = recipe.strain * rise * (0.6 + 0.4 * np.cos(2 * np.pi * y))
    yy = -0.6 * recipe.strain * rise * (0.7 + 0.3 * np.sin(2 * np.pi * y))
    xy = 0.3 * recipe.strain * rise * np.sin(2 * np.pi * y + 0.7)
    turn = np.radians(recipe.rotation) * rise * np.cos(np.pi * y)
    return np.stack([xx, yy, xy], axis=-1), turn


def ellipse_matrix(recipe: KinematicRecipe) -> Array:
    """Distortion of the camera, (2, 2), y before x."""
    ratio, angle = recipe.ellipse
    stretch = np.array([ratio - 1, 0.0, 0.0, 0.0])
    xx, yy, xy, _ = axes_matrix(-np.radians(angle)) @ stretch
    return np.array([[1 + yy, xy], [xy, 1 + xx]])


def _lattice(recipe: KinematicRecipe) -> tuple[Array, Array]:
    """Undistorted lattice vectors (rows, columns, 4) and origins (…, 2), px."""
    strain, turn = strain_field(recipe)
    vectors = deformed_vectors(np.array([*recipe.g1, *recipe.g2]), strain, turn)
    rows, columns = recipe.scan
    y = np.linspace(-0.5, 0.5, rows)[:, None] if rows > 1 else np.zeros((1, 1))
    x = np.linspace(-0.5, 0.5, columns) if columns > 1 else np.zeros(1)
    ones = np.ones(recipe.scan)
    origin = np.stack(
        [
            recipe.beam[0] + recipe.descan[0] * y * ones,
            recipe.beam[1] + recipe.descan[1] * x * ones,
        ],
        axis=-1,
    )
    return vectors, origin


def _truth(recipe: KinematicRecipe) -> dict[str, Any]:
    strain, turn = strain_field(recipe)
    vectors, origin = _lattice(recipe)
    step = recipe.calibration.q_step or 1.0
    middle = np.array([s // 2 for s in recipe.detector])
    dims = (*SCAN, COMPONENT)
    return {
        "true_strain_xx": (SCAN, strain[..., 0]),
        "true_strain_yy": (SCAN, strain[..., 1]),
        "true_strain_xy": (SCAN, strain[..., 2]),
        "true_rotation": (SCAN, turn),
        "true_origin": (dims, (origin - middle) * step),
        "true_g1": (dims, vectors[..., :2] * step),
        "true_g2": (dims, vectors[..., 2:] * step),
    }


@dataclass(frozen=True, slots=True)
class Disks:
    """Which disks there are: indices (d, 2) and expected electrons (d,)."""

    indices: Array
    electrons: Array


def disks(recipe: KinematicRecipe) -> Disks:
    """Disks that stay on the detector all over the scan, the direct beam first."""
    shortest = min(np.hypot(*recipe.g1), np.hypot(*recipe.g2))
    most = int(np.ceil(0.75 * max(recipe.detector) / shortest)) + 1
    axis = np.arange(-most, most + 1)
    h, k = (a.ravel() for a in np.meshgrid(axis, axis, indexing="ij"))
    G = np.array([recipe.g1, recipe.g2])
    q = np.stack([h, k], -1) @ G @ ellipse_matrix(recipe).T
    margin = recipe.radius + 3 + np.abs(recipe.descan).max() / 2
    at = q + recipe.beam
    limit = np.array(recipe.detector) - margin - 1
    inside = ((at > margin) & (at < limit)).all(axis=1)
    order = np.flatnonzero(inside)[np.argsort((q[inside] ** 2).sum(1), kind="stable")]
    length = np.hypot(*q[order].T)
    random = np.random.default_rng([recipe.seed, 1]).uniform(0.5, 1, len(order))
    strength = np.exp(-((length / (2.4 * shortest)) ** 2)) * random
    strength[0] = 0
    share = strength / max(strength.sum(), 1e-30) * (1 - recipe.central)
    share[0] = recipe.central if len(order) > 1 else 1.0
    indices = np.stack([h, k], -1)[order]
    return Disks(indices, share * recipe.dose * (1 - recipe.background))


def _render_block(
    recipe: KinematicRecipe,
    grid: tuple[int, int] = (1, 1),
    block_id: tuple[int, ...] = (),
) -> Array:
    """One block of patterns, uint16."""
    rows, columns = (
        range(i * n, min((i + 1) * n, size))
        for i, n, size in zip(block_id, grid, recipe.scan, strict=False)
    )
    out = np.empty((len(rows), len(columns), *recipe.detector), np.uint16)
    vectors, origin = _lattice(recipe)
    present = disks(recipe)
    hot = np.random.default_rng([recipe.seed, 2]).integers(
        0, recipe.detector, (recipe.hot_pixels, 2)
    )
    for i, y in enumerate(rows):
        for j, x in enumerate(columns):
            rng = np.random.default_rng([recipe.seed, 3, y, x])
            vacuum = x >= recipe.scan[1] - recipe.vacuum_columns
            mean = _expected(
                recipe, present, vectors[y, x], origin[y, x], rng, vacuum=vacuum
            )
            out[i, j] = np.minimum(rng.poisson(mean), 65535)
    out[:, :, hot[:, 0], hot[:, 1]] = 60_000
    return out


def _expected(
    recipe: KinematicRecipe,
    present: Disks,
    vectors: Array,
    origin: Array,
    rng: np.random.Generator,
    *,
    vacuum: bool,
) -> Array:
    """Return the expected electrons of one pattern."""
    electrons = present.electrons * np.clip(
        1 + 0.25 * rng.standard_normal(len(present.electrons)), 0.5, 1.5
    )
    electrons[0] = present.electrons[0]
    if vacuum:
        electrons = np.where(np.arange(len(electrons)) == 0, recipe.dose, 0.0)
    lattice = present.indices @ vectors.reshape(2, 2)
    centers = origin + lattice @ ellipse_matrix(recipe).T
    half = int(np.ceil(recipe.radius + 4 * recipe.edge)) + 1
    axis = np.arange(-half, half + 1)
    nearest = np.rint(centers).astype(int)
    y = nearest[:, :1] + axis
    x = nearest[:, 1:] + axis
    dy = (y - centers[:, :1])[:, :, None]
    dx = (x - centers[:, 1:])[:, None, :]
    shape = 0.5 * erfc((np.hypot(dy, dx) - recipe.radius) / (np.sqrt(2) * recipe.edge))
    if recipe.structure and not vacuum:
        shape *= _fillings(
            dy / recipe.radius, dx / recipe.radius, recipe.structure, rng
        )
    shape *= (electrons / shape.sum(axis=(1, 2)))[:, None, None]
    mean = _background(recipe, origin)
    rows, columns = recipe.detector
    shape *= ((y >= 0) & (y < rows))[:, :, None] & ((x >= 0) & (x < columns))[:, None]
    y, x = np.clip(y, 0, rows - 1), np.clip(x, 0, columns - 1)
    np.add.at(mean, (y[:, :, None], x[:, None, :]), shape)
    return mean


def _fillings(u: Array, v: Array, contrast: float, rng: np.random.Generator) -> Array:
    """Random gradient and fringe inside each disk; the direct beam's is weaker."""
    n = len(u)
    slope = 0.5 * rng.standard_normal((n, 2))[:, :, None, None]
    phase, angle = (a[:, None, None] for a in rng.uniform(0, 2 * np.pi, (2, n)))
    fringes = rng.uniform(0.3, 1.0, n)[:, None, None]
    wave = np.cos(angle) * u + np.sin(angle) * v
    filling = slope[:, 0] * u + slope[:, 1] * v
    filling = filling + np.cos(2 * np.pi * fringes * wave + phase)
    weight = np.where(np.arange(n) == 0, 0.35 * contrast, contrast)[:, None, None]
    return np.maximum(1 + weight * filling, 0.02)


def _background(recipe: KinematicRecipe, origin: Array) -> Array:
    y = np.arange(recipe.detector[0])[:, None] - origin[0]
    x = np.arange(recipe.detector[1]) - origin[1]
    decay = np.exp(-np.hypot(y, x) / (0.175 * recipe.detector[0]))
    return np.asarray(recipe.background * recipe.dose * decay / decay.sum())
