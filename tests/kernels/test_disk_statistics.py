"""What the disks of a scan have in common: radius, edge and the spread of fillings."""

import numpy as np
import pytest
from fcunet_dask.kernels.disk_statistics import DiskStatistics, fit_statistics
from tests.strategies import lattice_patterns, two_lattices


def test_radius_and_edge_are_refined_on_the_disks():
    rng = np.random.default_rng(5)
    patterns, index, position = lattice_patterns(rng, 5.0, (128, 128))
    start = DiskStatistics(5.4, 0.8, np.nan, np.nan, 0.3, 1.0)
    found = fit_statistics(patterns, np.ones((128, 128), bool), index, position, start)
    assert found.radius == pytest.approx(5.0, abs=0.03)
    assert found.edge == pytest.approx(0.5, abs=0.1)
    assert found.structure < 0.1


def test_spots_without_a_plateau_have_an_edge_that_a_disk_can_have():
    rng = np.random.default_rng(9)
    y, x = np.indices((128, 128))
    position = np.array([(a, b) for a in (24, 64, 104) for b in (24, 64, 104)], float)
    spots = sum(
        np.exp(-((y - a) ** 2 + (x - b) ** 2) / 2 / 3.0**2) for a, b in position
    )
    patterns = rng.poisson(500 * spots + 5, (4, 128, 128))
    index = np.repeat(np.arange(4), 9)
    start = DiskStatistics(2.5, 0.8, np.nan, np.nan, 0.3, 1.0)
    found = fit_statistics(
        patterns, np.ones((128, 128), bool), index, np.tile(position, (4, 1)), start
    )
    assert found.edge == pytest.approx(0.6 * found.radius, rel=0.01)
    assert found.radius == pytest.approx(1.18 * 3.0, rel=0.2)  # half of the height


def test_structure_is_the_spread_of_the_fillings():
    rng = np.random.default_rng(6)
    patterns, index, position = lattice_patterns(rng, 6.0, (128, 128), 6, 4e5, 0.0)
    y, x = np.indices((128, 128))
    scaled = patterns.astype(float)
    for i, (cy, cx) in zip(index, position, strict=True):
        here = np.hypot(y - cy, x - cx) < 8
        angle = rng.uniform(0, 2 * np.pi)
        along = (np.cos(angle) * (y - cy) + np.sin(angle) * (x - cx)) / 6.0
        scaled[i][here] *= 1 + 0.6 * along[here]  # rms 0.3 over the disk
    start = DiskStatistics(6.0, 0.5, np.nan, np.nan, 0.3, 1.0)
    mask = np.ones((128, 128), bool)
    found = fit_statistics(scaled, mask, index, position, start, fit_shape=False)
    assert found.structure == pytest.approx(0.3, rel=0.25)
    assert found.radius == 6.0


def test_two_disks_are_too_few_for_statistics():
    patterns, index, position = lattice_patterns(
        np.random.default_rng(9), 5.0, (64, 64), 1
    )
    start = DiskStatistics(5.0, 0.5, np.nan, np.nan, 0.3, 1.0)
    mask = np.ones((64, 64), bool)
    found = fit_statistics(
        patterns, mask, index[:2], position[:2], start, fit_shape=False
    )
    assert found == start


@pytest.mark.parametrize(
    ("radius", "turn"),
    [(2.5, 25), (2.5, 30), (2.5, 40), (3.0, 25), (3.0, 30), (3.5, 25), (3.5, 30)],
)
def test_disks_that_overlap_do_not_make_all_larger(radius, turn):
    """As of two crystals, one upon the other: what two disks cover, one would fill.

    A search marks no two disks nearer than 1.5 radii. Not of 3 px and larger at 40°: a
    third of them lie one upon the other, look like one, and single samples are off by 15 %.
    """
    ratios, edges = [], []
    for seed in (7, 8, 9):
        rng = np.random.default_rng(seed)
        patterns, index, position = two_lattices(rng, radius, turn)
        marked = apart(patterns, index, position, 1.5 * radius)
        start = DiskStatistics(1.03 * radius, 0.5, np.nan, np.nan, 0.3, 1.0)
        mask = np.ones(patterns.shape[1:], bool)
        found = fit_statistics(patterns, mask, index[marked], position[marked], start)
        ratios.append(found.radius / radius)
        edges.append(found.edge)
    assert np.median(ratios) == pytest.approx(1.0, abs=0.04)
    assert np.median(edges) == pytest.approx(0.5, abs=0.3)


def apart(patterns, index, position, reach):
    """Leave the brightest of the disks that are nearer to each other than this."""
    y, x = np.rint(position).astype(int).T
    kept = []
    for row in np.argsort(-patterns[index, y, x], kind="stable"):
        others = [k for k in kept if index[k] == index[row]]
        if (np.hypot(*(position[others] - position[row]).T) >= reach).all():
            kept.append(row)
    return np.sort(kept)
