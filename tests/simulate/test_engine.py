"""Diffraction by CuPy, feigned, is that by NumPy."""

import numpy as np
from fcunet_dask.simulate.draw import draw_block, library_crystals
from fcunet_dask.simulate.patterns import simulate_block
from tests import cupy_stand_in


def test_a_block_is_the_same_by_both_engines(tiny_recipe, monkeypatch):
    block = draw_block(tiny_recipe, library_crystals(tiny_recipe), 0)
    expected = simulate_block(block, tiny_recipe, "numpy")
    cupy = cupy_stand_in.install(monkeypatch)
    found = simulate_block(block, tiny_recipe, "cupy")
    assert {"exp", "swapaxes"} < cupy.asked
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
