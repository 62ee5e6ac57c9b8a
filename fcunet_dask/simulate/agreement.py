"""Two solvers that share nothing but the crystal, compared disk by disk."""

from dataclasses import dataclass

import numpy as np

from fcunet_dask._computing import computing
from fcunet_dask.kernels.bloch import (
    Beams,
    bloch_waves,
    disk_tilts,
    select_beams,
    structure_matrix,
)
from fcunet_dask.kernels.illumination import Probe, probe_wave
from fcunet_dask.kernels.multislice import Grid, exit_waves, layer_atoms
from fcunet_dask.kernels.scattering import miller_indices
from fcunet_dask.simulate.sample import Sample, build_specimen
from fcunet_dask.types import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """How finely the Bloch-wave solver looks.

    Parameters
    ----------
    g_max : float
        Longest beam, 1/Å.
    s_max : float
        Largest excitation error of a beam, 1/Å.
    rings : int
        Rings of 15 tilts in the aperture.
    threshold : float
        Disks that never reach this share of the beam are left out.
    """

    g_max: float = 2.2
    s_max: float = 0.05
    rings: int = 4
    threshold: float = 3e-4


@dataclass(frozen=True, slots=True, eq=False)
class Agreement:
    """Intensities of disks from both solvers.

    Parameters
    ----------
    hkl : array
        int (disks, 3): the strongest reflection of each; disks that overlap are summed.
    bloch, multislice : array
        float64 (thicknesses, disks): share of the incident beam.
    total : array
        float64 (thicknesses,): all intensity of the multislice.
    beams : int
        Size of the structure matrix.
    """

    hkl: Array
    bloch: Array
    multislice: Array
    total: Array
    beams: int

    @property
    def sum_of_differences(self) -> Array:
        """R = Σ|ΔI| over the disks, share of the beam: float64 (thicknesses,)."""
        return np.asarray(np.abs(self.bloch - self.multislice).sum(1))

    @property
    def largest_difference(self) -> Array:
        """Largest |ΔI| of a disk, share of the beam: float64 (thicknesses,)."""
        return np.asarray(np.abs(self.bloch - self.multislice).max(1))


def compare_solvers(
    sample: Sample,
    probe: Probe,
    grid: Grid,
    thicknesses: Array,
    accuracy: Accuracy | None = None,
) -> Agreement:
    """Compare multislice and Bloch waves on one sample, disk by disk.

    The multislice cuts a slab out of the crystal, the Bloch waves know its unit cell
    only; they have the form factors in common.

    Parameters
    ----------
    sample : Sample
        Unbent; its absorption is used by both.
    probe : Probe
        A plain aperture.
    grid : Grid
        Box of the multislice.
    thicknesses : array
        (t,), Å, whole slices.
    accuracy : Accuracy or None
        Of the Bloch waves.

    Returns
    -------
    Agreement
        Disks inside the detector.
    """
    accuracy = accuracy or Accuracy()
    radius = probe.semiangle * 1e-3 / grid.wavelength
    with computing():
        beams, reference = _bloch(sample, grid, radius, thicknesses, accuracy)
        patterns = _multislice(sample, probe, grid, thicknesses)
    strongest = reference.max(0)
    flat = beams.g[:, 1::-1]
    inside = np.linalg.norm(flat, axis=1) < grid.half / grid.box - 2 * radius
    seen = np.flatnonzero((strongest > accuracy.threshold) & inside)
    groups = _merge(flat[seen], 2 * radius + 3 / grid.box)
    rows = []
    for group in groups:
        members = seen[group]
        mask = _disk_mask(flat[members], radius + 1.5 / grid.box, grid)
        best = members[np.argmax(strongest[members])]
        # beams below the threshold that fall into the disk belong to it, too
        near = np.linalg.norm(flat[:, None] - flat[members], axis=-1).min(1)
        owned = near < radius
        rows.append(
            (beams.hkl[best], reference[:, owned].sum(1), patterns[:, mask].sum(1))
        )
    hkl, bloch, found = zip(*rows, strict=True)
    return Agreement(
        np.array(hkl),
        np.array(bloch).T,
        np.array(found).T,
        patterns.sum((1, 2)),
        len(beams.hkl),
    )


def _bloch(
    sample: Sample, grid: Grid, radius: float, depth: Array, accuracy: Accuracy
) -> tuple[Beams, Array]:
    """Beams and their intensities averaged over the aperture: (thicknesses, beams)."""
    cell = sample.lab_cell
    beams = select_beams(
        cell,
        np.eye(3),
        grid.voltage,
        g_max=accuracy.g_max,
        s_max=accuracy.s_max,
        tilt_max=radius,
    )
    hkl = miller_indices(cell, 2 * accuracy.g_max)
    potential = sample.crystal.structure_factors(hkl, sample.thermal, cell)
    potential = potential * (1 + 1j * sample.absorption)
    matrix = structure_matrix(beams, hkl, potential, grid.voltage)
    tilts = disk_tilts(radius, accuracy.rings)
    waves = bloch_waves(beams, matrix, tilts, depth, grid.voltage)
    return beams, (np.abs(waves) ** 2).mean(0)


def _multislice(sample: Sample, probe: Probe, grid: Grid, depth: Array) -> Array:
    """Patterns behind each thickness: (thicknesses, q_y, q_x)."""
    exits = [round(float(t) / grid.step) for t in depth]
    specimen = build_specimen(sample, grid, exits[-1] * grid.step)
    layers = layer_atoms([specimen], grid, exits[-1])
    wave = probe_wave(probe, grid.frequencies(), grid.box, grid.wavelength)
    steps = exit_waves(layers, wave[None, None], grid, exits)
    return np.stack([np.abs(w[0, 0]) ** 2 for w in steps])


def _merge(places: Array, reach: float) -> list[list[int]]:
    """Group disks that touch, however indirectly."""
    close = np.linalg.norm(places[:, None] - places[None], axis=-1) < reach
    left, groups = set(range(len(places))), []
    while left:
        group, edge = set(), {min(left)}
        while edge:
            group |= edge
            edge = set(np.flatnonzero(close[list(edge)].any(0)).tolist()) - group
        groups.append(sorted(group))
        left -= group
    return groups


def _disk_mask(centers: Array, radius: float, grid: Grid) -> Array:
    """Pixels within `radius` of any of the centres (y, x)."""
    q = grid.frequencies()
    mask = np.zeros((grid.pixels, grid.pixels), dtype=bool)
    for y, x in centers:
        mask |= np.hypot(q[:, None] - y, q - x) <= radius
    return mask
