"""Dynamical scans on disk: as simulated, and the same after an interruption."""

import numpy as np
import pytest
from fcunet_dask import open_scan
from fcunet_dask.errors import StoreError
from fcunet_dask.kernels.illumination import Probe
from fcunet_dask.kernels.multislice import Grid
from fcunet_dask.simulate import scan_store, simulate_dynamical_scan
from fcunet_dask.simulate.evaluation import multilayer_scan
from fcunet_dask.simulate.scan_store import made_with, make_scan, open_simulated_scan


@pytest.fixture(scope="module")
def recipe():
    return multilayer_scan(
        scan=(2, 3),
        tile=(1, 2),
        thickness=(2.0, 2.0),
        grid=Grid(box=30.0, size=96, step=2.0, voltage=200.0),
        pixels=64,
        probe=Probe(semiangle=5.0),
    )


def test_a_stored_scan_is_the_simulated_one(recipe, tmp_path):
    steps = []
    path = make_scan(
        recipe, tmp_path / "scan.zarr", progress=lambda *step: steps.append(step)
    )
    expected = simulate_dynamical_scan(recipe).compute()
    stored = open_simulated_scan(path)
    assert steps == [(i, 4) for i in range(5)]
    for name in expected.data_vars:
        np.testing.assert_array_equal(stored[name], expected[name])
    np.testing.assert_array_equal(open_scan(path)["pattern"], expected["pattern"])


def test_an_interrupted_scan_goes_on(recipe, tmp_path, monkeypatch):
    done = []

    def stops(recipe_, block):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(block)
        return scan_store_tile(recipe_, block)

    scan_store_tile = scan_store.simulate_tile
    monkeypatch.setattr(scan_store, "simulate_tile", stops)
    with pytest.raises(KeyboardInterrupt):
        make_scan(recipe, tmp_path / "scan.zarr")
    with pytest.raises(StoreError, match="2 tiles are missing"):
        open_simulated_scan(tmp_path / "scan.zarr")

    monkeypatch.setattr(scan_store, "simulate_tile", scan_store_tile)
    steps = []
    path = make_scan(
        recipe, tmp_path / "scan.zarr", progress=lambda *step: steps.append(step)
    )
    assert steps[0] == (2, 4)
    expected = simulate_dynamical_scan(recipe)["pattern"]
    np.testing.assert_array_equal(open_simulated_scan(path)["pattern"], expected)


def test_another_recipe_is_refused(recipe, tmp_path):
    make_scan(recipe, tmp_path / "scan.zarr")
    with pytest.raises(StoreError):
        make_scan(multilayer_scan(), tmp_path / "scan.zarr")


@pytest.mark.parametrize("kind", ["ideal", "tilted", "thick"])
def test_a_scan_knows_the_recipe_that_it_was_made_with(kind, tmp_path, monkeypatch):
    def none(recipe, block):
        raise KeyboardInterrupt

    monkeypatch.setattr(scan_store, "simulate_tile", none)
    path = tmp_path / "scan.zarr"
    with pytest.raises(KeyboardInterrupt):
        make_scan(multilayer_scan(kind), path)
    known = [
        k for k in ("ideal", "tilted", "thick") if made_with(path, multilayer_scan(k))
    ]
    assert known == [kind]
    assert not made_with(path, multilayer_scan(kind, scan=(1, 16)))
