"""Structure-factor images are lazy, labelled, and the detector's own."""

import dask
import numpy as np
import pytest
from fcunet_dask import load_detector, structure_factors
from fcunet_dask.errors import ParameterError


class Rooted:
    """A detector whose structure factors are the roots of the counts."""

    def structure_factors(self, patterns):
        return np.sqrt(patterns.astype(np.float32))


def test_images_are_the_detectors_own_block_by_block(scan):
    blocks = scan.chunk({"scan_y": 2, "scan_x": 4})
    images = structure_factors(blocks, Rooted())
    assert dask.is_dask_collection(images.data)
    assert images.dims == ("scan_y", "scan_x", "q_y", "q_x")
    assert images.attrs["long_name"] == "relative |V_g|"
    np.testing.assert_array_equal(images["q_x"], scan["q_x"])
    expected = np.sqrt(np.asarray(scan["pattern"], np.float32))
    np.testing.assert_allclose(images.compute(), expected, rtol=1e-6)


def test_template_matching_knows_none(scan):
    with pytest.raises(ParameterError, match="fcunet"):
        structure_factors(scan, load_detector(radius=4.2))
