import numpy as np
import pytest
from fcunet_dask.calibration import electron_wavelength
from fcunet_dask.errors import SimulationError
from fcunet_dask.kernels.illumination import Probe, probe_wave
from fcunet_dask.kernels.multislice import Grid, exit_waves, layer_atoms
from fcunet_dask.simulate.crystals import Crystal, load_crystals
from fcunet_dask.simulate.draw import draw_rotation
from fcunet_dask.simulate.labels import render_peaks, structure_factor_image
from fcunet_dask.simulate.recipe import LibraryRecipe
from fcunet_dask.simulate.sample import Sample, build_specimen, list_reflections


def copper():
    base = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    return Crystal(name="Cu", cell=np.eye(3) * 3.615, positions=base, numbers=[29] * 4)


def test_reflections_are_where_bragg_puts_them():
    truth = list_reflections(Sample(crystal=copper()), 200.0, q_max=1.5)
    assert not truth.hkl[0].any()
    rows = zip(truth.hkl.tolist(), truth.q, truth.error, strict=True)
    found = {tuple(h): (tuple(q), s) for h, q, s in rows}
    # x along the columns: (200) lies at q_x = 2/a; y before x
    assert found[(2, 0, 0)][0] == pytest.approx((0, 2 / 3.615))
    assert found[(0, 2, 0)][0] == pytest.approx((2 / 3.615, 0))
    s = -electron_wavelength(200.0) / 2 * (2 / 3.615) ** 2
    assert found[(2, 0, 0)][1] == pytest.approx(s, rel=1e-3)
    strength = truth.strength()
    assert (np.diff(strength[1:]) <= 0).all()


def test_strain_moves_reflections_by_the_inverse_transpose():
    deformation = np.array([[1.02, 0.01, 0], [0.01, 0.99, 0], [0, 0, 1.0]])
    plain = list_reflections(Sample(crystal=copper()), 200.0, q_max=1.2, s_max=0.1)
    sample = Sample(crystal=copper(), deformation=deformation)
    moved = list_reflections(sample, 200.0, q_max=1.4, s_max=0.12)
    places = {tuple(h): q for h, q in zip(moved.hkl.tolist(), moved.q, strict=True)}
    inverse = np.linalg.inv(deformation).T
    assert len(plain) > 8
    for hkl, q in zip(plain.hkl.tolist(), plain.q, strict=True):
        expected = inverse @ [q[1], q[0], 0]
        np.testing.assert_allclose(places[tuple(hkl)], expected[1::-1], atol=1e-12)


@pytest.mark.parametrize("seed", [0, 1])
def test_disks_of_the_multislice_lie_on_the_truth(seed):
    """The centre of mass of an isolated disk is its g_⊥: no pixel is lost between."""
    rng = np.random.default_rng(seed)
    recipe = LibraryRecipe(near_zone=1.0, off_zone=0.0)
    turn = draw_rotation(recipe, np.eye(3), rng)
    deformation = np.eye(3) + np.diag([0.015, -0.01, 0.005])
    sample = Sample(
        crystal=copper(), rotation=turn, deformation=deformation, thermal=1.0
    )
    grid = Grid(voltage=200.0, size=288, box=51.2)
    probe = Probe(semiangle=1.5)
    specimen = build_specimen(sample, grid, 4.0)
    wave = probe_wave(probe, grid.frequencies(), grid.box, grid.wavelength)
    layers = layer_atoms([specimen], grid, 2)
    (out,) = exit_waves(layers, wave[None, None], grid, [2])
    image = np.abs(out[0, 0]) ** 2
    truth = list_reflections(sample, 200.0, q_max=1.5, s_max=0.05)
    radius = 1.5e-3 / grid.wavelength
    q = grid.frequencies()
    errors = []
    for y, x in truth.q[truth.amplitude > 1.0][1:]:
        others = np.linalg.norm(truth.q - [y, x], axis=1)
        if np.sort(others)[1] > 2 * radius + 4 / grid.box:
            mask = np.hypot(q[:, None] - y, q - x) <= radius + 2 / grid.box
            part = np.where(mask, image, 0)
            center = [(part.sum(1) * q).sum(), (part.sum(0) * q).sum()] / part.sum()
            errors.append((center - [y, x]) * grid.box)
    assert len(errors) >= 6
    # a thin crystal fills its disks evenly: what is left is the slope of s over one
    assert np.abs(np.mean(errors, 0)).max() < 0.05
    assert np.abs(errors).max() < 0.5


@pytest.mark.parametrize(
    "bad",
    [
        {"rotation": np.diag([1.0, 1.0, 2.0])},
        {"deformation": np.eye(3) * 1.5},
        {"deformation": np.eye(3) * np.nan},
        {"thermal": -1.0},
        {"absorption": np.nan},
    ],
)
def test_an_impossible_sample_is_refused(bad):
    with pytest.raises(SimulationError):
        Sample(crystal=copper(), **bad)


def test_rendering_keeps_place_and_weight_at_any_size():
    q = np.array([[0.0, 0.0], [0.313, -0.207], [np.nan, np.nan]])
    values = np.array([1.0, 2.0, np.nan])
    for size, step in ((64, 0.02), (128, 0.01), (96, 0.0153)):
        image = render_peaks(q, values, (size, size + 10), step, 0.8)
        assert image.sum() == pytest.approx(3.0, rel=1e-4)
        axis = [(np.arange(n) - n // 2) * step for n in image.shape]
        center = [(image.sum(1) @ axis[0]) / 3, (image.sum(0) @ axis[1]) / 3]
        assert center == pytest.approx(
            [2 * 0.313 / 3, -2 * 0.207 / 3], abs=2e-4 * step * 50
        )


def test_target_is_relative_and_treats_the_direct_beam_as_the_strongest():
    q = np.array([[0.0, 0], [0.3, 0], [0, 0.4]])
    image = structure_factor_image(q, np.array([20.0, 4.0, 1.0]), (80, 80), 0.02)
    peaks = [image[40, 40], image[55, 40], image[40, 60]]
    assert peaks == pytest.approx(np.array([1, 1, 0.25]) * peaks[0], rel=1e-4)
    doubled = structure_factor_image(q, np.array([9.0, 8.0, 2.0]), (80, 80), 0.02)
    np.testing.assert_allclose(doubled, image, atol=1e-6)


def test_every_shipped_crystal_can_be_simulated():
    grid = Grid(voltage=200.0, box=20.0, size=96)
    for crystal in load_crystals()[::150]:
        sample = Sample(crystal=crystal)
        specimen = build_specimen(sample, grid, 60.0)
        expected = crystal.weights.sum() / crystal.volume * 20 * 20 * 60
        assert len(specimen.coordinates) == pytest.approx(expected, rel=0.25)
        assert np.isfinite(specimen.factors).all()
