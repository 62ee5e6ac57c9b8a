"""Laws that the multislice must obey, each with its own answer."""

import numpy as np
import pytest
from fcunet_dask.errors import ParameterError
from fcunet_dask.kernels.illumination import Probe, probe_wave
from fcunet_dask.kernels.multislice import (
    Grid,
    Specimen,
    exit_waves,
    layer_atoms,
    phase_shift,
    propagator,
)
from fcunet_dask.kernels.scattering import VOLT_AREA, interaction_parameter

GRID = Grid(box=20.0, size=96, step=2.0, voltage=100.0)


def random_specimen(seed=0, *, absorption=0.0, grid=GRID, depth=20.0, atoms=300):
    rng = np.random.default_rng(seed)
    xyz = rng.uniform(0, 1, (atoms, 3)) * [grid.box, grid.box, depth]
    g2 = grid.radius() ** 2
    factors = np.stack([3 * np.exp(-0.8 * g2), 6 * np.exp(-0.6 * g2)])
    return Specimen(xyz, rng.integers(0, 2, atoms), np.ones(atoms), factors, absorption)


def plane_wave(grid, pixel=(0, 0)):
    wave = np.zeros((1, 1, grid.pixels, grid.pixels), np.complex64)
    wave[..., grid.half + pixel[0], grid.half + pixel[1]] = 1
    return wave


def probes(grid, *semiangles):
    waves = [
        probe_wave(Probe(semiangle=a), grid.frequencies(), grid.box, grid.wavelength)
        for a in semiangles
    ]
    return np.stack(waves)[None]


def run(specimens, waves, exits, grid=GRID):
    layers = layer_atoms(specimens, grid, max(exits))
    return np.stack(list(exit_waves(layers, waves, grid, exits)), 2)


def test_projected_potential_is_the_sum_over_the_atoms():
    specimen = random_specimen(atoms=40)
    layers = layer_atoms([specimen], GRID, 10)
    x = np.arange(GRID.size) * GRID.box / GRID.size
    q = GRID.frequencies()
    limit = GRID.radius() < GRID.half / GRID.box
    for index in (0, 7):
        expected = np.zeros((GRID.size, GRID.size))
        slab = np.flatnonzero(specimen.coordinates[:, 2] // GRID.step == index)
        for a in slab:
            f = specimen.factors[specimen.element[a]] * limit
            ey = np.exp(2j * np.pi * np.outer(x - specimen.coordinates[a, 1], q))
            ex = np.exp(2j * np.pi * np.outer(x - specimen.coordinates[a, 0], q))
            expected += (ey @ f @ ex.T).real * VOLT_AREA / GRID.box**2
        expected *= interaction_parameter(GRID.voltage)
        found = phase_shift(layers, index, GRID)[0]
        assert len(slab) > 0
        # float32 places: 3e-8 turns × 2π × 32 periods = 6e-6 rad
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_occupancy_scales_the_potential():
    whole = random_specimen(atoms=40)
    half = Specimen(whole.coordinates, whole.element, np.full(40, 0.5), whole.factors)
    both = layer_atoms([whole, half], GRID, 10)
    phase = phase_shift(both, 3, GRID)
    np.testing.assert_allclose(phase[1], phase[0] / 2, atol=1e-6)


def test_energy_is_conserved_without_absorption():
    grid = Grid(box=20.0, size=192, step=2.0, voltage=200.0)
    thin = random_specimen(grid=grid, depth=100.0, atoms=1200)
    total = (np.abs(run([thin], probes(grid, 8.0), [1, 10, 50], grid)) ** 2).sum(
        (-1, -2)
    )
    assert (total <= 1 + 1e-5).all()
    # what is missing has left through the band limit, not through the solver
    assert (total > 0.995).all()
    assert (np.diff(total, axis=-1) <= 1e-6).all()


def test_absorption_removes_what_the_potential_says():
    # behind one slice of a uniformly lit field: the mean of exp(−2κ max(φ, 0))
    kappa = 0.3
    clear, dim = random_specimen(), random_specimen(absorption=kappa)
    waves = np.concatenate([plane_wave(GRID)] * 2)
    total = (np.abs(run([clear, dim], waves, [1])) ** 2).sum((-1, -2))[:, 0, 0]
    phase = phase_shift(layer_atoms([clear], GRID, 1), 0, GRID)[0]
    expected = np.exp(-2 * kappa * np.maximum(phase, 0)).mean()
    assert total[1] / total[0] == pytest.approx(expected, abs=2e-4)
    assert expected < 0.99


def test_specimens_and_probes_do_not_know_of_each_other():
    many = [
        random_specimen(s, absorption=0.01 * s, atoms=200 + 50 * s) for s in range(3)
    ]
    waves = np.repeat(probes(GRID, 6.0, 9.0), 3, 0)
    together = run(many, waves, [4, 10])
    for i, specimen in enumerate(many):
        for j in range(2):
            alone = run([specimen], waves[i : i + 1, j : j + 1], [4, 10])
            scale = np.abs(alone).max()
            np.testing.assert_allclose(together[i, j], alone[0, 0], atol=2e-6 * scale)


def test_every_thickness_of_one_run_is_a_run_of_that_thickness():
    series = run([random_specimen()], probes(GRID, 6.0), [3, 7, 10])
    for i, exit_ in enumerate((3, 7, 10)):
        single = run([random_specimen()], probes(GRID, 6.0), [exit_])
        np.testing.assert_array_equal(series[:, :, i], single[:, :, 0])


def test_vacuum_changes_no_intensity_and_defocuses():
    empty = Specimen(
        np.zeros((0, 3)), np.zeros(0, int), np.zeros(0), np.ones((1, 64, 64))
    )
    wave = probes(GRID, 6.0)
    behind = run([empty], wave, [0, 10])
    np.testing.assert_allclose(np.abs(behind[:, :, 1]), np.abs(wave), atol=1e-6)
    q = GRID.radius()
    fresnel = np.exp(-1j * np.pi * GRID.wavelength * 20.0 * q**2)
    np.testing.assert_allclose(behind[0, 0, 1], wave[0, 0] * fresnel, atol=1e-6)


def lattice_planes(grid, order, fringe, thickness):
    """Planes across x whose only reflections are ±g, g = order/box."""
    places = np.arange(order) * grid.box / order
    z = np.arange(0.5, thickness / grid.step) * grid.step
    x, depth = np.meshgrid(places, z, indexing="ij")
    coordinates = np.stack([x.ravel(), np.zeros(x.size), depth.ravel()], -1)
    factors = np.zeros((1, grid.pixels, grid.pixels))
    # σV_p of ±g: f · σ · VOLT_AREA / box² · order per slice = π Δz / ξ_g
    value = np.pi * grid.step / fringe
    value /= interaction_parameter(grid.voltage) * VOLT_AREA / grid.box**2 * order
    factors[0, grid.half, grid.half + order] = value
    factors[0, grid.half, grid.half - order] = value
    n = x.size
    return Specimen(coordinates, np.zeros(n, int), np.ones(n), factors)


@pytest.mark.parametrize("off", [0, 1, 2])
def test_two_beams_beat_as_hirsch_says(off):
    """I_g = sin²(π t √(s² + 1/ξ²)) / (1 + s²ξ²), Hirsch et al. (1977), eq. 8.18."""
    grid = Grid(box=32.0, size=192, step=1.0, voltage=100.0)
    order, fringe = 40, 800.0
    g, tilt = order / grid.box, (-order // 2 + off) / grid.box
    s = -grid.wavelength / 2 * (g**2 + 2 * tilt * g)
    exits = np.arange(100, 1201, 100)
    specimen = lattice_planes(grid, order, fringe, 1200.0)
    wave = plane_wave(grid, (0, -order // 2 + off))
    intensity = np.abs(run([specimen], wave, exits.tolist(), grid)[0, 0]) ** 2
    found = intensity[:, grid.half, grid.half + order // 2 + off]
    rate = np.sqrt(s**2 + 1 / fringe**2)
    expected = np.sin(np.pi * exits * rate) ** 2 / (fringe * rate) ** 2
    np.testing.assert_allclose(found, expected, atol=0.004)
    assert expected.max() > (0.99, 0.2, 0.05)[off]


def test_a_thin_weak_crystal_scatters_kinematically():
    """I_g = (σ V_g t)² sinc²(s t): the first Born approximation."""
    grid = Grid(box=32.0, size=192, step=1.0, voltage=100.0)
    order, fringe = 24, 2e5
    g = order / grid.box
    s = -grid.wavelength / 2 * g**2
    exits = np.arange(20, 201, 20)
    specimen = lattice_planes(grid, order, fringe, 200.0)
    intensity = (
        np.abs(run([specimen], plane_wave(grid), exits.tolist(), grid)[0, 0]) ** 2
    )
    found = intensity[:, grid.half, grid.half + order]
    expected = (np.pi * exits / fringe * np.sinc(s * exits)) ** 2
    np.testing.assert_allclose(found, expected, atol=0.01 * expected.max())


def test_layers_move_between_memories():
    layers = layer_atoms([random_specimen()], GRID, 5)
    moved = layers.to(np)
    assert (moved.specimens, moved.slices) == (1, 5)
    np.testing.assert_array_equal(moved.atoms, layers.atoms)


def test_band_limit_is_two_thirds():
    step = propagator(GRID)
    limit = GRID.half / GRID.box
    assert (step[GRID.radius() >= limit] == 0).all()
    assert np.abs(np.abs(step[GRID.radius() < limit]) - 1).max() < 1e-6


@pytest.mark.parametrize(
    "bad", [{"size": 100}, {"size": 0}, {"box": -1.0}, {"step": 0.0}, {"voltage": -5.0}]
)
def test_an_impossible_grid_is_refused(bad):
    with pytest.raises(ParameterError):
        Grid(**bad)
