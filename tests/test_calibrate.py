"""Origin, ellipse and scale are found, and undone with the right sign."""

import numpy as np
import pytest
import xarray as xr
from fcunet_dask import Calibration, apply_calibration, find_lattice, measure_origin
from fcunet_dask.calibrate import measure_ellipse, measure_rings, with_scale
from fcunet_dask.errors import AnalysisError, ParameterError, SchemaError
from fcunet_dask.lattice import given_lattice
from fcunet_dask.peaks import bragg_vector_map
from fcunet_dask.schema import BRAGG_VARIABLES, annotate

BASIS = np.array([[0.08, 0.33], [0.33, -0.08]])
STRETCH = np.array([[1.02, 0.013], [0.013, 0.99]])


def bragg_of(origin, basis=BASIS, vacuum=None, rng=None):
    """Bragg vectors of lattices at `origin` (rows, columns, 2), beam brightest."""
    axis = np.arange(-2, 3)
    hk = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    hk = hk[np.argsort((hk**2).sum(1), kind="stable")]
    position = origin[:, :, None] + hk @ basis
    if rng is not None:
        position = position + 0.001 * rng.normal(size=position.shape)
    scan = position.shape[:2]
    intensity = np.broadcast_to(100.0 / (1 + (hk**2).sum(1)), (*scan, 25)).copy()
    if vacuum is not None:
        position[vacuum, 1:] = np.nan
        intensity[vacuum, 1:] = np.nan
    covariance = np.full((*scan, 25, 3), [1e-6, 0, 1e-6])
    values = {
        "bragg_q": position,
        "bragg_intensity": intensity,
        "bragg_score": np.ones_like(intensity),
        "bragg_structure_factor": np.full_like(intensity, np.nan),
        "bragg_probability": np.full_like(intensity, np.nan),
        "bragg_covariance": covariance,
        "pattern_status": np.zeros(scan, np.uint8),
    }
    data = {v.name: (v.dims, values[v.name]) for v in BRAGG_VARIABLES}
    coords = {"component": ["y", "x"], "pair": ["yy", "yx", "xx"]}
    return annotate(xr.Dataset(data, coords), *BRAGG_VARIABLES)


def descan(shape, kind="plane"):
    y, x = np.indices(shape) / 10
    bend = 0.3 * x * x if kind == "parabola" else 0
    return np.stack([0.4 + 0.05 * y + 0.02 * x, -0.7 - 0.09 * x + bend * 0.3], -1)


@pytest.mark.parametrize("kind", ["plane", "parabola"])
@pytest.mark.parametrize("lazy", [False, True])
def test_the_origin_of_every_position(kind, lazy):
    rng = np.random.default_rng(1)
    truth = descan((9, 12), kind)
    vacuum = np.zeros((9, 12), bool)
    vacuum[:, 9:] = True
    bragg = bragg_of(truth, vacuum=vacuum, rng=rng)
    found = measure_origin(bragg.chunk(scan_y=4) if lazy else bragg)
    np.testing.assert_allclose(found["origin"], truth, atol=0.003)
    assert found.attrs["kind"] == kind
    assert found.attrs["measured"] == 9 * 12
    assert found["origin"].attrs["units"] == "1/Å"


def test_a_beam_that_moves_farther_than_to_the_next_disk_is_followed():
    """By 1.4 times the distance: at both ends another disk is nearer to the median."""
    along = np.linspace(-0.7, 0.7, 12)[:, None] * np.hypot(*BASIS[0])
    truth = np.tile([0.4, -0.7] + along * [0.8, -0.6], (9, 1, 1))
    found = measure_origin(bragg_of(truth, rng=np.random.default_rng(3)))
    np.testing.assert_allclose(found["origin"], truth, atol=0.003)


def far(shape, distances, bend=0.0):
    """Origins that move by so many distances of disks over a scan."""
    y, x = (np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in shape)
    along = (
        0.5
        * distances
        * (0.6 * y[:, None] + 0.4 * x)
        / (0.6 * (shape[0] > 1) + 0.4 * (shape[1] > 1))
    )
    across = bend * (x**2 + 0.5 * y[:, None] ** 2)
    moved = along[..., None] * [0.6, 0.8] + across[..., None] * [0.8, -0.6]
    return [0.4, -0.7] + np.hypot(*BASIS[0]) * moved


def grainy(bragg, truth, rng):
    """Turn the disks of the right half about the beam."""
    c, s = np.cos(0.6), np.sin(0.6)
    half = truth.shape[1] // 2
    away = bragg["bragg_q"].values[:, half:] - truth[:, half:, None]
    turned = away @ np.array([[c, s], [-s, c]]) + truth[:, half:, None]
    bragg["bragg_q"].values[:, half:] = turned


def strained(bragg, truth, rng):
    """Stretch the lattice by up to 4 % along the scan."""
    stretch = np.linspace(-0.04, 0.04, truth.shape[1])[:, None, None]
    away = bragg["bragg_q"].values - truth[:, :, None]
    bragg["bragg_q"].values[:] += away * stretch


def mistaken(bragg, truth, rng):
    """Make another disk the brightest in a third of the positions."""
    wrong = rng.random(truth.shape[:2]) < 0.35
    bragg["bragg_intensity"].values[wrong, rng.integers(1, 9)] = 1e4
    sort_disks(bragg)


def thinned(bragg, truth, rng):
    """Lose a third of the disks, and all of one row and column."""
    lost = rng.random(bragg["bragg_intensity"].shape) < 0.35
    lost[len(lost) // 3] = lost[:, 2] = True
    bragg["bragg_q"].values[lost] = np.nan
    bragg["bragg_intensity"].values[lost] = np.nan
    sort_disks(bragg)


def empty(bragg, truth, rng):
    """Leave nothing but the beam on a quarter of the scan."""
    vacuum = 3 * truth.shape[1] // 4
    bragg["bragg_q"].values[:, vacuum:, 1:] = np.nan
    bragg["bragg_intensity"].values[:, vacuum:, 1:] = np.nan


@pytest.mark.parametrize("shape", [(14, 18), (40, 30)])
@pytest.mark.parametrize("distances", [3.0, 5.0])
@pytest.mark.parametrize("change", [grainy, strained, mistaken, thinned, empty])
def test_a_beam_that_moves_by_several_disks_is_followed(shape, distances, change):
    rng = np.random.default_rng([shape[0], int(distances)])
    truth = far(shape, distances, bend=0.4)
    bragg = bragg_of(truth, rng=rng)
    change(bragg, truth, rng)
    found = measure_origin(bragg)
    np.testing.assert_allclose(found["origin"], truth, atol=0.006)


@pytest.mark.parametrize("shape", [(1, 40), (60, 1)])
def test_a_line_has_a_beam_that_moves_and_bends(shape):
    truth = far(shape, 3.0, bend=0.4)
    found = measure_origin(bragg_of(truth, rng=np.random.default_rng(6)))
    np.testing.assert_allclose(found["origin"], truth, atol=0.003)
    assert found.attrs["kind"] == "parabola"


def test_steps_of_more_than_half_a_disk_are_those_of_the_brightest():
    truth = far((6, 6), 6.0)
    found = measure_origin(bragg_of(truth, rng=np.random.default_rng(7)))
    np.testing.assert_allclose(found["origin"], truth, atol=0.003)


def test_a_large_scan_is_followed_from_a_part_of_it(monkeypatch):
    monkeypatch.setattr("fcunet_dask.calibrate.origin._FOLLOWED", 100)
    truth = far((41, 30), 3.0, bend=0.4)
    bragg = bragg_of(truth, rng=np.random.default_rng(8)).chunk(scan_y=16, scan_x=7)
    np.testing.assert_allclose(measure_origin(bragg)["origin"], truth, atol=0.003)


def test_where_the_beam_is_expected_may_be_told():
    truth = far((9, 12), 3.0)
    beside = truth + BASIS[1]
    expected = tuple(np.median(beside, axis=(0, 1)) + 0.05)
    found = measure_origin(bragg_of(truth), expected=expected)
    np.testing.assert_allclose(found["origin"], beside, atol=0.003)


def sort_disks(bragg):
    """Put the brightest disk of each pattern first."""
    order = np.argsort(-bragg["bragg_intensity"].values, axis=2, kind="stable")
    for name in ("bragg_q", "bragg_intensity"):
        values = bragg[name].values
        index = order if values.ndim == 3 else order[..., None]
        bragg[name].values[:] = np.take_along_axis(values, index, axis=2)


def test_a_mistaken_beam_is_outvoted():
    rng = np.random.default_rng(2)
    truth = descan((9, 12))
    bragg = bragg_of(truth, rng=rng)
    wrong = rng.random((9, 12)) < 0.25
    bragg["bragg_intensity"].values[wrong, 1] = 1e4  # another disk is the brightest
    sort_disks(bragg)
    found = measure_origin(bragg)
    np.testing.assert_allclose(found["origin"], truth, atol=0.003)


def test_a_missing_beam_is_filled_in():
    truth = descan((9, 12))
    bragg = bragg_of(truth)
    bragg["bragg_q"].values[2:5, 3:6] = np.nan
    bragg["bragg_intensity"].values[2:5, 3:6] = np.nan
    found = measure_origin(bragg)
    np.testing.assert_allclose(found["origin"], truth, atol=1e-4)
    assert found.attrs["measured"] == 9 * 12 - 9


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2)])
def test_small_scans_have_an_origin(shape):
    truth = descan(shape)
    found = measure_origin(bragg_of(truth))
    np.testing.assert_allclose(found["origin"], truth, atol=1e-4)


def test_no_disk_anywhere_is_an_error():
    bragg = bragg_of(descan((2, 3)))
    bragg["bragg_q"].values[:] = np.nan
    with pytest.raises(AnalysisError, match="no disk in any pattern"):
        measure_origin(bragg)


def test_an_unknown_surface_is_refused():
    with pytest.raises(ParameterError, match="kind"):
        measure_origin(bragg_of(descan((2, 3))), kind="bezier")


@pytest.mark.parametrize("lazy", [False, True])
def test_calibrated_vectors_and_their_errors(lazy):
    bragg = bragg_of(descan((3, 4)))
    bragg["bragg_covariance"].values[:] = [4e-6, 1e-6, 9e-6]
    origin = measure_origin(bragg)
    A = np.array([[1.1, 0.2], [-0.1, 0.9]])
    source = bragg.chunk(scan_y=2, scan_x=3) if lazy else bragg
    found = apply_calibration(source, origin=origin, transform=A, q_step_scale=1.5)
    truth = 1.5 * (bragg["bragg_q"] - origin["origin"]).values @ A.T
    np.testing.assert_allclose(found["bragg_q"], truth, atol=1e-6)
    C = np.array([[4e-6, 1e-6], [1e-6, 9e-6]])
    turned = 2.25 * A @ C @ A.T
    np.testing.assert_allclose(
        found["bragg_covariance"][1, 2, 3], turned[[0, 0, 1], [0, 1, 1]], rtol=1e-5
    )
    assert found["bragg_q"].dims == bragg["bragg_q"].dims
    assert found["bragg_q"].attrs["units"] == "1/Å"


def test_calibrating_leaves_the_vectors_alone_and_is_lazy(never):
    bragg = bragg_of(descan((3, 4)))
    before = bragg.copy(deep=True)
    origin = xr.Dataset({"origin": (("scan_y", "scan_x", "component"), descan((3, 4)))})
    apply_calibration(bragg.chunk(scan_y=2), origin=origin, transform=2 * np.eye(2))
    xr.testing.assert_identical(bragg, before)


@pytest.mark.parametrize(
    "wrong",
    [
        {"transform": np.ones(3)},
        {"transform": np.ones((2, 2))},
        {"transform": np.diag([np.inf, 1.0])},
        {"q_step_scale": 0},
        {"q_step_scale": np.inf},
        {"q_step_scale": np.nan},
    ],
)
def test_calibrations_that_cannot_be_undone_are_refused(wrong):
    with pytest.raises(ParameterError):
        apply_calibration(bragg_of(descan((1, 1))), **wrong)


@pytest.mark.parametrize(
    ("unit", "before", "scale", "after"),
    [("px", None, 0.03, 0.03), ("1/Å", 0.02, 1.5, 0.03), ("1/Å", 0.02, 1.0, 0.02)],
)
def test_scaled_vectors_say_their_unit_and_pixel(unit, before, scale, after):
    bragg = bragg_of(descan((1, 2)))
    bragg["bragg_q"].attrs["units"] = unit
    bragg.attrs["calibration"] = Calibration(q_step=before, voltage=200).to_dict()
    found = apply_calibration(bragg, q_step_scale=scale)
    assert found["bragg_q"].attrs["units"] == "1/Å"
    assert found["bragg_covariance"].attrs["units"] == "1/Å²"
    expected = Calibration(q_step=after, voltage=200).to_dict()
    assert found.attrs["calibration"] == pytest.approx(expected)
    assert bragg.attrs["calibration"]["q_step"] == before


def test_pixels_without_a_scale_stay_pixels():
    bragg = bragg_of(descan((1, 2)))
    bragg["bragg_q"].attrs["units"] = "px"
    found = apply_calibration(bragg, transform=STRETCH)
    assert found["bragg_q"].attrs["units"] == "px"


def known(basis=BASIS):
    lengths = np.hypot(*basis.T)
    cosine = basis[0] @ basis[1] / lengths.prod()
    return tuple(lengths), float(np.degrees(np.arccos(cosine)))


@pytest.mark.parametrize("turn", [0.0, 0.6])
@pytest.mark.parametrize("swapped", [False, True])
def test_the_ellipse_of_a_known_lattice_is_undone(turn, swapped):
    c, s = np.cos(turn), np.sin(turn)
    true = BASIS[::-1] if swapped else BASIS
    true = true @ np.array([[c, s], [-s, c]])
    distorted = true @ (1.03 * STRETCH).T
    A, scale = measure_ellipse(given_lattice(*distorted), *known(true))
    restored = scale * distorted @ A.T
    np.testing.assert_allclose(restored @ restored.T, true @ true.T, atol=1e-9)
    np.testing.assert_allclose(A, A.T, atol=1e-12)
    assert np.linalg.det(A) == pytest.approx(1)
    np.testing.assert_allclose(scale * A, np.linalg.inv(1.03 * STRETCH), atol=1e-9)


def test_the_ellipse_of_a_scan_is_undone():
    origin = np.zeros((4, 5, 2))
    bragg = bragg_of(origin, BASIS @ STRETCH.T)
    histogram = bragg_vector_map(bragg, step=0.005, extent=1.2)
    basis = find_lattice(histogram, radius=0.08)
    A, scale = measure_ellipse(basis, *known())
    fixed = apply_calibration(bragg, transform=A, q_step_scale=scale)
    lengths = np.hypot(*np.moveaxis(fixed["bragg_q"].values[0, 0], -1, 0))
    np.testing.assert_allclose(lengths[1:5], np.hypot(*BASIS[0]), rtol=0.003)


def test_an_impossible_crystal_is_refused():
    for lengths, angle in (((0, 1), 90), ((1, 1), 0), ((1, 1), 180)):
        with pytest.raises(ParameterError):
            measure_ellipse(given_lattice(*BASIS), lengths, angle)


SPACINGS = [0.24, 0.39, 0.45]


def powder(step, unit="1/Å", size=161, spacings=SPACINGS):
    """Rings that the microscope stretched, in a map of bins of `step` (1/Å)."""
    axis = (np.arange(size) - size // 2) * step
    q = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1) @ np.linalg.inv(STRETCH).T
    r = np.hypot(q[..., 0], q[..., 1])
    image = sum(np.exp(-(((r - d) / 0.015) ** 2) / 2) for d in spacings)
    axis = axis if unit == "1/Å" else np.arange(size) - size // 2
    coords = {name: (name, axis, {"units": unit}) for name in ("q_y", "q_x")}
    return xr.DataArray(image, dims=("q_y", "q_x"), coords=coords)


def test_rings_of_a_powder():
    A, scale, residual = measure_rings(powder(0.01), SPACINGS[::-1])
    np.testing.assert_allclose(scale * A @ STRETCH, np.eye(2), atol=0.006)
    assert residual < 0.01
    with pytest.raises(AnalysisError, match="no rings"):
        measure_rings(powder(0.01) * 0, SPACINGS)


@pytest.mark.parametrize("wrong", [0.65, 0.87, 1.14, 1.2, 1.5])
def test_rings_of_a_powder_where_the_assumed_step_is_far_off(wrong):
    """A scale that is taken for another has a perfect residual, too."""
    rings = powder(0.01)
    rings = rings.assign_coords({n: rings[n] * wrong for n in ("q_y", "q_x")})
    rings["q_y"].attrs["units"] = rings["q_x"].attrs["units"] = "1/Å"
    A, scale, _ = measure_rings(rings, SPACINGS)
    np.testing.assert_allclose(wrong * scale * A @ STRETCH, np.eye(2), atol=0.006)


@pytest.mark.parametrize("step", [0.006, 0.01, 0.02])
def test_rings_tell_the_scale_of_pixels(step):
    A, scale, _ = measure_rings(powder(step, "px"), SPACINGS)
    np.testing.assert_allclose(scale * A @ STRETCH, step * np.eye(2), atol=0.006 * step)


@pytest.mark.parametrize("wrong", [[], [0.0, 0.2], [np.nan, 0.2], [[0.2, 0.3]]])
def test_spacings_without_sense_are_refused(wrong):
    with pytest.raises(ParameterError, match="spacings"):
        measure_rings(powder(0.01), wrong)


def test_a_corrected_scale_is_in_the_calibration():
    c = Calibration(q_step=0.02, voltage=200)
    assert with_scale(c, 1.05) == Calibration(q_step=0.021, voltage=200)


@pytest.mark.parametrize("unit", ["1/Å", "px"])
@pytest.mark.parametrize("binning", [1, 2])
def test_a_corrected_scale_is_that_of_the_pixels_of_the_scan(unit, binning):
    """Those of a binned scan are larger than the attribute that came with it says."""
    step = 0.02 if unit == "1/Å" else 1.0
    axis = (np.arange(8) - 4) * step
    coords = {name: (name, axis, {"units": unit}) for name in ("q_y", "q_x")}
    known = {"voltage": 200} | ({"q_step": step} if unit == "1/Å" else {})
    dims = ("scan_y", "scan_x", "q_y", "q_x")
    scan = xr.Dataset(
        {"pattern": (dims, np.ones((1, 2, 8, 8)))}, coords, {"calibration": known}
    )
    binned = scan.coarsen(q_y=binning, q_x=binning).sum()
    expected = Calibration(q_step=1.05 * binning * step, voltage=200)
    assert with_scale(binned, 1.05).to_dict() == pytest.approx(expected.to_dict())
    with pytest.raises(SchemaError, match="pattern"):
        with_scale(scan.drop_vars("pattern"), 1.05)
