"""A library is its recipe and its seed, however it was made."""

import errno
import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from distributed import Client
from fcunet_dask._commit import BlockStore
from fcunet_dask.errors import (
    MissingDependencyError,
    ParameterError,
    SimulationError,
    StoreError,
)
from fcunet_dask.simulate.crystals import load_crystals
from fcunet_dask.simulate.draw import draw_block, draw_rotation, library_crystals
from fcunet_dask.simulate.factors import factor_coefficients
from fcunet_dask.simulate.library import (
    clean_pattern,
    make_library,
    open_library,
    read_recipe,
)
from fcunet_dask.simulate.patterns import array_module, decode, encode, simulate_block
from fcunet_dask.simulate.recipe import SHIPPED, LibraryRecipe, load_recipe
from fcunet_dask.simulate.split import split_crystals

SMALL = LibraryRecipe(
    seed=5,
    box=20.0,
    size=96,
    pixels=48,
    depths=(24.0, 40.0),
    depth_shares=(0.5, 0.5),
    thicknesses=3,
    block=2,
    probes=2,
    semiangle=(4.0, 9.0),
    min_radius=2.0,
    reflections=48,
    patterned=0.5,
    aberrated=0.5,
    bent=0.5,
)
PER_BLOCK = 2 * 2 * 3


def digest(path):
    """Every byte of every array of a store."""
    total = hashlib.sha256()
    for file in sorted(p for p in Path(path).rglob("*") if p.is_file()):
        if "marks" not in file.parts:
            total.update(str(file.relative_to(path)).encode() + file.read_bytes())
    return total.hexdigest()


class Killed(BaseException):
    """What a power cut would raise."""


def killer(after):
    def progress(done, total):
        if done >= after:
            raise Killed

    return progress


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    out = tmp_path_factory.mktemp("library") / "small.zarr"
    return make_library(SMALL, out, patterns=5 * PER_BLOCK - 3)


def test_library_holds_patterns_truth_and_provenance(library):
    data = open_library(library)
    assert data["pattern_code"].shape == (10, 2, 3, 48, 48)
    assert read_recipe(library) == SMALL
    assert data.attrs["patterns"] == 5 * PER_BLOCK
    assert {"numpy", "scipy", "gemmi"} <= set(data.attrs["provenance"]["versions"])
    patterns = decode(data["pattern_code"].to_numpy(), data["scale"].to_numpy())
    total = patterns.sum((-1, -2))
    assert (total > 0.1).all()
    assert (total <= 1.0001).all()
    probe = decode(data["probe_code"].to_numpy(), data["probe_scale"].to_numpy())
    np.testing.assert_allclose(probe.sum((-1, -2)), 1, atol=1e-3)
    thickness = data["thickness_angstrom"].to_numpy()
    assert (np.diff(thickness) > 0).all()
    assert set(thickness[..., -1].ravel()) <= {24.0, 40.0}


def test_one_pattern_comes_with_its_truth(library):
    data = open_library(library)
    clean = clean_pattern(data, 3, 1, 2)
    codes, scale = data["pattern_code"][3, 1, 2], data["scale"][3, 1, 2]
    np.testing.assert_array_equal(clean.pattern, decode(codes.values, scale.values))
    assert clean.probe.sum() == pytest.approx(1, abs=1e-3)
    assert clean.q_step == pytest.approx(1 / SMALL.box)
    assert (clean.q[0] == 0).all()
    assert (np.diff(clean.strength[1:]) <= 1e-6 * clean.strength[0]).all()


def test_library_tells_where_its_disks_are(library):
    data = open_library(library)
    truth = data["truth"].to_numpy()
    parameter = data["parameter"].sel(quantity="n_reflections").to_numpy()
    assert (np.isfinite(truth).all(-1).sum(-1) == parameter).all()
    assert (truth[:, :, 0, :5] == 0).all()
    names = data["quantity"].to_numpy().tolist()
    crystals = library_crystals(SMALL)
    first = data["parameter"].to_numpy()[3, 1]
    crystal = crystals[int(first[names.index("crystal")])]
    turn = first[names.index("rotation_xx") : names.index("rotation_xx") + 9]
    shape = first[names.index("deformation_xx") : names.index("deformation_xx") + 9]
    cell = crystal.cell @ turn.reshape(3, 3).T @ shape.reshape(3, 3).T
    rows = truth[3, 1][np.isfinite(truth[3, 1, :, 0])]
    g = rows[:, :3] @ np.linalg.inv(cell).T
    np.testing.assert_allclose(rows[:, 3:5], g[:, 1::-1], atol=1e-5)


def test_interrupted_and_resumed_is_bit_identical(library, tmp_path):
    out = tmp_path / "broken.zarr"
    for after in (1, 3):
        with pytest.raises(Killed):
            make_library(SMALL, out, patterns=58, progress=killer(after * PER_BLOCK))
        with pytest.raises(StoreError, match="unfinished"):
            open_library(out)
    partial = open_library(out, partial=True)
    assert partial.sizes["specimen"] == 6
    calls = []
    make_library(SMALL, out, patterns=58, progress=lambda *a: calls.append(a))
    assert calls[0] == (3 * PER_BLOCK, 5 * PER_BLOCK)
    assert digest(out) == digest(library)


def test_any_number_of_workers_writes_the_same_bytes(library, tmp_path):
    with Client(
        n_workers=2, threads_per_worker=2, processes=False, dashboard_address=":0"
    ) as client:
        out = make_library(SMALL, tmp_path / "two.zarr", patterns=58, client=client)
    assert digest(out) == digest(library)


def test_an_orphan_of_a_killed_run_cannot_mark_what_is_not_there(
    library, tmp_path, monkeypatch
):
    out = tmp_path / "orphan.zarr"
    with pytest.raises(Killed):
        make_library(SMALL, out, patterns=58, progress=killer(2 * PER_BLOCK))
    real = BlockStore.create.__func__

    def create(cls, *args, **kwargs):
        store = real(cls, *args, **kwargs)
        (old,) = Path(library).glob("marks/*/3/0.json")
        mark = Path(store.path) / old.relative_to(library)
        mark.parent.mkdir(parents=True)
        mark.write_text(old.read_text())
        return store

    monkeypatch.setattr(BlockStore, "create", classmethod(create))
    make_library(SMALL, out, patterns=58)
    assert digest(out) == digest(library)


def test_more_blocks_than_a_cluster_holds_at_once(tmp_path):
    one = replace(SMALL, block=1, probes=1, thicknesses=1)
    with Client(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0"
    ) as client:
        calls = []
        out = make_library(
            one,
            tmp_path / "many.zarr",
            patterns=14,
            client=client,
            progress=lambda *a: calls.append(a),
        )
    assert open_library(out).sizes["specimen"] == 14
    assert calls == [(n, 14) for n in range(15)]


def test_a_longer_library_begins_with_the_shorter(library, tmp_path):
    short = make_library(SMALL, tmp_path / "short.zarr", patterns=PER_BLOCK)
    one, five = open_library(short), open_library(library)
    for name in ("pattern_code", "truth", "parameter"):
        np.testing.assert_array_equal(one[name], five[name].isel(specimen=slice(2)))


def test_another_recipe_never_mixes(library, tmp_path):
    before = digest(library)
    with pytest.raises(StoreError, match="seed: 5 there, 6 now"):
        make_library(replace(SMALL, seed=6), library, patterns=58)
    with pytest.raises(StoreError, match="overwrite"):
        make_library(SMALL, library, patterns=58, resume=False)
    assert digest(library) == before
    foreign = tmp_path / "mine"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("precious")
    with pytest.raises(StoreError, match="no store of this package"):
        make_library(SMALL, foreign, patterns=12, overwrite=True)
    assert (foreign / "thesis.txt").exists()


def test_a_full_disk_is_named_and_nothing_half_written_counts(tmp_path, monkeypatch):
    out = tmp_path / "full.zarr"
    real = zarr.Array.__setitem__
    written = []

    def fills_up(self, *args):
        written.append(self.name)
        if len(written) == 10:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(self, *args)

    monkeypatch.setattr(zarr.Array, "__setitem__", fills_up)
    with pytest.raises(StoreError, match="disk is full"):
        make_library(SMALL, out, patterns=58)
    monkeypatch.undo()
    with pytest.raises(StoreError, match="unfinished"):
        open_library(out)
    assert open_library(out, partial=True).sizes["specimen"] == 2


def test_something_else_is_no_library(tmp_path):
    with pytest.raises(StoreError):
        open_library(tmp_path)
    with pytest.raises(StoreError):
        read_recipe(tmp_path / "absent.zarr")


def test_crystals_of_the_split_are_drawn_evenly():
    recipe = replace(SMALL, split="test")
    pool = library_crystals(recipe)
    places = dict(zip(map(id, library_crystals(replace(SMALL, split="all"))),
                      split_crystals(), strict=True))  # fmt: skip
    assert {places[id(c)] for c in pool} == {"test"}
    blocks = -(-len(pool) // 2)
    drawn = [s.index for b in range(blocks) for s in draw_block(recipe, pool, b).scenes]
    assert set(drawn) == set(range(len(pool)))


def test_draws_obey_the_recipe():
    recipe = load_recipe("library")
    pool = library_crystals(recipe)
    seen = {"patterned": 0, "aberrated": 0, "bent": 0, "probes": 0}
    for index in range(25):
        block = draw_block(recipe, pool, index)
        assert block.depth in recipe.depths
        for scene in block.scenes:
            sample = scene.sample
            assert np.abs(sample.deformation - np.eye(3)).max() <= recipe.strain
            assert recipe.thermal[0] <= sample.thermal <= recipe.thermal[1]
            seen["bent"] += bool(np.any(sample.bending))
            for probe in scene.probes:
                radius = probe.semiangle * 1e-3 / block.grid.wavelength * recipe.box
                assert radius >= recipe.min_radius - 1e-9
                seen["probes"] += 1
                seen["patterned"] += probe.rings > 0
                seen["aberrated"] += probe.defocus != 0
    assert 0.15 < seen["bent"] / 100 < 0.45
    assert seen["probes"] == 300
    assert 0.18 < seen["aberrated"] / seen["probes"] < 0.42
    assert 0.02 < seen["patterned"] / seen["probes"] < 0.2


def test_orientations_are_as_near_to_a_zone_axis_as_asked():
    rng = np.random.default_rng(0)
    cell = np.diag([3.0, 4.0, 5.0])
    indices = np.stack(np.meshgrid(*[np.arange(-3, 4)] * 3), -1).reshape(-1, 3)
    axes = indices[indices.any(1)] @ cell
    axes /= np.linalg.norm(axes, axis=1)[:, None]

    def distance(recipe):
        beams = [draw_rotation(recipe, cell, rng)[2] for _ in range(60)]
        return np.rad2deg(np.arccos(np.clip((beams @ axes.T).max(1), -1, 1)))

    near = distance(LibraryRecipe(near_zone=1.0, off_zone=0.0))
    assert near.max() <= 3.0
    assert 1.2 < near.mean() < 2.2
    turn = draw_rotation(LibraryRecipe(), cell, rng)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(turn) == pytest.approx(1)


def test_companding_keeps_weak_disks():
    rng = np.random.default_rng(0)
    image = np.zeros((2, 32, 32), np.float32)
    image[:, 16, 16] = 0.7
    image[:, 2:8, 2:8] = rng.uniform(1e-8, 1e-6, (2, 6, 6))
    codes, scale = encode(image)
    back = decode(codes, scale)
    weak = np.s_[:, 2:8, 2:8]
    np.testing.assert_allclose(back[weak], image[weak], rtol=0.1)
    np.testing.assert_allclose(back[:, 16, 16], 0.7, rtol=1e-6)
    dark = encode(np.zeros((1, 4, 4), np.float32))
    assert (decode(*dark) == 0).all()


def test_a_missing_gpu_is_said():
    if array_module("numpy") is np:
        try:
            array_module("cupy")
        except MissingDependencyError as error:
            assert "engine='numpy'" in str(error)  # noqa: PT017 - a GPU may be there


CIF = """data_copper
_cell_length_a 3.615
_cell_length_b 3.615
_cell_length_c 3.615
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'F m -3 m'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
Cu1 Cu 0 0 0
"""


def test_users_crystals_make_a_library_of_their_own(tmp_path):
    path = tmp_path / "copper.cif"
    path.write_text(CIF)
    own = replace(SMALL, cifs=(str(path),), only_cifs=True, split="all")
    out = make_library(own, tmp_path / "own.zarr", patterns=PER_BLOCK)
    data = open_library(out)
    assert data.attrs["provenance"]["crystals"] == ["cif:copper.cif"]
    hkl = data["truth"].to_numpy()[0, 0, 1:, :3]
    parity = np.mod(hkl[np.isfinite(hkl[:, 0])], 2).sum(-1)
    strong = data["truth"].to_numpy()[0, 0, 1:, 5] > 1e-3
    assert set(parity[strong[: len(parity)]]) <= {0, 3}  # all even or all odd: fcc
    # a file that changed is another library
    path.write_text(CIF.replace("3.615", "3.7"))
    library_crystals.cache_clear()
    with pytest.raises(StoreError, match="cifs"):
        make_library(own, out, patterns=PER_BLOCK)
    wrong = {"train": "test", "validation": "train", "test": "train"}
    (place,) = split_crystals(library_crystals(own))
    with pytest.raises(SimulationError, match="no crystal of the split"):
        library_crystals(replace(own, split=wrong[place]))


def test_extras_that_are_missing_are_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gemmi", None)
    with pytest.raises(MissingDependencyError, match="simulate"):
        factor_coefficients.__wrapped__(14)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingDependencyError, match="simulate"):
        load_crystals.__wrapped__()


def test_an_error_on_a_worker_reaches_the_caller(tmp_path, monkeypatch):
    def fails(*_args):
        msg = "the block is cursed"
        raise SimulationError(msg)

    monkeypatch.setattr("fcunet_dask.simulate.library.draw_block", fails)
    with (
        Client(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0"
        ) as client,
        pytest.raises(SimulationError, match="cursed"),
    ):
        make_library(SMALL, tmp_path / "x.zarr", patterns=58, client=client)


def test_shipped_recipes_can_be_drawn():
    for name in SHIPPED:
        recipe = load_recipe(name)
        block = draw_block(recipe, library_crystals(recipe), 0)
        assert len(block.scenes) == recipe.block
        assert len(recipe.exits(block.depth)) == recipe.thicknesses


def test_a_gpu_would_run_the_same_block():
    # the engine is an argument: the same function, another array library
    block = draw_block(SMALL, library_crystals(SMALL), 0)
    one, two = (simulate_block(block, SMALL, "numpy") for _ in range(2))
    for name, values in one.items():
        np.testing.assert_array_equal(values, two[name])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colour = 3", "unknown keys.*colour"),
        ("seed = ", "no TOML"),
        ("voltages = [5.0]", "voltages"),
        ("voltages = []", "voltages"),
        ("semiangle = [5.0, 2.0]", "semiangle"),
        ("semiangle = [0.1, 0.2]", "below min_radius"),
        ("semiangle = [1.0, 45.0]", "detector"),
        ("semiangle = 3.0", "semiangle"),
        ("size = 100", "multiple of 48"),
        ("pixels = 400", "pixels"),
        ("thicknesses = 400", "slices"),
        ("depth_shares = [0.5]", "depth_shares"),
        ("split = 'secret'", "split"),
        ("strain = 0.5", "strain"),
        ("strain = nan", "strain"),
        ("probes = 'three'", "probes must be int"),
        ("probes = 2.5", "probes must be int"),
        ("block = 0", "block"),
        ("near_zone = 0.8", "exceed 1"),
        ("only_cifs = true", "names no file"),
    ],
)
def test_a_recipe_out_of_range_is_refused_by_name(tmp_path, text, message):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(SimulationError, match=message):
        make_library(path, tmp_path / "never.zarr", patterns=10)
    assert not (tmp_path / "never.zarr").exists()


def test_bad_calls_leave_nothing_behind(tmp_path):
    out = tmp_path / "never.zarr"
    with pytest.raises(SimulationError, match="shipped are"):
        make_library("no-such-recipe", out, patterns=10)
    with pytest.raises(ParameterError, match="at least 1"):
        make_library(SMALL, out, patterns=0)
    with pytest.raises(SimulationError, match="silicon"):
        make_library(replace(SMALL, cifs=("silicon.cif",)), out, patterns=10)
    assert not out.exists()


def test_recipe_survives_json():
    assert LibraryRecipe.from_dict(json.loads(json.dumps(SMALL.to_dict()))) == SMALL
