"""Multislice of non-periodic slabs: many specimens × probes in lock-step.

Cowley & Moodie (1957); Kirkland, *Advanced Computing in Electron Microscopy* (2010),
ch. 6. One slice is ψ ← P ⊗ [t ψ] with t = exp(iσV_p(1 + iκ)) of the projected
potential V_p and the Fresnel propagator P = exp(−iπλΔz q²), both limited to the lower
2/3 of the grid's frequencies (Ishizuka 1982).

Spectra are stored with the zero frequency in the middle and without the discarded
third. Zero-padding such an array at its end multiplies the wave in real space by a
phase that the transmission function does not see and that the way back undoes, so no
spectrum is ever rearranged.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fcunet_dask.calibration import electron_wavelength
from fcunet_dask.errors import ParameterError
from fcunet_dask.kernels.arrays import fft_module, namespace
from fcunet_dask.kernels.scattering import VOLT_AREA, interaction_parameter
from fcunet_dask.types import Array

SPLIT = 16
"""A phase exp(−2πi k x) is the product of one of SPLIT fine and one coarse phase."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The box that is simulated, and how finely.

    Parameters
    ----------
    box : float
        Side of the square box, Å; a detector pixel is 1/box.
    size : int
        Real-space points along a side, a multiple of 48.
    step : float
        Thickness of a slice, Å.
    voltage : float
        kV.

    Raises
    ------
    ParameterError
        If a length is not positive, or `size` is no positive multiple of 48.
    """

    box: float = 51.2
    size: int = 384
    step: float = 2.0
    voltage: float = 200.0

    def __post_init__(self) -> None:
        if not (self.box > 0 and self.step > 0 and self.voltage > 0):
            msg = f"box, step and voltage must be positive, got {self}"
            raise ParameterError(msg)
        if self.size < 48 or self.size % 48:
            msg = f"size must be a positive multiple of 48, got {self.size}"
            raise ParameterError(msg)

    @property
    def half(self) -> int:
        """Frequencies kept on one side: a third of the grid."""
        return self.size // 3

    @property
    def pixels(self) -> int:
        """Detector pixels along a side: two thirds of the grid."""
        return 2 * self.half

    @property
    def q_step(self) -> float:
        """Detector pixel, 1/Å."""
        return 1.0 / self.box

    @property
    def wavelength(self) -> float:
        """Electron wavelength, Å."""
        return electron_wavelength(self.voltage)

    def frequencies(self) -> Array:
        """Return q along one side, zero at ``pixels // 2``: (pixels,), 1/Å."""
        return (np.arange(self.pixels) - self.half) / self.box

    def radius(self) -> Array:
        """Return |q| of the detector: (pixels, pixels), 1/Å."""
        q = self.frequencies()
        return np.hypot(q[:, None], q)


@dataclass(frozen=True, slots=True)
class Layers:
    """Atoms of several specimens, sorted into slices, ready for the device.

    Parameters
    ----------
    atoms : array
        float32 (n, 3): x and y in units of the box, and the occupancy; an empty
        place has occupancy 0.
    spans : array
        int (slices, elements, 2) on the host: the first row in `atoms` and the
        places per specimen.
    factors : array
        float32 (specimens, elements, pixels, half): phase per atom for q_x ≥ 0, rad.
    absorption : array
        float32 (specimens,): κ.
    """

    atoms: Array
    spans: Array
    factors: Array
    absorption: Array

    @property
    def specimens(self) -> int:
        """How many specimens advance together."""
        return int(self.factors.shape[0])

    @property
    def slices(self) -> int:
        """How many slices they have."""
        return int(self.spans.shape[0])

    def to(self, xp: Any) -> "Layers":
        """Return the same with its arrays in NumPy's or CuPy's memory."""
        arrays = [xp.asarray(a) for a in (self.atoms, self.factors, self.absorption)]
        return Layers(arrays[0], self.spans, arrays[1], arrays[2])


@dataclass(frozen=True, slots=True)
class Specimen:
    """Atoms of one slab and what they do to the beam.

    Parameters
    ----------
    coordinates : array
        (n, 3) as (x, y, z), Å, inside the box.
    element : array
        int (n,), which row of `factors` an atom has.
    weights : array
        (n,) occupancies.
    factors : array
        (elements, pixels, pixels) scattering factors with their Debye–Waller damping
        on the detector's frequencies, Å.
    absorption : float
        κ: ratio of the imaginary to the real potential.
    """

    coordinates: Array
    element: Array
    weights: Array
    factors: Array
    absorption: float = 0.0


def layer_atoms(specimens: Sequence[Specimen], grid: Grid, slices: int) -> Layers:
    """Sort the atoms of `specimens` into `slices` slices of equal length.

    Specimens share a table: in each slice and for each of their elements they have as
    many places as the fullest of them has atoms.

    Parameters
    ----------
    specimens : sequence of Specimen
        At least one.
    grid : Grid
        The box.
    slices : int
        Atoms deeper than that are left out.

    Returns
    -------
    Layers
        NumPy arrays.
    """
    elements = max(len(s.factors) for s in specimens)
    counts = np.zeros((len(specimens), slices, elements), dtype=int)
    ordered = []
    for i, specimen in enumerate(specimens):
        key = (specimen.coordinates[:, 2] // grid.step).astype(int) * elements
        key += specimen.element
        order = np.argsort(key, kind="stable")
        order = order[key[order] < slices * elements]
        counts[i].flat = np.bincount(key[order], minlength=slices * elements)
        ordered.append((order, key[order]))
    places = counts.max(0)
    starts = np.cumsum(places * len(specimens)).reshape(places.shape)
    starts -= places * len(specimens)
    atoms = np.zeros((int((places * len(specimens)).sum()), 3), dtype=np.float32)
    for i, (order, key) in enumerate(ordered):
        first = np.cumsum(counts[i].ravel()) - counts[i].ravel()
        rank = np.arange(len(order)) - first[key]
        row = starts.ravel()[key] + i * places.ravel()[key] + rank
        atoms[row, :2] = specimens[i].coordinates[order, :2] / grid.box
        atoms[row, 2] = specimens[i].weights[order]
    factors = np.zeros((len(specimens), elements, grid.pixels, grid.half), np.float32)
    keep = grid.radius()[:, grid.half :] < grid.half / grid.box
    scale = interaction_parameter(grid.voltage) * VOLT_AREA / grid.box**2
    for i, specimen in enumerate(specimens):
        half = specimen.factors[:, :, grid.half :]
        factors[i, : len(half)] = scale * half * keep
    kappa = np.array([s.absorption for s in specimens], dtype=np.float32)
    return Layers(atoms, np.stack([starts, places], -1), factors, kappa)


def _cis(phase: Array) -> Array:
    """Return exp(i phase) of a float32 array: complex64."""
    xp = namespace(phase)
    wave: Array = xp.empty(phase.shape, dtype=xp.complex64)
    xp.cos(phase, out=wave.real)
    xp.sin(phase, out=wave.imag)
    return wave


def _phases(turns: Array, first: int, count: int) -> Array:
    """exp(−2πi k x) for k = first … first + count − 1.

    Parameters
    ----------
    turns : array
        float32 (..., n), x in units of the box.
    first, count : int
        `count` is a multiple of SPLIT.

    Returns
    -------
    array
        complex64 (..., n, count).
    """
    xp = namespace(turns)
    step = xp.float32(-2.0 * np.pi)
    fine = _cis(step * turns[..., None] * xp.arange(SPLIT, dtype=xp.float32))
    coarse = first + SPLIT * xp.arange(count // SPLIT, dtype=xp.float32)
    # whole turns of the coarse phase are taken off before they cost digits
    angle = turns[..., None] * coarse
    angle -= xp.floor(angle)
    product = _cis(step * angle)[..., None] * fine[..., None, :]
    phases: Array = product.reshape(*turns.shape, count)
    return phases


def phase_shift(layers: Layers, index: int, grid: Grid) -> Array:
    """Phase σV_p that slice `index` gives the wave.

    The projected potential is the exact Fourier sum over the atoms, one product of two
    thin matrices per element: Σ_j f exp(−2πi q_y y_j) exp(−2πi q_x x_j).

    Parameters
    ----------
    layers : Layers
        Atoms and factors.
    index : int
        Which slice.
    grid : Grid
        The box.

    Returns
    -------
    array
        float32 (specimens, size, size), rad.
    """
    xp, fft = namespace(layers.factors), fft_module(layers.factors)
    n, half, size = layers.specimens, grid.half, grid.size
    total = xp.zeros((n, grid.pixels, half), dtype=xp.complex64)
    for element, (start, places) in enumerate(layers.spans[index]):
        if places:
            block = layers.atoms[start : start + n * places].reshape(n, places, 3)
            rows = _phases(block[..., 1], -half, grid.pixels)
            rows *= block[..., 2:]
            part = xp.swapaxes(rows, -1, -2) @ _phases(block[..., 0], 0, half)
            part *= layers.factors[:, element]
            total += part
    spectrum = xp.zeros((n, size, half), dtype=xp.complex64)
    spectrum[:, :half] = total[:, half:]
    spectrum[:, -half:] = total[:, :half]
    spectrum = fft.ifft(spectrum, axis=1, norm="forward", overwrite_x=True)
    phase: Array = fft.irfft(spectrum, n=size, axis=2, norm="forward")
    return phase


def transmission(phase: Array, absorption: Array) -> Array:
    """Transmission function exp(iφ − κ max(φ, 0)) of a slice.

    Parameters
    ----------
    phase : array
        float32 (specimens, size, size), rad.
    absorption : array
        float32 (specimens,), κ.

    Returns
    -------
    array
        complex64, shape of `phase`.
    """
    xp = namespace(phase)
    wave = _cis(phase)
    if float(absorption.max()) > 0:
        wave *= xp.exp(-absorption[:, None, None] * xp.maximum(phase, 0))
    return wave


def propagator(grid: Grid) -> Array:
    """Fresnel propagator over one slice, zero outside the band limit.

    Returns
    -------
    numpy.ndarray
        complex64 (pixels, pixels).
    """
    q = grid.radius()
    wave = np.exp(-1j * np.pi * grid.wavelength * grid.step * q**2)
    limited: Array = (wave * (q < grid.half / grid.box)).astype(np.complex64)
    return limited


def _through(waves: Array, screen: Array, size: int) -> Array:
    """Spectra behind a transmission function, the discarded third left away."""
    fft, pixels = fft_module(waves), waves.shape[-1]
    field = fft.ifft(waves, n=size, axis=-1)
    field = fft.ifft(field, n=size, axis=-2, overwrite_x=True)
    field *= screen[:, None]
    field = fft.fft(field, axis=-2, overwrite_x=True)[..., :pixels, :]
    spectra: Array = fft.fft(field, axis=-1)[..., :pixels]
    return spectra


def exit_waves(
    layers: Layers, probes: Array, grid: Grid, exits: Sequence[int]
) -> Iterator[Array]:
    """Spectra of the waves behind given numbers of slices, in one run.

    Parameters
    ----------
    layers : Layers
        Specimens, in the memory of the same library as `probes`.
    probes : array
        complex64 (specimens, probes, pixels, pixels) spectra of the incident waves,
        zero frequency in the middle, Σ|ψ|² = 1.
    grid : Grid
        The box.
    exits : sequence of int
        Numbers of slices, ascending, the last at most ``layers.slices``.

    Yields
    ------
    array
        complex64, shape of `probes`; |ψ|² is the diffraction pattern as a share of
        the incident beam.
    """
    xp = namespace(probes)
    step = xp.asarray(propagator(grid))
    wanted = set(exits)
    waves = probes.astype(xp.complex64)
    if 0 in wanted:
        yield waves
    for index in range(max(wanted, default=0)):
        screen = transmission(phase_shift(layers, index, grid), layers.absorption)
        waves = _through(waves, screen, grid.size) * step
        if index + 1 in wanted:
            yield waves
