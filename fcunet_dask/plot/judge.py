"""Plots of how detectors compare."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from fcunet_dask.plot.figure import NotebookFigure

Results = Mapping[str, Mapping[str, Any]]


def judge_plots(results: Results) -> dict[str, Figure]:
    """Draw precision against recall, F1 against dose, and strain along the scans.

    Parameters
    ----------
    results : mapping
        Figures of each detector, by name, as ``fcunet-dask evaluate`` writes them.

    Returns
    -------
    dict
        Figures by name: ``precision_recall``, ``dose``, and ``strain`` where scans were
        judged.
    """
    plots = {"precision_recall": _precision_recall(results), "dose": _dose(results)}
    kinds = list(dict.fromkeys(k for r in results.values() for k in r["strain"]))
    if kinds:
        plots["strain"] = _strain(results, kinds)
    return plots


def _precision_recall(results: Results) -> Figure:
    figure = NotebookFigure(figsize=(5, 5), layout="constrained")
    ax = figure.subplots()
    for i, (name, result) in enumerate(results.items()):
        curve, chosen = result["detection"]["curve"], result["detection"]["all"]
        ax.plot(curve["recall"], curve["precision"], color=f"C{i}", label=name)
        ax.plot(chosen["recall"], chosen["precision"], "o", color=f"C{i}")
    ax.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    ax.legend(title="dot: threshold of the tables")
    return figure


def _dose(results: Results) -> Figure:
    figure = NotebookFigure(figsize=(8, 4), layout="constrained")
    ax = figure.subplots()
    for i, (name, result) in enumerate(results.items()):
        series = result["dose"]
        ax.semilogx(series["dose"], series["f1"], "o-", color=f"C{i}", label=name)
        ax.semilogx(series["dose"], series["f1_of_brightest"], "--", color=f"C{i}")
    ax.axhline(0.8, color="0.7", lw=0.8)
    ax.set(xlabel="electrons per pattern", ylabel="F1", ylim=(0, 1))
    figure.legend(loc="outside right upper", title="dashed: visible at 10⁶")
    return figure


def _strain(results: Results, kinds: list[str]) -> Figure:
    figure = NotebookFigure(figsize=(10, 3 * len(kinds)), layout="constrained")
    axes = figure.subplots(len(kinds), 1, squeeze=False)[:, 0]
    for ax, kind in zip(axes, kinds, strict=True):
        for i, (name, result) in enumerate(results.items()):
            if kind not in result["strain"]:
                continue
            profile = result["strain"][kind]["profile"]
            found = np.array(profile["found"], float)
            ax.plot(100 * found, color=f"C{i}", lw=1, label=name)
            truth = 100 * np.array(profile["true"])
        ax.plot(truth, color="k", lw=0.8, label="truth")
        ax.set(title=kind, xlabel="column", ylabel="ε_xx, %")
    lines, labels = axes[0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside upper center", ncols=len(labels))
    return figure
