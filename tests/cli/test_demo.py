"""The demo replaces what a demo left, and nothing else."""

import sys
from dataclasses import replace

import pytest
from fcunet_dask import run, save_scan, simulate_scan
from fcunet_dask.cli import main
from fcunet_dask.cli.demo import demo
from fcunet_dask.simulate import KinematicRecipe

COMMAND = sys.modules[demo.__module__]


def made_in(monkeypatch, folder):
    monkeypatch.setattr(sys, "argv", ["fcunet-dask", "demo", str(folder)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def contents(folder):
    """Bytes of all files of a folder."""
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    recipe = replace(COMMAND.RECIPE, scan=(12, 16))
    monkeypatch.setattr(COMMAND, "RECIPE", recipe)


def test_a_demo_can_be_made_again(tmp_path, monkeypatch):
    assert made_in(monkeypatch, tmp_path / "demo") == 0
    assert made_in(monkeypatch, tmp_path / "demo") == 0


@pytest.mark.parametrize(
    "kept", [("scan.zarr",), ("strain.zarr",), ("scan.zarr", "strain.zarr")]
)
def test_a_scan_of_the_user_is_left_alone(tmp_path, monkeypatch, capsys, kept):
    """`scan.zarr` and `strain.zarr` are what anybody would call them."""
    mine = tmp_path / "mine"
    mine.mkdir()
    scan = simulate_scan(KinematicRecipe(scan=(12, 16)))
    own = mine / "scan.zarr" if "scan.zarr" in kept else tmp_path / "other.zarr"
    save_scan(scan[["pattern"]], own)
    if "strain.zarr" in kept:
        run(own, mine / "strain.zarr")
    before = contents(mine)
    assert made_in(monkeypatch, mine) == 1
    assert "give another FOLDER" in " ".join(capsys.readouterr().err.split())
    assert contents(mine) == before
