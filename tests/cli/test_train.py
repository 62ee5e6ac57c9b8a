"""One command from a library to a detector."""

import numpy as np
import pytest
import typer
from fcunet_dask import load_detector
from fcunet_dask.cli.train import train
from fcunet_dask.errors import ParameterError
from fcunet_dask.simulate.library import clean_pattern, open_library
from fcunet_dask.train.loop import read_history
from typer.testing import CliRunner

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

RECIPE = """
batch = 2
warm_up = 1
average = 0.9
[options]
filters = [2]
gates = [1]
[data]
size = 16
crops = 2
"""


def run(*arguments):
    app = typer.Typer()
    app.command()(train)
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_a_few_steps_make_a_detector(tiny_library, tmp_path):
    recipe, out = tmp_path / "recipe.toml", tmp_path / "out"
    recipe.write_text(RECIPE)
    common = ["--library", tiny_library, "--out", out, "--processes", 0, "--every", 1]
    found = run(recipe, *common, "--steps", 2)
    assert found.exit_code == 0, found.output
    assert "2 of 2" in found.output
    assert str(out / "network.keras") in found.output.replace("\n", "")
    assert [e["step"] for e in read_history(out)] == [1, 2]
    detector = load_detector(
        str(out / "network.keras"), radius=3.0, min_probability=0.0, max_peaks=8
    )
    pattern = clean_pattern(open_library(tiny_library), 0, 0, 1).pattern
    peaks = detector(1e5 * pattern[None])
    assert peaks.position.shape == (1, 8, 2)
    known = np.isfinite(peaks.position[0, :, 0])
    assert np.isfinite(peaks.probability[0][known]).all()


def test_a_recipe_that_is_none_leaves_nothing(tiny_library, tmp_path):
    out = tmp_path / "out"
    found = run("nonsense", "--library", tiny_library, "--out", out)
    assert isinstance(found.exception, ParameterError)
    assert not out.exists()
