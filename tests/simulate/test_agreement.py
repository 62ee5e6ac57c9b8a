"""Two independent solvers must give the same disks."""

import numpy as np
import pytest
from fcunet_dask.kernels.illumination import Probe
from fcunet_dask.kernels.multislice import Grid
from fcunet_dask.simulate.agreement import Accuracy, compare_solvers
from fcunet_dask.simulate.crystals import SYSTEMS, Crystal, load_crystals
from fcunet_dask.simulate.draw import draw_rotation
from fcunet_dask.simulate.recipe import LibraryRecipe
from fcunet_dask.simulate.sample import Sample

DEPTHS = np.array([100.0, 200.0, 300.0])


def gallium_arsenide():
    base = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    return Crystal(
        name="GaAs",
        cell=np.eye(3) * 5.6533,
        positions=np.concatenate([base, base + 0.25]),
        numbers=[31] * 4 + [33] * 4,
    )


def drawn(number, seed=11, largest=150.0):
    """Crystal `number` of all systems in turn, near a zone axis or anywhere."""
    rng = np.random.default_rng([seed, number])
    system = SYSTEMS[number % len(SYSTEMS)]
    pool = [c for c in load_crystals() if c.system == system and c.volume < largest]
    crystal = pool[rng.integers(len(pool))]
    near = LibraryRecipe(near_zone=float(number % 2), off_zone=0.0)
    rotation = draw_rotation(near, crystal.cell, rng)
    origin = rng.random(3) @ crystal.cell @ rotation.T
    return Sample(crystal=crystal, rotation=rotation, origin=origin, thermal=0.6)


def check(sample, grid, bound, **accuracy):
    found = compare_solvers(
        sample, Probe(semiangle=2.0), grid, DEPTHS, Accuracy(**accuracy)
    )
    assert len(found.hkl) > 4
    assert (found.total <= 1 + 1e-4).all()
    # the band limit takes what it takes: beyond that, only the bound
    lost = 1 - found.total
    assert (found.sum_of_differences < bound + 1.5 * lost).all(), found
    # something diffracts: far above the threshold of the comparison
    assert found.bloch[:, 1:].max() > 1e-3
    return found


def test_gallium_arsenide_on_its_zone_axis():
    sample = Sample(crystal=gallium_arsenide(), origin=np.array([0.1, 0.2, 0.3]))
    found = check(sample, Grid(voltage=300.0), 0.03, g_max=2.5, rings=3)
    direct = int(np.flatnonzero((found.hkl == 0).all(1))[0])
    # strongly dynamical: what is compared is not the kinematic limit
    assert found.bloch[-1, direct] < 0.75


def test_a_strained_absorbing_low_symmetry_crystal():
    drawn_sample = drawn(0)
    deformation = np.eye(3) + 0.02 * np.array(
        [[1, 0.5, 0], [0.5, -1, 0.3], [0, 0.3, 1]]
    )
    sample = Sample(
        crystal=drawn_sample.crystal,
        rotation=drawn_sample.rotation,
        origin=drawn_sample.origin,
        deformation=deformation,
        thermal=0.6,
        absorption=0.02,
    )
    found = compare_solvers(
        sample, Probe(semiangle=2.0), Grid(voltage=120.0), DEPTHS[:2], Accuracy(rings=3)
    )
    assert (found.sum_of_differences < 0.03).all()
    assert (found.total < [0.97, 0.95]).all()


@pytest.mark.slow
@pytest.mark.parametrize("number", range(10))
def test_ten_crystals_at_three_thicknesses(number):
    check(drawn(number), Grid(voltage=200.0), 0.04)
