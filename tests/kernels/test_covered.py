"""What is missing in the middle of a lattice, and what is missing anyway."""

import numpy as np
import pytest
from fcunet_dask.kernels.covered import covered_points

G = np.array([[6.0, 21.0], [21.0, -6.0]])
POSITIONS = 40
LATTICE = np.tile([0.3, -0.2, *G.ravel()], (POSITIONS, 1))
POINTS = [(h, k) for h in range(-3, 4) for k in range(-3, 4)]


def disks(absent, seldom=0.0, seed=0):
    """Disks of all points but some, which are there at a share of the positions."""
    rng = np.random.default_rng(seed)
    place = np.array(POINTS) @ G + LATTICE[0, :2]
    position = place + rng.normal(0, 0.3, (POSITIONS, len(POINTS), 2))
    gone = [p in absent for p in POINTS]
    position[:, gone] = np.where(
        rng.random((POSITIONS, sum(gone), 1)) < seldom, position[:, gone], np.nan
    )
    return position


@pytest.mark.parametrize("place", [(1, 0), (0, -1), (-1, 1)])
def test_one_disk_is_missing(place):
    assert covered_points(disks([place]), LATTICE).tolist() == [list(place)]


def test_the_beam_is_seldom_found():
    assert covered_points(disks([(0, 0)], seldom=0.3), LATTICE).tolist() == [[0, 0]]
    assert not len(covered_points(disks([(0, 0)], seldom=0.8), LATTICE))


def test_a_bar_up_to_the_border():
    bar = [(h, -1) for h in (-3, -2, -1, 0)]
    found = covered_points(disks(bar), LATTICE).tolist()
    assert found[0] == [0, -1]
    assert set(map(tuple, found)) <= set(bar)


@pytest.mark.parametrize(
    "absent",
    [
        [],
        [(1, 1), (-1, -1)],  # forbidden
        [(2, 1)],  # faint, and far from the brightest
        [p for p in POINTS if np.hypot(*p) > 2.4],  # outside of a circle
        [p for p in POINTS if p[0] > 0],  # on one side of a tilted crystal
    ],
)
def test_nothing_is_covered(absent):
    assert not len(covered_points(disks(absent), LATTICE))


def test_positions_without_a_lattice_do_not_count():
    lattice = LATTICE.copy()
    lattice[::2] = np.nan
    assert covered_points(disks([(1, 0)]), lattice).tolist() == [[1, 0]]
    lattice[:-8] = np.nan  # of a few positions one may lack a disk by chance
    assert not len(covered_points(disks([(1, 0)]), lattice))
