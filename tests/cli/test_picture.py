"""The figure beside results, and what must not be lost to it."""

import sys

import numpy as np
import pytest
from fcunet_dask.cli import main
from fcunet_dask.cli.picture import draw, picture_path, refuse_others
from fcunet_dask.errors import StoreError
from matplotlib.figure import Figure


def typed(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["fcunet-dask", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


@pytest.mark.parametrize(
    ("out", "path"),
    [
        ("a/sample.zarr", "a/sample.png"),
        ("a/sample", "a/sample.png"),
        ("s3://bucket/sample.zarr", "sample.png"),
    ],
)
def test_the_figure_is_beside_the_results(out, path):
    assert picture_path(out).as_posix() == path


def test_only_our_own_figure_is_replaced(results, tmp_path):
    path = tmp_path / "sample.png"
    refuse_others(path, "go")  # there is none
    assert draw(results, tmp_path / "sample.zarr") == path
    refuse_others(path, "go")  # ours
    Figure(figsize=(1, 1)).savefig(path)
    with pytest.raises(StoreError, match=r"sample.png.*no figure of results.*or go"):
        refuse_others(path, "go")
    path.write_bytes(b"")
    with pytest.raises(StoreError, match="no figure of results"):
        refuse_others(path, "go")


def test_a_picture_that_has_the_name_of_the_figure_stops_a_run(
    scan, tmp_path, monkeypatch, capsys
):
    """Before anything is computed; with --overwrite it is replaced."""
    np.save(tmp_path / "scan.npy", scan["pattern"].values[:3, :4])
    picture, out = tmp_path / "sample.png", tmp_path / "sample"
    Figure(figsize=(1, 1)).savefig(picture)
    before = picture.read_bytes()
    words = ("strain", tmp_path / "scan.npy", out)
    assert typed(monkeypatch, *words) == 1
    assert "give OUT another name" in capsys.readouterr().err
    assert picture.read_bytes() == before
    assert not out.exists()
    assert typed(monkeypatch, *words, "--overwrite") == 0
    assert typed(monkeypatch, *words) == 0  # goes on, and draws its own figure anew
    assert picture.stat().st_size > 20_000


def test_the_demo_refuses_a_folder_with_such_a_picture(tmp_path, monkeypatch, capsys):
    Figure(figsize=(1, 1)).savefig(tmp_path / "strain.png")
    assert typed(monkeypatch, "demo", tmp_path) == 1
    assert "give another FOLDER" in " ".join(capsys.readouterr().err.split())
    assert [p.name for p in tmp_path.iterdir()] == ["strain.png"]
