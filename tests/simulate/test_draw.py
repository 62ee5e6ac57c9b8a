"""What a recipe draws, against the light of the patterns that it leads to."""

from dataclasses import replace

import numpy as np
import pytest
from fcunet_dask.simulate.draw import draw_block, library_crystals
from fcunet_dask.simulate.patterns import decode, simulate_block
from fcunet_dask.simulate.recipe import LibraryRecipe
from scipy.spatial import cKDTree

ONE = LibraryRecipe(
    block=1,
    probes=1,
    thicknesses=1,
    depths=(300.0,),
    depth_shares=(1.0,),
    voltages=(60.0,),
)
LARGE_CELL = 49


@pytest.fixture(scope="module")
def crystals():
    return library_crystals(ONE)


def test_all_light_of_a_large_cell_belongs_to_a_listed_reflection(crystals):
    block = draw_block(ONE, crystals, LARGE_CELL)
    assert len(block.scenes[0].reflections) > 10_000
    made = simulate_block(block, ONE)
    pattern = decode(made["pattern_code"], made["scale"])[0, 0, 0].astype(float)
    semiangle = 1e-3 * block.scenes[0].probes[0].semiangle
    radius = semiangle / block.grid.wavelength / block.grid.q_step
    middle = np.array(pattern.shape) // 2
    pixels = np.argwhere(np.isfinite(pattern))
    truth = made["truth"][0, 0]
    listed = truth[np.isfinite(truth[:, 0]), 3:5] / block.grid.q_step + middle
    far = cKDTree(listed).query(pixels)[0] > 1.2 * radius + 1
    beam = np.hypot(*(pixels - middle).T) < 2.5 * radius
    light = pattern.ravel()[~beam]
    assert light[far[~beam]].sum() < 1e-3 * light.sum()


def test_reflections_far_from_the_sphere_do_not_change_what_is_drawn(crystals):
    for index in range(140, 144):
        few, all_ = (
            draw_block(replace(ONE, probes=3, max_error=s), crystals, index).scenes[0]
            for s in (0.06, 0.1)
        )
        assert len(few.reflections) < len(all_.reflections)
        assert few.probes == all_.probes
        np.testing.assert_array_equal(few.sample.rotation, all_.sample.rotation)
