"""Strain maps: signs, axes, error bars, and how other programs name the same."""

import numpy as np
import pytest
import xarray as xr
from fcunet_dask import compute_strain, reference_lattice
from fcunet_dask.errors import ParameterError, SchemaError
from fcunet_dask.lattice import given_lattice
from fcunet_dask.schema import LATTICE_VARIABLES, STRAIN_VARIABLES, annotate, validate
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import quick

SQUARE = np.array([[0.0, 0.5], [0.5, 0.0]])


def lattice_of(F, reference=SQUARE, calibration=None, grain=None):
    """Scan whose crystal was deformed by F (..., 2, 2), which acts on (x, y)."""
    F = np.broadcast_to(F, (2, 3, 2, 2))
    inverse = np.swapaxes(np.linalg.inv(F), -1, -2)
    swap = np.array([[0, 1], [1, 0]])
    G = (swap @ inverse @ swap @ reference.T).swapaxes(-1, -2)
    values = {
        "origin": np.zeros((2, 3, 2)),
        "g1": G[..., 0, :],
        "g2": G[..., 1, :],
        "lattice_covariance": np.broadcast_to(1e-8 * np.eye(6), (2, 3, 6, 6)),
        "residual": np.zeros((2, 3)),
        "n_indexed": np.full((2, 3), 9),
        "quality": np.ones((2, 3)),
        "lattice_status": np.zeros((2, 3), np.uint8),
    }
    data = {v.name: (v.dims, values[v.name]) for v in LATTICE_VARIABLES}
    out = annotate(xr.Dataset(data), *LATTICE_VARIABLES)
    if grain is not None:
        out["grain_index"] = (("scan_y", "scan_x"), np.asarray(grain, np.uint8))
    out.attrs = {"calibration": calibration or {}}
    return out


def four(strain):
    names = ("strain_xx", "strain_yy", "strain_xy", "rotation")
    return np.array([float(strain[n][1, 1]) for n in names])


REFERENCE = given_lattice(*SQUARE)
STRETCH_X = np.array([[1.03, 0.0], [0.0, 1.0]])


def test_an_expansion_along_x_is_positive_xx():
    strain = compute_strain(lattice_of(STRETCH_X), REFERENCE)
    np.testing.assert_allclose(four(strain), [0.03, 0, 0, 0], atol=1e-12)


@quick
@given(st.floats(-3, 3))
def test_a_rigid_rotation_is_no_strain(angle):
    c, s = np.cos(angle), np.sin(angle)
    strain = compute_strain(lattice_of(np.array([[c, -s], [s, c]])), REFERENCE)
    np.testing.assert_allclose(four(strain), [0, 0, 0, angle], atol=1e-9)


@pytest.mark.parametrize(
    ("axes", "xx", "yy"),
    [
        ("detector", 0.03, 0),
        *((degrees(90), 0, 0.03) for degrees in (float, int, np.int64, np.float32)),
    ],
)
def test_axes_of_the_tensor(axes, xx, yy):
    strain = compute_strain(lattice_of(STRETCH_X), REFERENCE, axes=axes)
    np.testing.assert_allclose(four(strain), [xx, yy, 0, 0], atol=1e-12)


def test_axes_along_g1():
    g1 = 0.5 * np.array([np.sin(0.3), np.cos(0.3)])  # 0.3 rad from +x towards +y
    reference = np.stack([g1, [g1[1], -g1[0]]])
    axis = g1[::-1] / 0.5
    F = np.eye(2) + 0.02 * np.outer(axis, axis)  # stretched along g1
    strain = compute_strain(
        lattice_of(F, reference), given_lattice(*reference), axes="g1"
    )
    np.testing.assert_allclose(four(strain), [0.02, 0, 0, 0], atol=1e-12)


def test_axes_along_g1_are_those_of_each_grain():
    """Two crystals, 30° apart, each stretched by 2 % along its own g1."""
    angle = np.radians(30)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    crystals = SQUARE, SQUARE @ turn.T
    axis = np.array([np.cos(angle), np.sin(angle)])  # x, y
    second = np.eye(2) + 0.02 * np.outer(axis, axis)
    lattice = lattice_of(np.diag([1.02, 1.0]), grain=[[0, 0, 0], [1, 1, 1]])
    other = lattice_of(second, crystals[1])
    C = np.zeros((6, 6))
    C[2:4, 2:4] = 1e-8 * np.outer(SQUARE[0], SQUARE[0])  # g1 is uncertain along itself
    lattice["lattice_covariance"].values = np.tile(C, (2, 3, 1, 1))
    C[2:4, 2:4] = 1e-8 * np.outer(crystals[1][0], crystals[1][0])
    lattice["lattice_covariance"].values[1] = C
    for name in ("g1", "g2"):
        lattice[name].values[1] = other[name].values[1]
    both = xr.concat([given_lattice(*c) for c in crystals], "grain")
    strain = compute_strain(lattice, both, axes="g1")
    np.testing.assert_allclose(strain["strain_xx"], 0.02, atol=1e-12)
    np.testing.assert_allclose(strain["strain_yy"], 0, atol=1e-12)
    np.testing.assert_allclose(strain["strain_xy"], 0, atol=1e-12)
    np.testing.assert_allclose(strain["strain_yy_std"], 0, atol=1e-9)
    np.testing.assert_allclose(strain["strain_xx_std"], 1e-4 * 1.02, rtol=0.03)
    assert strain.attrs["axes_degrees"] == pytest.approx([0, 30])


@pytest.mark.parametrize("rotation", [30.0, -70.0, 180.0])
def test_scan_axes_undo_the_scan_rotation(rotation):
    """The detector's x axis lies at the scan rotation from the scan's x axis."""
    a = -np.radians(rotation)
    scan_x = np.array([np.cos(a), np.sin(a)])  # as the detector sees it
    F = np.eye(2) + 0.02 * np.outer(scan_x, scan_x)
    turned = lattice_of(F, calibration={"scan_rotation": rotation})
    strain = compute_strain(turned, REFERENCE, axes="scan")
    np.testing.assert_allclose(four(strain), [0.02, 0, 0, 0], atol=1e-12)
    assert strain.attrs["axes_degrees"] == pytest.approx([-rotation])


@pytest.mark.parametrize("axes", ["g2", None, [1, 2], np.nan, np.inf])
def test_unknown_axes_are_refused(axes):
    with pytest.raises(ParameterError, match="axes"):
        compute_strain(lattice_of(STRETCH_X), REFERENCE, axes=axes)


def test_names_units_and_deviations():
    strain = compute_strain(lattice_of(STRETCH_X), REFERENCE)
    validate(strain, *STRAIN_VARIABLES)
    assert strain["rotation"].attrs["units"] == "rad"
    assert strain["strain_xx"].attrs["units"] == "1"
    sigma = float(strain["strain_xx_std"][0, 0])
    assert sigma == pytest.approx(1e-4 / 0.5 * 1.03**2, rel=1e-6)


def test_turned_axes_turn_the_deviations():
    lattice = lattice_of(np.eye(2))
    C = np.zeros((6, 6))
    C[3, 3] = 1e-8  # only g1 along x is uncertain
    lattice["lattice_covariance"].values = np.broadcast_to(C, (2, 3, 6, 6))
    along = compute_strain(lattice, REFERENCE)
    across = compute_strain(lattice, REFERENCE, axes=90)
    assert float(along["strain_xx_std"][0, 0]) == pytest.approx(2e-4)
    assert float(along["strain_yy_std"][0, 0]) == pytest.approx(0, abs=1e-12)
    assert float(across["strain_yy_std"][0, 0]) == pytest.approx(2e-4)


def test_no_lattice_is_no_strain():
    lattice = lattice_of(STRETCH_X)
    for name in ("g1", "g2", "lattice_covariance"):
        lattice[name].values = lattice[name].values.copy()
        lattice[name].values[0, 1] = np.nan
    strain = compute_strain(lattice, REFERENCE)
    for variable in STRAIN_VARIABLES:
        assert np.isnan(strain[variable.name][0, 1])
        assert np.isfinite(strain[variable.name][0, 0])


def test_each_grain_has_its_reference():
    other = np.array([[0.1, 0.5], [0.5, -0.1]])
    lattice = lattice_of(np.eye(2), grain=[[0, 0, 0], [1, 1, 1]])
    lattice["g1"].values[1], lattice["g2"].values[1] = other
    both = xr.concat([REFERENCE, given_lattice(*other)], "grain")
    strain = compute_strain(lattice, both)
    np.testing.assert_allclose(strain["strain_xx"], 0, atol=1e-12)
    np.testing.assert_allclose(strain["rotation"], 0, atol=1e-12)


def test_grains_are_counted_where_no_attribute_says_how_many():
    other = np.array([[0.1, 0.5], [0.5, -0.1]])
    lattice = lattice_of(np.eye(2), grain=[[0, 0, 0], [1, 1, 1]])
    lattice["g1"].values[1], lattice["g2"].values[1] = other
    reference = reference_lattice(lattice)
    np.testing.assert_allclose(reference["g1"], [SQUARE[0], other[0]])
    assert reference["outside"].values.tolist() == [False, False]
    strain = compute_strain(lattice, reference)
    np.testing.assert_allclose(strain["rotation"], 0, atol=1e-12)
    beside = reference_lattice(lattice, region=(slice(0, 1), slice(0, 2)))
    assert beside["outside"].values.tolist() == [False, True]
    assert beside["n_positions"].values.tolist() == [2, 3]
    only = lattice.isel(scan_y=slice(1, None))
    assert np.isnan(reference_lattice(only)["g1"][0]).all()


HEXAGONAL = np.array([[0.0, 0.5], [0.5 * np.sqrt(0.75), -0.25]])
OBLIQUE = np.array([[0.1, 0.5], [0.4, -0.15]])
PAIRS = [[[1, 0], [0, 1]], [[0, 1], [1, 0]], [[0, 1], [-1, 0]], [[1, 1], [0, 1]]]
PAIRS += [[[-1, 0], [0, -1]], [[0, 1], [-1, -1]], [[1, 0], [1, 1]], [[1, 1], [-1, 0]]]


@pytest.mark.parametrize("turn", [-10.0, 0.0, 8.0])
@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("crystal", [SQUARE, HEXAGONAL, OBLIQUE])
def test_a_reference_in_other_vectors_of_the_lattice_is_the_same(crystal, pair, turn):
    """As that of another scan, whose shortest vectors may be others."""
    U = np.array([[0.98, 0.004], [0.004, 1.01]])
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    lattice = lattice_of(np.array([[c, -s], [s, c]]) @ U, np.array(pair) @ crystal)
    vectors = [lattice[name].values[0, 0] for name in ("g1", "g2")]
    lattice.attrs["basis"] = [np.concatenate(vectors).tolist()]
    strain = compute_strain(lattice, given_lattice(*crystal))
    truth = [-0.02, 0.01, 0.004, np.radians(turn)]
    np.testing.assert_allclose(four(strain), truth, atol=1e-12)


@pytest.mark.parametrize("factor", [0.5, 2.0, 50.0])
def test_a_reference_that_is_another_lattice_is_refused(factor):
    lattice = lattice_of(STRETCH_X)
    lattice.attrs["basis"] = [SQUARE.ravel().tolist()]
    with pytest.raises(ParameterError, match="another lattice than that of grain 0"):
        compute_strain(lattice, given_lattice(*(factor * SQUARE)))


def test_a_reference_in_other_units_or_without_vectors_is_refused():
    lattice = lattice_of(STRETCH_X)
    pixels = REFERENCE.copy(deep=True)
    pixels["g1"].attrs["units"] = "px"
    with pytest.raises(ParameterError, match="in px, the lattice in 1/Å"):
        compute_strain(lattice, pixels)
    with pytest.raises(SchemaError, match="no g2"):
        compute_strain(lattice, REFERENCE.drop_vars("g2"))


def test_it_is_lazy_and_chunks_do_not_matter(never):
    lattice = lattice_of(STRETCH_X)
    whole = compute_strain(lattice, REFERENCE)
    cut = compute_strain(lattice.chunk(scan_x=2), REFERENCE)
    assert cut["strain_xx"].chunks is not None
    np.testing.assert_array_equal(
        cut["strain_xx"].compute(scheduler="synchronous"), whole["strain_xx"]
    )


def test_the_scan_is_recovered(results, scan):
    for name in ("strain_xx", "strain_yy", "strain_xy", "rotation"):
        error = results[name].values - scan[f"true_{name}"].values
        error -= np.median(error)  # the reference is the median of a strained scan
        assert np.abs(error).max() < 3e-3, name


@quick
@given(st.lists(st.floats(-0.03, 0.03), min_size=4, max_size=4))
def test_py4dstem_names_the_same_otherwise(entries):
    """Its x is the first axis; linear: e = 1 − β, β = F⁻ᵀ; θ turns the other way."""
    F = np.eye(2) + np.reshape(entries, (2, 2))
    ours = four(compute_strain(lattice_of(F), REFERENCE))
    swap = np.array([[0, 1], [1, 0]])
    beta = np.linalg.inv(swap @ F @ swap).T
    e_xx, e_yy = 1 - beta[0, 0], 1 - beta[1, 1]
    e_xy = -(beta[0, 1] + beta[1, 0]) / 2
    theta = (beta[0, 1] - beta[1, 0]) / 2
    second_order = 6 * np.abs(entries).max() ** 2 + 1e-12
    # a turn from our +x (columns) to +y (rows) is one from its y to its x
    np.testing.assert_allclose(
        ours, [e_yy, e_xx, e_xy, theta], rtol=0, atol=second_order
    )


def test_py4dstem_strain_is_first_order():
    beta = np.linalg.inv(STRETCH_X)
    assert 1 - beta[0, 0] == pytest.approx(0.029126, abs=1e-6)
    assert four(compute_strain(lattice_of(STRETCH_X), REFERENCE))[0] == pytest.approx(
        0.03
    )


def test_a_reference_region_is_the_zero_of_strain(results):
    lattice = results.load()
    reference = reference_lattice(lattice, region=(slice(None), slice(0, 2)))
    strain = compute_strain(lattice, reference)
    assert abs(float(strain["strain_xx"][:, :2].median())) < 2e-4
    assert float(strain["strain_xx"][:, -1].mean()) > 0.008
