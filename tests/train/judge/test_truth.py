"""What is true of patterns made by hand: what lies under the disks, and how close."""

from dataclasses import replace

import numpy as np
import pytest
from fcunet_dask.errors import ParameterError
from fcunet_dask.train.judge.truth import open_scenes


@pytest.mark.parametrize("electrons", [2.0, 20.0])
def test_the_background_is_all_that_is_under_a_disk_but_itself(scenes, electrons):
    """Known to a fifth of the disk's height: its blurred edge lies outside of it."""
    for scene in scenes:
        level = electrons / scene.artefacts.dose - 1e-7  # is there already
        expected = replace(
            scene.expected, pattern=scene.expected.pattern + np.float32(level)
        )
        j = replace(scene, expected=expected).judged()
        seen = j.label == 2
        height = j.flux[seen] / (np.pi * j.radius**2)
        assert (np.abs(j.background[seen] - electrons) < 0.2 * height).all()


def test_the_spacing_is_the_distance_of_neighbours_in_radii(judged):
    for j in judged:
        assert j.condition["spacing"] == pytest.approx(
            np.hypot(14.2, 1.7) / 4, rel=2e-3
        )


def test_a_look_too_quick_is_refused(tiny_library):
    with pytest.raises(ParameterError, match=r"one pattern in 5 leaves none: .* has 4"):
        open_scenes(tiny_library, every=5)
