"""The command makes the library that the function makes."""

import numpy as np
import pytest
import typer
from fcunet_dask.cli.simulate import simulate
from fcunet_dask.errors import SimulationError
from fcunet_dask.simulate.library import open_library
from typer.testing import CliRunner

RECIPE = """
seed = 5
box = 20.0
size = 96
pixels = 48
depths = [24.0]
depth_shares = [1.0]
thicknesses = 3
block = 2
probes = 2
semiangle = [4.0, 9.0]
min_radius = 2.0
"""


def run(*arguments):
    app = typer.Typer()
    app.command()(simulate)
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_command_makes_and_completes_a_library(tmp_path):
    recipe, out = tmp_path / "recipe.toml", tmp_path / "lib.zarr"
    recipe.write_text(RECIPE)
    arguments = [
        "--recipe",
        recipe,
        "--out",
        out,
        "--patterns",
        20,
        "--cluster",
        "none",
    ]
    first = run(*arguments)
    assert first.exit_code == 0, first.output
    before = open_library(out)["pattern_code"].to_numpy()
    assert before.shape == (4, 2, 3, 48, 48)
    again = run(*arguments)
    assert again.exit_code == 0
    np.testing.assert_array_equal(open_library(out)["pattern_code"], before)


@pytest.mark.filterwarnings("ignore:Port 8787")  # another cluster may be running
def test_workers_leave_the_same_bytes(tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE)
    common = ["--recipe", recipe, "--patterns", 20, "--out"]
    for cluster in ("none", "local"):
        found = run(*common, tmp_path / cluster, "--cluster", cluster)
        assert found.exit_code == 0, found.output
    files = [p for p in (tmp_path / "none").rglob("*") if p.is_file()]
    assert len(files) > 14
    for file in files:
        twin = tmp_path / "local" / file.relative_to(tmp_path / "none")
        assert file.read_bytes() == twin.read_bytes(), file


def test_mistakes_are_named_and_leave_nothing(tmp_path):
    out = tmp_path / "lib.zarr"
    found = run("--recipe", "nonsense", "--out", out, "--cluster", "none")
    assert found.exit_code == 1
    assert isinstance(found.exception, SimulationError)
    assert "shipped are" in str(found.exception)
    assert not out.exists()
