"""A library of four patterns, which takes a second to make."""

import pytest
from fcunet_dask.simulate.library import make_library
from fcunet_dask.simulate.recipe import LibraryRecipe

TINY = LibraryRecipe(
    seed=5,
    box=20.0,
    size=96,
    pixels=48,
    depths=(24.0,),
    depth_shares=(1.0,),
    thicknesses=2,
    block=2,
    probes=1,
    semiangle=(4.0, 9.0),
    min_radius=2.0,
    reflections=48,
)


@pytest.fixture(scope="session")
def tiny_library(tmp_path_factory):
    out = tmp_path_factory.mktemp("library") / "tiny.zarr"
    return make_library(TINY, out, patterns=4)
