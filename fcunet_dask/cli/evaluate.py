"""``fcunet-dask evaluate``: detectors judged by the same rules, tables and plots."""

from pathlib import Path
from typing import Annotated

import typer

from fcunet_dask.cli.screen import console, progress_bars

DETECTORS = ["correlation", "template"]


def evaluate(
    out: Annotated[Path, typer.Option(help="Folder of tables, figures and plots.")],
    detector: Annotated[
        list[str] | None,
        typer.Option(
            help="correlation (the best tuned), correlation_edge, template, fcunet, "
            "fcunet_fine, fcunet_mean, fcunet_paper, or a .keras file with its card; "
            "again for each. By default correlation and template."
        ),
    ] = None,
    judged_set: Annotated[
        str, typer.Option("--set", help="Which patterns: test or validation.")
    ] = "test",
    sets: Annotated[
        Path | None,
        typer.Option(
            help="Folder with validation.zarr and test.zarr; what is missing is made "
            "there (2 minutes each). By default --out."
        ),
    ] = None,
    scans: Annotated[
        Path | None,
        typer.Option(
            help="Folder with ideal.zarr, tilted.zarr, thick.zarr (fcunet-dask simulate "
            "--scan); without it strain is not judged."
        ),
    ] = None,
    every: Annotated[
        int, typer.Option(min=1, help="Take one pattern in this many: a quick look.")
    ] = 1,
) -> None:
    """Judge detectors on simulated patterns and scans whose truth is known.

    Each is tuned on validation patterns and judged on crystals that no training saw. A
    detector's figures go to OUT/NAME.json; the tables are of all that OUT holds, so more
    can be judged later, on the same patterns. docs/evaluation.md says what is measured.

    Example: fcunet-dask evaluate --out judged --detector correlation --detector fcunet
    """
    from fcunet_dask._commit.files import writing  # noqa: PLC0415 - slow import
    from fcunet_dask.plot.judge import judge_plots  # noqa: PLC0415 - slow import
    from fcunet_dask.train.judge.evaluate import (  # noqa: PLC0415 - slow import
        judge,
        make_bench,
    )
    from fcunet_dask.train.judge.report import report  # noqa: PLC0415 - slow import
    from fcunet_dask.train.judge.results import (  # noqa: PLC0415 - slow import
        check_detectors,
        check_folder,
        read_results,
    )

    names = detector or DETECTORS
    check_detectors(names)
    with progress_bars() as progress:
        bench = make_bench(sets or out, scans, progress, which=judged_set, every=every)
        check_folder(out, names, bench.what)
        for name in names:
            judge(name, bench, out, progress)
    results = read_results(out)
    text = report(results)
    plots = judge_plots({n: r for n, (r, _) in results.items()})
    with writing(out, len(text)):
        (out / "report.md").write_text(text, encoding="utf-8")
        for name, figure in plots.items():
            figure.savefig(out / f"{name}.png", dpi=120)
    console.print(text, highlight=False, markup=False, soft_wrap=True)
