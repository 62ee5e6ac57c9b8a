"""Kinematic scans are what their recipe and their truth say."""

import dask
import numpy as np
import pytest
from fcunet_dask import Calibration, simulate_scan
from fcunet_dask.errors import ParameterError
from fcunet_dask.kernels.strain import strain_tensor
from fcunet_dask.simulate.kinematic import (
    KinematicRecipe,
    disks,
    ellipse_matrix,
    strain_field,
)

SMALL = {
    "scan": (3, 5),
    "detector": (72, 88),
    "radius": 3.0,
    "g1": (3.0, 12.0),
    "g2": (12.0, -3.0),
}


def test_dims_dtype_and_units():
    scan = simulate_scan(**SMALL)
    assert scan["pattern"].dims == ("scan_y", "scan_x", "q_y", "q_x")
    assert scan["pattern"].dtype == np.uint16
    assert scan["q_x"].attrs["units"] == "1/Å"
    assert scan["scan_y"].attrs["units"] == "nm"
    assert float(scan["q_y"][36]) == 0
    assert float(scan["q_x"][44]) == 0


def test_it_is_lazy_and_blocks_do_not_matter(never):
    lazy = simulate_scan(**SMALL, blocks=(2, 2))
    assert lazy["pattern"].chunks[:2] == ((2, 1), (2, 2, 1))
    with dask.config.set(scheduler="synchronous"):
        parts = lazy["pattern"].values
        whole = simulate_scan(**SMALL, blocks=None)["pattern"].values
    np.testing.assert_array_equal(parts, whole)


def test_seeds_make_the_difference():
    first, again, other = (
        simulate_scan(**SMALL, seed=s, blocks=None)["pattern"].values for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_the_dose_is_in_the_patterns():
    scan = simulate_scan(**SMALL, dose=5e4, blocks=None)
    total = scan["pattern"].values.sum(axis=(2, 3))
    np.testing.assert_allclose(total, 5e4, rtol=0.15)
    assert total.mean() == pytest.approx(5e4, rel=0.03)


def test_the_brightest_pixels_are_at_the_true_origin():
    scan = simulate_scan(
        **SMALL, structure=0.0, descan=(6.0, -8.0), dose=1e5, blocks=None
    )
    step = 0.02
    middle = np.array([36, 44])
    for y, x in ((0, 0), (2, 4), (0, 4)):
        at = scan["true_origin"].values[y, x] / step + middle
        pattern = scan["pattern"].values[y, x].astype(float)
        rows, columns = np.indices(pattern.shape)
        near = np.hypot(rows - at[0], columns - at[1]) < 5
        weight = pattern * near
        centre = (weight * rows).sum(), (weight * columns).sum()
        np.testing.assert_allclose(np.array(centre) / weight.sum(), at, atol=0.15)
    travel = np.ptp(scan["true_origin"].values, axis=(0, 1)) / step
    np.testing.assert_allclose(travel, [6, 8])


def test_true_vectors_hold_the_true_strain():
    scan = simulate_scan(**SMALL, blocks=None)
    vectors = np.concatenate([scan["true_g1"].values, scan["true_g2"].values], -1)
    strain = strain_tensor(vectors, 0.02 * np.array([3.0, 12.0, 12.0, -3.0]))[0]
    names = ("true_strain_xx", "true_strain_yy", "true_strain_xy", "true_rotation")
    truth = np.stack([scan[n].values for n in names], -1)
    np.testing.assert_allclose(strain, truth, atol=1e-12)


def test_the_first_quarter_of_the_columns_is_unstrained():
    strain, turn = strain_field(KinematicRecipe(scan=(4, 16)))
    assert (strain[:, :4] == 0).all()
    assert (turn[:, :4] == 0).all()
    assert np.abs(strain[:, -1]).min() > 0
    assert strain[..., 0].max() == pytest.approx(0.02, rel=0.15)


@pytest.mark.parametrize(("angle", "axis"), [(0, (0, 1)), (90, (1, 0)), (45, (1, 1))])
def test_the_ellipse_stretches_along_its_angle(angle, axis):
    matrix = ellipse_matrix(KinematicRecipe(ellipse=(1.05, angle)))
    axis = np.array(axis) / np.hypot(*axis)
    np.testing.assert_allclose(matrix @ axis, 1.05 * axis, atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1.05)


def test_disks_are_within_the_detector_the_beam_first():
    recipe = KinematicRecipe(**SMALL)
    found = disks(recipe)
    assert (found.indices[0] == 0).all()
    assert found.electrons.sum() == pytest.approx(recipe.dose * 0.95)
    at = np.array(recipe.beam) + found.indices @ np.array([recipe.g1, recipe.g2])
    assert (at > recipe.radius).all()
    assert (at < np.array(recipe.detector) - recipe.radius).all()


def test_vacuum_has_the_beam_alone():
    scan = simulate_scan(
        **SMALL, vacuum_columns=2, background=0.0, dose=1e5, descan=(0, 0), blocks=None
    )
    counts = scan["pattern"].values[:, -2:]
    at = scan["true_origin"].values[0, 0] / 0.02 + [36, 44]
    rows, columns = np.indices(counts.shape[2:])
    away = np.hypot(rows - at[0], columns - at[1]) > 6
    assert counts[..., away].sum() == 0
    np.testing.assert_allclose(counts.sum(axis=(2, 3)), 1e5, rtol=0.02)


def test_hot_pixels_are_stuck():
    scan = simulate_scan(**SMALL, hot_pixels=4, blocks=None)
    stuck = (scan["pattern"].values == 60_000).all(axis=(0, 1))
    assert stuck.sum() == 4


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1)])
def test_scans_of_one_row_column_or_position(shape):
    scan = simulate_scan(**{**SMALL, "scan": shape}, blocks=None)
    assert scan["pattern"].shape == (*shape, 72, 88)
    assert np.isfinite(scan["true_origin"]).all()


@pytest.mark.parametrize("strain", [0.08, -0.08])
@pytest.mark.parametrize("rotation", [0.0, 8.0])
def test_large_strains_and_turns_keep_the_dose(strain, rotation):
    """Disks may leave the detector; they do not come back on its other side."""
    scan = simulate_scan(
        **{**SMALL, "scan": (2, 4), "radius": 5.0},
        strain=strain,
        rotation=rotation,
        background=0.0,
        structure=0.0,
        descan=(0.0, 0.0),
        blocks=None,
    )
    counts = scan["pattern"].values[0, -1].astype(float)
    G = np.stack([scan["true_g1"].values[0, -1], scan["true_g2"].values[0, -1]]) / 0.02
    rows, columns = np.indices(counts.shape)
    at = scan["true_origin"].values[0, -1] / 0.02 + [36, 44]
    q = np.stack([rows, columns], -1) - at
    indices = q @ np.linalg.inv(G)
    far = np.hypot(*np.moveaxis((indices - np.rint(indices)) @ G, -1, 0)) > 7.5
    assert counts[far].sum() < 0.002 * counts.sum()


def test_a_calibration_of_px():
    scan = simulate_scan(**SMALL, calibration=Calibration())
    assert scan["q_y"].attrs["units"] == "px"


@pytest.mark.parametrize(
    "wrong",
    [
        {"scan": (0, 3)},
        {"detector": (4, 64)},
        {"radius": 0},
        {"radius": 40.0},
        {"dose": -1},
        {"background": 1.0},
        {"central": 0.0},
        {"center": (-30.0, 64.0)},
    ],
)
def test_impossible_recipes_are_refused(wrong):
    with pytest.raises(ParameterError):
        KinematicRecipe(**wrong)
