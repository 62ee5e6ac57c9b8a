import numpy as np
import pytest
from fcunet_dask.errors import ParameterError
from fcunet_dask.kernels.bloch import (
    Beams,
    bloch_waves,
    disk_tilts,
    select_beams,
    structure_matrix,
)
from fcunet_dask.kernels.scattering import (
    excitation_error,
    interaction_parameter,
    miller_indices,
    paraxial_error,
)

VOLTAGE = 200.0
HKL = np.array([[0, 0, 0], [1, 0, 0], [-1, 0, 0]])


def two_beams(v, g=0.5):
    beams = Beams(HKL[:2], np.array([[0.0, 0, 0], [g, 0, 0]]))
    return beams, structure_matrix(beams, HKL, np.array([0, v, v]), VOLTAGE)


def test_two_beams_beat_as_hirsch_says():
    beams, matrix = two_beams(6.0)
    fringe = np.pi / (interaction_parameter(VOLTAGE) * 6.0)
    thickness = np.linspace(0, 3 * fringe, 43)
    tilts = np.array([[-0.25, 0], [-0.2, 0], [0.0, 0.1]])
    found = np.abs(bloch_waves(beams, matrix, tilts, thickness, VOLTAGE)[..., 1]) ** 2
    s = paraxial_error(beams.g, tilts, VOLTAGE)[:, 1:]
    rate = np.sqrt(s**2 + 1 / fringe**2)
    expected = np.sin(np.pi * thickness * rate) ** 2 / (fringe * rate) ** 2
    np.testing.assert_allclose(found, expected, atol=1e-10)
    assert abs(s[0, 0]) < 1e-12
    assert found[0].max() > 0.99


def test_intensity_is_conserved_and_absorption_takes_it_away():
    beams, matrix = two_beams(6.0)
    waves = bloch_waves(beams, matrix, np.zeros((1, 2)), np.array([500.0]), VOLTAGE)
    assert (np.abs(waves) ** 2).sum() == pytest.approx(1, abs=1e-12)
    lossy = matrix + 0.05j * np.eye(2) * matrix[0, 1]
    waves = bloch_waves(beams, lossy, np.zeros((1, 2)), np.array([500.0]), VOLTAGE)
    expected = np.exp(-2 * 0.05 * matrix[0, 1].real * 500.0)
    assert (np.abs(waves) ** 2).sum() == pytest.approx(expected, rel=1e-9)


def test_selected_beams_are_near_the_sphere_for_every_tilt():
    cell, turn = np.diag([4.0, 5.0, 6.0]), np.eye(3)
    beams = select_beams(cell, turn, VOLTAGE, g_max=2.0, s_max=0.03, tilt_max=0.1)
    assert not beams.hkl[0].any()
    hkl = miller_indices(cell, 2.0)
    g = hkl @ np.linalg.inv(cell).T
    tilts = disk_tilts(0.1, 4)
    reached = np.abs(paraxial_error(g, tilts, VOLTAGE)).min(0) <= 0.03
    chosen = {tuple(h) for h in beams.hkl.tolist()}
    assert {tuple(h) for h in hkl[reached].tolist()} <= chosen


def test_both_excitation_errors_agree_to_second_order():
    rng = np.random.default_rng(0)
    g = rng.uniform(-1, 1, (50, 3)) * [1.5, 1.5, 0.05]
    exact, near = (
        excitation_error(g, VOLTAGE),
        paraxial_error(g, np.zeros((1, 2)), VOLTAGE),
    )
    # next term of the square root: λ³ g_⊥⁴ / 8
    bound = 0.0250793**3 * np.linalg.norm(g[:, :2], axis=1) ** 4 / 8
    assert (np.abs(exact - near[0]) <= 1.01 * bound + 1e-12).all()
    assert np.abs(exact - near[0]).max() > 1e-5
    # a point on the sphere has none, one inside a positive one
    k = 1 / 0.0250793
    on = np.array([1.0, 0.0, np.sqrt(k**2 - 1) - k])
    assert abs(excitation_error(on, VOLTAGE)) < 1e-6
    assert excitation_error(on - [0, 0, 0.01], VOLTAGE) == pytest.approx(0.01, abs=1e-6)


def test_tilts_fill_the_aperture_evenly():
    tilts = disk_tilts(0.1, 8)
    radius = np.linalg.norm(tilts, axis=1)
    assert radius.max() < 0.1
    assert np.mean(radius < 0.05) == pytest.approx(0.25, abs=0.01)
    assert np.abs(tilts.mean(0)).max() < 1e-3


def test_beams_must_begin_with_the_incident_one():
    beams = Beams(HKL[1:], np.zeros((2, 3)))
    with pytest.raises(ParameterError, match="first beam"):
        bloch_waves(beams, np.zeros((2, 2)), np.zeros((1, 2)), np.ones(1), VOLTAGE)
