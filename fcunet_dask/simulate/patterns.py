"""Patterns of drawn specimens, as the library stores them."""

from collections.abc import Mapping
from types import ModuleType
from typing import Final

import numpy as np

from fcunet_dask._computing import computing
from fcunet_dask.errors import MissingDependencyError
from fcunet_dask.kernels.arrays import to_host
from fcunet_dask.kernels.illumination import probe_wave
from fcunet_dask.kernels.multislice import exit_waves, layer_atoms
from fcunet_dask.simulate.draw import Block, Scene
from fcunet_dask.simulate.recipe import LibraryRecipe
from fcunet_dask.simulate.sample import build_specimen
from fcunet_dask.types import Array

FULL: Final = 65535
"""Largest code of a stored pattern: I = scale · (code / FULL)²."""

PARAMETERS: Final = (
    "crystal",
    "voltage",
    "q_step",
    "semiangle",
    "defocus",
    "astigmatism",
    "astigmatism_angle",
    "spherical",
    "rings",
    "spokes",
    "thermal",
    "absorption",
    "n_reflections",
    "n_dropped",
    *(f"origin_{i}" for i in "xyz"),
    *(f"bending_{i}" for i in ("xx", "xy", "yy")),
    *(f"rotation_{i}{j}" for i in "xyz" for j in "xyz"),
    *(f"deformation_{i}{j}" for i in "xyz" for j in "xyz"),
)
"""Columns of ``parameter``; units as in `Probe` and `Sample`."""

COLUMNS: Final = ("h", "k", "l", "q_y", "q_x", "potential", "error")
"""Columns of ``truth``: indices, 1/Å, |V_g| in V, s_g in 1/Å."""


def array_module(engine: str) -> ModuleType:
    """Return NumPy or CuPy.

    Parameters
    ----------
    engine : str
        ``numpy`` or ``cupy``.

    Raises
    ------
    MissingDependencyError
        If CuPy is not installed or finds no GPU.
    """
    if engine == "numpy":
        return np
    try:
        import cupy  # noqa: PLC0415  (an extra)

        cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        msg = (
            f"engine 'cupy' needs a GPU and CuPy ({error}): pip install "
            "'fcunet-dask[gpu]', or take engine='numpy'"
        )
        raise MissingDependencyError(msg) from error
    module: ModuleType = cupy
    return module


def encode(intensity: Array) -> tuple[Array, Array]:
    """Compand patterns to 16 bits: equal steps of √I, so weak disks stay.

    Parameters
    ----------
    intensity : array
        float32 (..., q_y, q_x), not negative.

    Returns
    -------
    codes : array
        uint16, shape of `intensity`.
    scale : array
        float32 (...): the intensity of code 65535.
    """
    scale = intensity.max(axis=(-2, -1), keepdims=True)
    safe = np.where(scale > 0, scale, 1)
    codes = np.rint(np.sqrt(np.maximum(intensity, 0) / safe) * np.float32(FULL))
    return codes.astype(np.uint16), scale[..., 0, 0].astype(np.float32)


def decode(codes: Array, scale: Array) -> Array:
    """Intensities of companded patterns, I = scale · (code/65535)².

    Parameters
    ----------
    codes : array
        uint16 (..., q_y, q_x).
    scale : array
        float32 (...).

    Returns
    -------
    array
        float32, shape of `codes`: share of the incident beam per pixel.
    """
    root = codes.astype(np.float32) / np.float32(FULL)
    return np.asarray(np.asarray(scale, np.float32)[..., None, None] * root * root)


def simulate_block(
    block: Block, recipe: LibraryRecipe, engine: str = "numpy"
) -> Mapping[str, Array]:
    """Patterns, probes and truth of the specimens of a block.

    One multislice run gives all probes and thicknesses of all specimens. BLAS runs on
    one thread, so that the result does not depend on the machine's load.

    Parameters
    ----------
    block : Block
        What was drawn.
    recipe : LibraryRecipe
        What it was drawn from.
    engine : str
        ``numpy`` or ``cupy``.

    Returns
    -------
    mapping
        ``pattern_code`` uint16 (specimen, probe, thickness, q_y, q_x), ``scale``
        float32 (specimen, probe, thickness), ``thickness_angstrom`` float32 (same),
        ``probe_code`` uint16 (specimen, probe, q_y, q_x), ``probe_scale`` float32
        (specimen, probe),
        ``truth`` float32 (specimen, probe, reflection, `COLUMNS`; NaN where there
        are fewer), ``parameter`` float64 (specimen, probe, `PARAMETERS`).

    Raises
    ------
    MissingDependencyError
        If the engine is not there.
    """
    xp = array_module(engine)
    with computing():
        patterns, scales, waves = _diffract(block, recipe, xp)
    exits = np.array(recipe.exits(block.depth), dtype=np.float32) * recipe.step
    probe, probe_scale = encode(_crop(np.abs(waves) ** 2, recipe.pixels))
    return {
        "pattern_code": patterns,
        "scale": scales,
        "thickness_angstrom": np.broadcast_to(exits, scales.shape).astype(np.float32),
        "probe_code": probe,
        "probe_scale": probe_scale,
        "truth": _truth(block, recipe),
        "parameter": _parameters(block, recipe),
    }


def _diffract(
    block: Block, recipe: LibraryRecipe, xp: ModuleType
) -> tuple[Array, Array, Array]:
    """Companded patterns, their scales, and the incident waves."""
    grid, exits = block.grid, recipe.exits(block.depth)
    specimens = [build_specimen(s.sample, grid, block.depth) for s in block.scenes]
    frequencies = grid.frequencies()
    waves = np.array(
        [
            [probe_wave(p, frequencies, grid.box, grid.wavelength) for p in s.probes]
            for s in block.scenes
        ]
    )
    layers = layer_atoms(specimens, grid, exits[-1]).to(xp)
    shape = (*waves.shape[:2], len(exits), recipe.pixels, recipe.pixels)
    patterns, scales = np.empty(shape, np.uint16), np.empty(shape[:3], np.float32)
    steps = exit_waves(layers, xp.asarray(waves), grid, exits)
    for i, wave in enumerate(steps):
        intensity = _crop(to_host(wave.real**2 + wave.imag**2), recipe.pixels)
        patterns[:, :, i], scales[:, :, i] = encode(intensity)
    return patterns, scales, waves


def _crop(images: Array, pixels: int) -> Array:
    """Return the middle of square images whose zero is at ``size // 2``."""
    first = images.shape[-1] // 2 - pixels // 2
    return images[..., first : first + pixels, first : first + pixels]


def _truth(block: Block, recipe: LibraryRecipe) -> Array:
    """Return the stored truth: float32 (specimen, probe, reflection, column)."""
    shape = (recipe.block, recipe.probes, recipe.reflections, len(COLUMNS))
    table = np.full(shape, np.nan, dtype=np.float32)
    for i, scene in enumerate(block.scenes):
        truth = scene.reflections
        rows = np.column_stack([truth.hkl, truth.q, truth.amplitude, truth.error])
        table[i, :, : len(rows)] = rows[: recipe.reflections]
    return table


def _parameters(block: Block, recipe: LibraryRecipe) -> Array:
    """Return what was drawn: float64 (specimen, probe, parameter)."""
    rows = [
        [_row(block, scene, i, recipe) for i in range(recipe.probes)]
        for scene in block.scenes
    ]
    return np.array(rows, dtype=float)


def _row(block: Block, scene: Scene, index: int, recipe: LibraryRecipe) -> list[float]:
    probe, sample, truth = scene.probes[index], scene.sample, scene.reflections
    kept = min(len(truth), recipe.reflections)
    bending = np.asarray(sample.bending)
    return [
        scene.index,
        block.grid.voltage,
        block.grid.q_step,
        probe.semiangle,
        probe.defocus,
        probe.astigmatism,
        probe.astigmatism_angle,
        probe.spherical,
        probe.rings,
        probe.spokes,
        sample.thermal,
        sample.absorption,
        kept,
        len(truth) - kept,
        *np.asarray(sample.origin),
        *(bending[0, 0], bending[0, 1], bending[1, 1]),
        *np.asarray(sample.rotation).ravel(),
        *np.asarray(sample.deformation).ravel(),
    ]
