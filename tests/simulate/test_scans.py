"""Scans in which every position has its own, known, answer."""

import dask
import numpy as np
import pytest
from fcunet_dask.errors import ParameterError, SimulationError
from fcunet_dask.kernels.illumination import Probe
from fcunet_dask.kernels.multislice import Grid
from fcunet_dask.simulate.evaluation import SETS, diamond, multilayer_scan, zone_110
from fcunet_dask.simulate.fields import Multilayer, Uniform, Waves, unstrained_place
from fcunet_dask.simulate.scans import (
    ScanRecipe,
    scan_specimen,
    simulate_dynamical_scan,
)

FIELDS = [
    Uniform(xx=0.01, yy=-0.02, xy=0.004, rotation=0.02),
    Multilayer(),
    Waves(strain=0.01, seed=3),
]


@pytest.mark.parametrize("field", FIELDS, ids=lambda f: type(f).__name__)
def test_gradient_is_that_of_the_displacement(field):
    place = np.random.default_rng(0).uniform(0, 900, (40, 2))
    h = 1e-3
    for axis in range(2):
        step = np.eye(2)[axis] * h
        slope = field.displacement(place + step) - field.displacement(place - step)
        np.testing.assert_allclose(
            slope / (2 * h), field.gradient(place)[..., axis], atol=1e-8
        )


@pytest.mark.parametrize("field", FIELDS, ids=lambda f: type(f).__name__)
def test_matter_is_found_where_it_was(field):
    before = np.random.default_rng(1).uniform(0, 900, (20, 2))
    after = before + field.displacement(before)
    np.testing.assert_allclose(unstrained_place(field, after), before, atol=1e-8)


def test_multilayer_reaches_its_plateaus_and_its_composition():
    layers = Multilayer(width=5.0)
    middle = np.stack([140 + 45 + 90 * np.arange(8), np.zeros(8)], -1)
    np.testing.assert_allclose(layers.strain(middle[:, 0])[::2], 0.01, atol=1e-9)
    np.testing.assert_allclose(layers.strain(middle[:, 0])[1::2], -0.01, atol=1e-9)
    np.testing.assert_allclose(layers.composition(middle)[::2], 0.5, atol=1e-9)
    np.testing.assert_allclose(layers.composition(middle)[1::2], 0.0, atol=1e-9)
    outside = np.array([[0.0, 0.0], [1000.0, 0.0]])
    np.testing.assert_allclose(layers.composition(outside), 0.25, atol=1e-9)
    assert np.abs(layers.strain(outside[:, 0])).max() < 1e-9
    # Vegard: the strain of each layer is that of its lattice parameter
    substrate = 5.431 + 0.25 * (5.6579 - 5.431)
    assert 5.431 / substrate - 1 == pytest.approx(-0.01, abs=5e-4)


def test_random_field_is_as_strong_as_asked():
    place = np.random.default_rng(0).uniform(0, 4000, (4000, 2))
    found = [Waves(strain=0.01, seed=s).gradient(place).std() for s in range(8)]
    assert np.mean(found) == pytest.approx(0.01, rel=0.1)


def thin(**changes):
    """A scan so thin that its disks are evenly filled."""
    values = {
        "crystal": diamond(14, 5.431, "Si"),
        "rotation": zone_110(),
        "basis": ((0, 0, 4), (2, -2, 0)),
        "scan": (2, 3),
        "scan_step": 0.4,
        "grid": Grid(box=60.0, size=192, voltage=200.0),
        "pixels": 96,
        "probe": Probe(semiangle=2.0),
        "thickness": (0.4, 0.4),
        "tile": (2, 2),
    }
    return ScanRecipe(**(values | changes))


def centroid(pattern, place, radius, step):
    axis = (np.arange(len(pattern)) - len(pattern) // 2) * step
    near = np.hypot(axis[:, None] - place[0], axis - place[1]) < radius
    part = np.where(near, pattern, 0)
    return np.array([part.sum(1) @ axis, part.sum(0) @ axis]) / part.sum()


def test_disks_lie_where_the_strain_says():
    field = Uniform(xx=0.02, yy=-0.015, xy=0.008, rotation=0.01)
    recipe = thin(field=field)
    scan = simulate_dynamical_scan(recipe).compute()
    for name, value in (("xx", 0.02), ("yy", -0.015), ("xy", 0.008)):
        np.testing.assert_allclose(scan[f"true_strain_{name}"], value, atol=1e-12)
    np.testing.assert_allclose(scan["true_rotation"], 0.01, atol=1e-12)
    step = recipe.grid.q_step
    radius = 2e-3 / recipe.grid.wavelength + 2 * step
    errors = []
    for row in range(2):
        for column in range(3):
            at = {"scan_y": row, "scan_x": column}
            for name in ("true_g1", "true_g2"):
                g = scan[name].isel(at).to_numpy()
                pair = [
                    centroid(scan["pattern"].isel(at).to_numpy(), s * g, radius, step)
                    for s in (1, -1)
                ]
                # what both disks of a Friedel pair share is no strain
                errors.append(((pair[0] - pair[1]) / 2 - g) / step)
    # 0.05 px of 24 px is 2e-3: a tenth of the strain put in
    assert np.abs(np.mean(errors, 0)).max() < 0.05
    assert np.abs(errors).max() < 0.12


def test_strained_scan_differs_from_unstrained_as_the_lattice_does():
    field = Multilayer(start=6.0, period=1000.0, periods=1, high=0.03, width=2.0)
    scan = simulate_dynamical_scan(thin(field=field, scan=(1, 4)))
    g = scan["true_g1"].isel(scan_y=0, component=1).to_numpy()
    np.testing.assert_allclose(
        g, 4 / 5.431 / (1 + scan["true_strain_xx"].to_numpy()[0]), rtol=1e-9
    )
    assert scan["true_strain_xx"].to_numpy()[0, 0] < 1e-6
    assert scan["true_strain_xx"].to_numpy()[0, -1] > 0.0299


def test_an_alloy_shares_its_sites():
    field = Multilayer(start=-200.0, period=400.0, periods=1, width=1.0)
    recipe = thin(field=field, partner=32, thickness=(2.0, 2.0))
    specimen = scan_specimen(recipe, np.array([-100.0, 0.0]), 10)
    total = specimen.weights.sum()
    germanium = specimen.weights[specimen.element == 1].sum()
    # the layer from −200 Å is Si₀.₅Ge₀.₅
    assert germanium / total == pytest.approx(0.5, abs=1e-6)
    pure = scan_specimen(thin(thickness=(2.0, 2.0)), np.array([-100.0, 0.0]), 10)
    assert total == pytest.approx(pure.weights.sum() / 1.01, rel=0.03)
    assert len(specimen.coordinates) == 2 * specimen.weights.sum()
    assert len(pure.factors) == 1


def test_each_column_of_a_wedge_has_its_own_thickness():
    wedge = simulate_dynamical_scan(
        thin(scan=(1, 3), tile=(1, 3), thickness=(1.0, 3.0))
    )
    assert wedge["true_thickness"].to_numpy().tolist() == [[1.0, 2.0, 3.0]]
    for column, depth in enumerate((1.0, 2.0, 3.0)):
        flat = thin(scan=(1, 3), tile=(1, 3), thickness=(depth, depth))
        one = simulate_dynamical_scan(flat)["pattern"].isel(scan_x=column)
        np.testing.assert_allclose(wedge["pattern"].isel(scan_x=column), one, atol=1e-7)


def test_patterns_hardly_depend_on_the_tiles():
    recipe = {"scan": (2, 4), "thickness": (5.0, 5.0), "field": Waves(strain=0.01)}
    one = simulate_dynamical_scan(thin(tile=(2, 4), **recipe))["pattern"].to_numpy()
    two = simulate_dynamical_scan(thin(tile=(1, 1), **recipe))["pattern"].to_numpy()
    assert np.abs(one - two).sum((-1, -2)).max() < 0.02


@pytest.mark.parametrize("axis", [0, 1], ids=["y", "x"])
def test_tilt_moves_the_laue_centre_and_not_the_disks(axis):
    pixels = np.arange(96) - 48
    off = np.hypot(pixels[:, None], pixels) > 6
    moments = []
    for size in (0.0, 10.0):
        tilt = (size, 0.0) if axis == 0 else (0.0, size)
        recipe = thin(scan=(1, 1), tilt=tilt, thickness=(20.0, 20.0))
        scan = simulate_dynamical_scan(recipe)
        part = np.where(off, scan["pattern"].to_numpy()[0, 0], 0)
        moments.append(part.sum(1 - axis) @ pixels / part.sum())
        assert scan["true_g1"].to_numpy()[0, 0] == pytest.approx(
            [0, 4 / 5.431], rel=1e-4
        )
    # the Laue circle goes through the beam: its centre lies on the side of the tilt
    assert moments[1] > moments[0] + 2


def test_building_a_scan_computes_nothing():
    def refuse(*_args, **_kwargs):
        pytest.fail("computed while building")

    with dask.config.set(scheduler=refuse):
        scan = simulate_dynamical_scan(multilayer_scan("ideal"))
    assert scan["pattern"].shape == (4, 201, 256, 256)
    assert len(scan["pattern"].data.dask) < 200


def test_noise_is_poisson_and_seeded():
    recipe = thin(dose=1e4)
    one, two = (simulate_dynamical_scan(recipe)["pattern"].to_numpy() for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert one.sum((-1, -2)).mean() == pytest.approx(1e4, rel=0.05)
    assert (one == np.rint(one)).all()


@pytest.mark.parametrize("kind", SETS)
def test_published_sets_have_the_published_geometry(kind):
    recipe = multilayer_scan(kind)
    scan = simulate_dynamical_scan(recipe)
    px = recipe.grid.q_step
    g = scan["true_g1"].to_numpy()[0, 0] / px
    # a centred rectangle of 21.3 × 15.05 px, from Si₂₅Ge₇₅'s {111}
    assert np.abs(g) == pytest.approx([21.3, 15.05], rel=0.012)
    assert recipe.calibration.probe_radius == pytest.approx(6.53, rel=0.02)
    assert np.abs(scan["true_strain_yy"]).max() < 1e-12
    top = float(scan["true_strain_xx"].max())
    assert top == pytest.approx({"thick": 0.012}.get(kind, 0.01), rel=0.01)


@pytest.mark.parametrize(
    "bad",
    [
        {"tile": (40, 40)},
        {"pixels": 512},
        {"thickness": (0.0, 1.0)},
        {"dose": -1.0},
        {"scan_step": 0.0},
    ],
)
def test_an_impossible_scan_is_refused(bad):
    with pytest.raises(SimulationError):
        thin(**bad)


def test_an_unknown_set_is_named():
    with pytest.raises(ParameterError, match="ideal"):
        multilayer_scan("perfect")
