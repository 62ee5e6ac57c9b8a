import numpy as np
import pytest
from fcunet_dask.errors import SimulationError
from fcunet_dask.kernels.illumination import Probe
from fcunet_dask.kernels.multislice import Grid
from fcunet_dask.simulate.crystals import Crystal
from fcunet_dask.simulate.polycrystal import (
    PolycrystalRecipe,
    grain_specimen,
    simulate_polycrystal,
)


def gold():
    base = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    return Crystal(name="Au", cell=np.eye(3) * 4.078, positions=base, numbers=[79] * 4)


def film(**changes):
    values = {
        "crystal": gold(),
        "scan": (2, 4),
        "scan_step": 2.0,
        "grain": 3.0,
        "thickness": (1.0, 1.0),
        "grid": Grid(box=40.0, size=144, voltage=200.0),
        "pixels": 96,
        "probe": Probe(semiangle=3.0),
        "tile": (1, 1),
    }
    return PolycrystalRecipe(**(values | changes))


def test_film_is_as_dense_as_its_crystal():
    recipe = film()
    specimen = grain_specimen(recipe, np.array([20.0, 10.0]))
    expected = 4 / 4.078**3 * 40 * 40 * 20
    assert len(specimen.coordinates) == pytest.approx(expected, rel=0.05)
    assert specimen.coordinates.min() >= 0
    assert (specimen.coordinates.max(0) < [40, 40, 20]).all()


def test_disks_of_both_grains_are_in_the_truth():
    scan = simulate_polycrystal(film()).compute()
    pattern = scan["pattern"].to_numpy()
    assert len(np.unique(scan["true_grain"].isel(layer=0))) > 1
    axis = (np.arange(96) - 48) / 40.0
    radius = 3e-3 / film().grid.wavelength
    inside, outside = [], []
    for y, x in np.ndindex(2, 4):
        q = scan["true_bragg_q"].to_numpy()[y, x]
        v = scan["true_bragg_strength"].to_numpy()[y, x]
        near = np.zeros((96, 96), bool)
        for place in q[1:][v[1:] > 1.0]:
            near |= np.hypot(axis[:, None] - place[0], axis - place[1]) < radius
        off = np.hypot(axis[:, None], axis) > radius + 0.1
        inside.append(pattern[y, x][near & off].mean())
        outside.append(pattern[y, x][~near & off].mean())
    assert np.median(np.array(inside) / outside) > 4


def test_one_layer_is_one_grain_at_each_place():
    recipe = film(thickness=(2.0, 0.0), grain=100.0)
    scan = simulate_polycrystal(recipe).compute()
    first = int(scan["true_grain"][0, 0, 0])
    assert (scan["true_grain"].isel(layer=0) == first).all()
    q = scan["true_bragg_q"].to_numpy()
    np.testing.assert_array_equal(
        np.isnan(q), np.isnan(q[:1, :1].repeat(2, 0).repeat(4, 1))
    )
    a = scan["pattern"].to_numpy()
    assert np.corrcoef(a[0, 0].ravel(), a[1, 3].ravel())[0, 1] > 0.99


def test_same_seed_gives_the_same_film():
    one = simulate_polycrystal(film(dose=1e3)).compute()
    two = simulate_polycrystal(film(dose=1e3)).compute()
    np.testing.assert_array_equal(one["pattern"], two["pattern"])
    assert float(one["probe"].sum()) == pytest.approx(1e3, rel=1e-3)
    other = simulate_polycrystal(film(seed=1))
    assert (one["true_bragg_q"].to_numpy() != other["true_bragg_q"].to_numpy()).any()


@pytest.mark.parametrize(
    "bad", [{"grain": 0.0}, {"thickness": (0.0, 1.0)}, {"peaks": 0}, {"pixels": 512}]
)
def test_an_impossible_film_is_refused(bad):
    with pytest.raises(SimulationError):
        film(**bad)
