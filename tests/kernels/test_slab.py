import numpy as np
import pytest
from fcunet_dask.kernels.slab import cut_slab
from scipy.spatial.transform import Rotation

CELL = np.array([[4.0, 0, 0], [1.0, 5.0, 0], [0.5, -0.7, 6.0]])
SITES = np.array([[0.1, 0.2, 0.3], [0.6, 0.5, 0.9]])


def brute_force(cell, sites, extent, origin):
    n = np.stack(np.meshgrid(*[np.arange(-25, 26)] * 3, indexing="ij"), -1)
    r = (n.reshape(-1, 1, 3) + sites).reshape(-1, 3) @ cell
    r += np.array([extent[0] / 2, extent[1] / 2, 0]) + origin
    inside = ((r >= 0) & (r < extent)).all(1)
    return r[inside]


@pytest.mark.parametrize("seed", range(4))
def test_slab_holds_exactly_the_atoms_of_the_infinite_crystal(seed):
    rng = np.random.default_rng(seed)
    turn = Rotation.random(random_state=seed).as_matrix()
    extent, origin = (20.0, 22.0, 70.0), rng.uniform(-3, 3, 3)
    atoms, site = cut_slab(CELL, SITES, extent, rotation=turn, origin=origin)
    expected = brute_force(CELL @ turn.T, SITES, extent, origin)
    order = [np.lexsort(np.round(a, 6).T) for a in (atoms, expected)]
    np.testing.assert_allclose(atoms[order[0]], expected[order[1]], atol=1e-9)
    assert set(site) == {0, 1}


def test_bending_tilts_planes_by_the_curvature_times_the_distance():
    kappa = np.array([[2e-4, 0], [0, 0]])
    box = (60.0, 60.0, 40.0)
    kwargs = {"rotation": np.eye(3), "origin": np.zeros(3)}
    flat, _ = cut_slab(np.eye(3) * 4, np.zeros((1, 3)), box, **kwargs)
    bent, _ = cut_slab(np.eye(3) * 4, np.zeros((1, 3)), box, **kwargs, bending=kappa)
    plane = bent[np.abs(bent[:, 2] - 20.0) < 1.0]
    fit = np.polyfit(plane[:, 0] - 30.0, plane[:, 2], 2)
    np.testing.assert_allclose(fit, [1e-4, 0, 20.0], atol=1e-9)
    # in-plane spacings stay, and no atom appears twice or is lost inside
    assert set(np.round(bent[:, 0], 6)) == set(np.round(flat[:, 0], 6))
    assert len(np.unique(np.round(bent, 6), axis=0)) == len(bent)
    inner = (flat[:, 2] > 4) & (flat[:, 2] < 36)
    assert np.sum((bent[:, 2] > 4) & (bent[:, 2] < 36)) >= 0.95 * inner.sum()
