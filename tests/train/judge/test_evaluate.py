"""The whole chain on patterns made by hand: figures, tables, plots."""

import json

import pytest
import typer
from fcunet_dask.cli.evaluate import evaluate as command
from fcunet_dask.errors import ParameterError
from fcunet_dask.plot.judge import judge_plots
from fcunet_dask.train.judge import evaluate, report
from fcunet_dask.train.judge.completion import remove_disks
from fcunet_dask.train.judge.evaluate import Bench, make_bench
from fcunet_dask.train.judge.results import read_results
from typer.testing import CliRunner


def silent(*_):
    """Say nothing."""


@pytest.fixture(scope="module")
def results(scenes, judged, tmp_path_factory):
    out = tmp_path_factory.mktemp("judged")
    removed = [
        (without.judged(), places)
        for without, places in (
            remove_disks(s, j) for s, j in zip(scenes, judged, strict=True)
        )
    ]
    bench = Bench(judged, judged, scenes, removed, removed, {})
    app = typer.Typer()
    app.command()(command)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "cpu_milliseconds", lambda make, size: 1.5)
        patch.setattr(evaluate, "make_bench", lambda *_, **__: bench)
        names = ("--detector", "correlation", "--detector", "template")
        ran = CliRunner().invoke(app, ["--out", str(out), *names])
    assert ran.exit_code == 0, ran.output
    return out, read_results(out)


def test_the_command_leaves_tables_and_plots(results):
    out, figures = results
    assert (out / "report.md").read_text() == report.report(figures)
    assert {p.name for p in out.glob("*.png")} == {"precision_recall.png", "dose.png"}


def test_flat_disks_are_found_by_both(results):
    _, figures = results
    assert set(figures) == {"correlation", "template"}
    for result, errors in figures.values():
        assert result["detection"]["all"]["f1"] > 0.85
        assert result["position"]["all"]["rmse_px"] < 0.5
        assert result["completion"]["removed"][0] <= 1
        assert len(errors.error) == result["position"]["all"]["disks"]
    # the fit is made for such disks
    assert figures["template"][1].rmse < figures["correlation"][1].rmse


def test_the_strict_threshold_finds_fewer(results):
    """None of the eight removed disks: one in 400 are asked for."""
    _, figures = results
    for result, _ in figures.values():
        strict, usual = result["strict"], result["threshold"]
        assert strict["threshold"]["ranking"] == usual["ranking"]
        assert strict["threshold"]["value"] >= usual["value"]
        assert strict["removed"] == [0, result["completion"]["removed"][1]]
        assert strict["all"]["recall"] <= result["detection"]["all"]["recall"]


def test_figures_are_plain_json(results):
    out, _ = results
    text = (out / "template.json").read_text()
    assert "NaN" not in text
    assert json.loads(text)["threshold"]["ranking"] in (
        "probability",
        "score",
        "intensity",
        "relative",
    )


def test_every_table_is_whole(results):
    _, figures = results
    text = report.report(figures)
    titles = [line for line in text.splitlines() if line.startswith("### ")]
    assert len(titles) == len(set(titles)) >= 15
    for block in text.split("### ")[1:]:
        lines = [line for line in block.splitlines() if line.startswith("|")]
        assert len(lines) >= 3, block
        assert len({line.count("|") for line in lines}) == 1, block


def test_plots(results):
    _, figures = results
    plots = judge_plots({n: r for n, (r, _) in figures.items()})
    assert set(plots) == {"precision_recall", "dose"}
    labels = [t.get_text() for t in plots["dose"].legends[0].get_texts()]
    assert labels == ["correlation", "template"]


def test_an_unknown_set_is_refused(tmp_path):
    with pytest.raises(ParameterError, match="'test' or 'validation'"):
        make_bench(tmp_path, None, silent, which="train")
