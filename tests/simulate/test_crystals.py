import numpy as np
import pytest
from fcunet_dask.errors import SimulationError
from fcunet_dask.simulate.cif import read_cif, read_cifs
from fcunet_dask.simulate.crystals import (
    Crystal,
    _check_overlap,
    find_crystal,
    load_crystals,
    table_digest,
)
from fcunet_dask.simulate.factors import element_factors
from fcunet_dask.simulate.split import (
    family_keys,
    split_crystals,
    summarize,
)

SILICON = """data_silicon
_cell_length_a 5.431
_cell_length_b 5.431
_cell_length_c 5.431
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'F d -3 m :1'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Si1 Si 0 0 0
"""


def rock_salt(**changes):
    a = 5.64
    base = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    values = {
        "name": "NaCl",
        "cell": np.eye(3) * a,
        "positions": np.concatenate([base, base + np.array([0.5, 0, 0])]) % 1,
        "numbers": [11] * 4 + [17] * 4,
        "system": "cubic",
        "spacegroup": 225,
    }
    return Crystal(**(values | changes))


def test_table_is_the_one_that_was_attributed():
    assert table_digest().startswith("6b1b6c10eb4c")
    counts = summarize()
    assert counts["crystals"] == 2677
    assert counts["spacegroups"] == 218
    assert len(counts["elements"]) == 78
    assert counts["source"] == {"oqmd": 1672, "aflow": 839, "cod": 166}
    assert sum(counts["system"]["cubic"].values()) == 452


def test_no_shipped_atoms_overlap():
    for crystal in load_crystals()[::7]:
        _check_overlap(crystal)


def test_no_sibling_crosses_the_split():
    seen = {}
    splits = split_crystals()
    for crystal, split in zip(load_crystals(), splits, strict=True):
        for key in family_keys(crystal):
            assert seen.setdefault(key, split) == split
    shares = {s: splits.count(s) / len(splits) for s in set(splits)}
    assert 0.75 < shares["train"] < 0.85
    assert min(shares.values()) > 0.07


def test_own_crystals_join_their_siblings_and_move_nobody():
    before = split_crystals()
    twin = rock_salt(name="a twin", trusted=False)
    shipped = next(c for c in load_crystals() if c.formula == "ClNa")
    both = split_crystals([*load_crystals(), twin])
    assert both[:-1] == before
    place = before[[id(c) for c in load_crystals()].index(id(shipped))]
    assert split_crystals([twin]) == [both[-1]]
    assert ["train", "validation", "test"].index(both[-1]) >= [
        "train",
        "validation",
        "test",
    ].index(place)


def test_structure_factors_obey_absences_and_mean_inner_potential():
    crystal = rock_salt()
    hkl = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [2, 0, 0], [1, 1, 1]])
    v = crystal.structure_factors(hkl)
    assert np.abs(v[1:3]).max() < 1e-12 * abs(v[0])
    f = [float(element_factors(z, np.zeros(1))[0]) for z in (11, 17)]
    assert v[0].real == pytest.approx(47.878009 / crystal.volume * 4 * sum(f))
    # odd indices: the two sublattices subtract
    g = np.array([np.sqrt(3) / 5.64])
    f = [float(element_factors(z, g)[0]) for z in (11, 17)]
    expected = 47.878009 / crystal.volume * 4 * (f[0] - f[1])
    assert v[4].real == pytest.approx(expected, rel=1e-9)


def test_factors_follow_bethe_at_high_and_mott_at_low_angles():
    # f(g) → Z / (2π² a₀ g²) [Mott-Bethe, X-ray factor → 0], a₀ = 0.529 Å
    g = np.array([3.0])
    for z in (14, 32, 47, 79):
        limit = z / (2 * np.pi**2 * 0.529177 * g**2)
        assert 0.55 < float(element_factors(z, g[0]) / limit[0]) < 1.0


def test_cif_is_read_with_its_symmetry(tmp_path):
    path = tmp_path / "si.cif"
    path.write_text(SILICON)
    crystal = read_cif(path)
    assert (crystal.formula, len(crystal.numbers)) == ("Si", 8)
    assert (crystal.system, crystal.spacegroup) == ("cubic", 227)
    assert crystal.volume == pytest.approx(5.431**3)
    v = np.abs(crystal.structure_factors([[2, 0, 0], [2, 2, 2], [2, 2, 0]]))
    assert v[:2].max() < 1e-9 < v[2]


def test_oblique_cif_keeps_its_lattice_vectors(tmp_path):
    path = tmp_path / "oblique.cif"
    text = SILICON.replace("'F d -3 m :1'", "'P 1'").replace("beta 90", "beta 105")
    path.write_text(text)
    cell = read_cif(path).cell
    cosine = cell[0] @ cell[2] / 5.431**2
    assert cosine == pytest.approx(np.cos(np.deg2rad(105)))
    assert cell[0] @ cell[1] == pytest.approx(0, abs=1e-9)


HM = "_symmetry_space_group_name_H-M 'F d -3 m :1'"
CENTRED = """loop_
_symmetry_equiv_pos_as_xyz
x,y,z
x+1/2,y+1/2,z
x+1/2,y,z+1/2
x,y+1/2,z+1/2"""


@pytest.mark.parametrize(
    ("symmetry", "atoms"),
    [
        ("_symmetry_space_group_name_Hall 'F 4d 2 3 -1d'", 8),
        ("_space_group_IT_number 225", 4),
        (CENTRED, 4),
        ("", 1),
    ],
)
def test_symmetry_is_found_however_it_is_given(tmp_path, symmetry, atoms):
    path = tmp_path / "si.cif"
    path.write_text(SILICON.replace(HM, symmetry))
    assert len(read_cif(path).numbers) == atoms


def test_alloy_keeps_its_occupancies(tmp_path):
    path = tmp_path / "alloy.cif"
    text = SILICON.replace("fract_z\n", "fract_z\n_atom_site_occupancy\n")
    path.write_text(text.replace("Si1 Si 0 0 0", "Si1 Si 0 0 0 0.8\nGe1 Ge 0 0 0 0.2"))
    crystal = read_cif(path)
    assert crystal.elements == (14, 32)
    assert crystal.weights.sum() == pytest.approx(8.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no cif at all", "no readable CIF"),
        ("", "no readable CIF|atom sites"),
        (SILICON.split("loop_", maxsplit=1)[0], "atom sites"),
        (SILICON.replace("Si1 Si 0", "Q1 Qq 0"), "unknown element 'Qq'"),
        (SILICON.replace("_cell_length_a 5.431\n", ""), "cell lengths"),
        (SILICON.replace("length_a 5.431", "length_a ?"), "cell|finite|CIF"),
        (SILICON + "Si2 Si 0.05 0 0\n", "overlap"),
        (SILICON.replace("F d -3 m :1", "F q r s"), "unknown space group"),
    ],
)
def test_a_bad_cif_is_refused_by_name(tmp_path, text, message):
    path = tmp_path / "bad.cif"
    path.write_text(text)
    with pytest.raises(SimulationError, match=message):
        read_cifs([path])


def test_a_missing_cif_is_named(tmp_path):
    with pytest.raises(SimulationError, match=r"absent\.cif"):
        read_cif(tmp_path / "absent.cif")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"numbers": [11] * 4 + [119] * 4}, "element 119"),
        ({"numbers": [11] * 4 + [0] * 4}, "element 0"),
        ({"numbers": [11]}, "as many of each"),
        ({"cell": np.zeros((3, 3))}, "independent"),
        ({"cell": np.eye(3) * np.nan}, "finite"),
        ({"occupancies": np.full(8, 1.5)}, "occupancies"),
        ({"positions": np.zeros((8, 3))}, "overlap"),
        ({"positions": rock_salt().positions * 5.64}, "overlap"),
        ({"cell": np.eye(3) * 2.0}, "overlap"),
    ],
)
def test_an_impossible_crystal_is_refused(changes, message):
    with pytest.raises(SimulationError, match=message):
        rock_salt(**changes)


def test_a_crystal_that_is_not_there_is_named():
    with pytest.raises(SimulationError, match="Kryptonite"):
        find_crystal("Kryptonite")
