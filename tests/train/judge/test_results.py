"""Only what was measured on the same patterns stands in one table."""

import json
from dataclasses import replace

import numpy as np
import pytest
from fcunet_dask.errors import ModelError, ParameterError, StoreError
from fcunet_dask.kernels.multislice import Grid
from fcunet_dask.model.weights import find_weights
from fcunet_dask.simulate.evaluation import multilayer_scan
from fcunet_dask.simulate.library import make_library
from fcunet_dask.simulate.scan_store import make_scan
from fcunet_dask.train.judge import sets
from fcunet_dask.train.judge.evaluate import make_bench
from fcunet_dask.train.judge.positions import Errors
from fcunet_dask.train.judge.results import (
    check_detectors,
    check_folder,
    read_results,
    write_result,
)
from fcunet_dask.train.judge.sets import judged_scans, judged_set

ALL = {"set": "test", "every": 1}
NONE = Errors(np.zeros((0, 3), int), *(np.zeros((0, 2)),) * 2, *(np.zeros(0),) * 3)


def silent(*_):
    """Say nothing."""


def judged(out, name, what, detector=None):
    detector = {"name": detector or name, "sha256": ""}
    result = {"name": name, "detector": detector, "judged_on": what}
    return write_result(out, result, NONE)


def test_results_of_other_patterns_are_refused(tmp_path):
    judged(tmp_path, "correlation", ALL)
    check_folder(tmp_path, ["fcunet"], ALL)
    quick = ALL | {"every": 4}
    with pytest.raises(StoreError, match="correlation on other patterns"):
        check_folder(tmp_path, ["fcunet"], quick)
    check_folder(tmp_path, ["correlation", "fcunet"], quick)  # it will be judged again


def test_another_file_of_the_same_name_is_refused(tmp_path):
    judged(tmp_path, "network", ALL, "a/network.keras")
    check_folder(tmp_path, ["a/network.keras"], ALL)
    with pytest.raises(StoreError, match=r"results of a/network\.keras"):
        check_folder(tmp_path, ["b/network.keras"], ALL)


def test_results_without_their_patterns_are_not_believed(tmp_path):
    path = judged(tmp_path, "template", ALL)
    figures = json.loads(path.read_text())
    del figures["judged_on"], figures["detector"]
    path.write_text(json.dumps(figures))
    with pytest.raises(StoreError, match="template on other patterns"):
        check_folder(tmp_path, ["fcunet"], ALL)


def test_results_are_read_as_they_were_written(tmp_path):
    key = np.array([[3, 1, 7], [3, 2, 7]])
    two = replace(NONE, key=key, error=np.ones((2, 2)))
    write_result(tmp_path / "new", {"name": "x", "f1": None}, two)
    figures, errors = read_results(tmp_path / "new")["x"]
    assert figures == {"name": "x", "f1": None}
    np.testing.assert_array_equal(errors.key, key)


def test_what_cannot_be_judged_is_said_first(tmp_path):
    check_detectors(["correlation", "correlation_edge", "template", "fcunet_mean"])
    with pytest.raises(ModelError, match="no detector 'tempalte'"):
        check_detectors(["correlation", "tempalte"])
    with pytest.raises(ModelError, match="no weights"):
        check_detectors([str(tmp_path / "network.keras")])


def test_two_results_of_one_name_are_refused(tmp_path):
    weights, _ = find_weights("fcunet")
    paths = []
    for name in ("a/network", "b/network", "b/correlation"):
        path = tmp_path / f"{name}.keras"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(weights.read_bytes())
        path.with_suffix(".json").write_bytes(weights.with_suffix(".json").read_bytes())
        paths.append(str(path))
    check_detectors([paths[0], "correlation"])
    with pytest.raises(ParameterError, match="would have the name of those of"):
        check_detectors(paths[:2])
    with pytest.raises(ParameterError, match="would have the name of those of"):
        check_detectors([paths[2]])


def test_a_set_of_other_patterns_is_refused(tmp_path, tiny_recipe, monkeypatch):
    make_library(tiny_recipe, tmp_path / "test.zarr", patterns=4)
    with pytest.raises(StoreError, match=r"other seed, split.*number of patterns"):
        judged_set(tmp_path, "test", silent)


def test_a_set_that_was_interrupted_is_completed(tmp_path, tiny_recipe, monkeypatch):
    shipped = replace(tiny_recipe, seed=101, split="validation", block=1)
    monkeypatch.setattr(sets, "PATTERNS", 4)
    monkeypatch.setattr(sets, "load_recipe", lambda _: shipped)

    def made(name, path, **options):
        assert name == "validation"
        return make_library(shipped, path, **options)

    def interrupt(done, _):
        if done:
            raise KeyboardInterrupt

    monkeypatch.setattr(sets, "make_library", made)
    path = tmp_path / "validation.zarr"
    with pytest.raises(KeyboardInterrupt):
        make_library(shipped, path, patterns=4, progress=interrupt)
    told = []
    assert judged_set(tmp_path, "validation", lambda *a: told.append(a)) == path
    assert told == [("validation set", 2, 4), ("validation set", 4, 4)]
    judged_set(tmp_path, "validation", lambda *a: told.append(a))
    assert len(told) == 2  # whole: nothing is made


def test_scans_that_are_not_there_are_said(tmp_path, caplog):
    assert judged_scans(None) == {}
    with pytest.raises(StoreError, match=r"none of ideal\.zarr, tilted\.zarr"):
        make_bench(tmp_path, tmp_path / "scnas", silent)
    assert not list(tmp_path.iterdir())  # before the sets are made


def test_a_scan_of_another_truth_is_refused(tmp_path):
    other = multilayer_scan(
        "tilted",
        scan=(1, 2),
        tile=(1, 2),
        thickness=(2.0, 2.0),
        grid=Grid(box=30.0, size=96, step=2.0, voltage=200.0),
        pixels=64,
    )
    make_scan(other, tmp_path / "tilted.zarr")
    with pytest.raises(StoreError, match=r"tilted\.zarr is not the scan .* as tilted"):
        judged_scans(tmp_path)
