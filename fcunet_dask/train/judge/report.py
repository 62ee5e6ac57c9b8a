"""The figures of all judged detectors as Markdown tables."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from fcunet_dask.train.judge.dose import dose_at
from fcunet_dask.train.judge.positions import Errors

Results = Mapping[str, tuple[dict[str, Any], Errors]]
"""Figures and position errors of each detector, by name."""

YARDSTICK: Final = "correlation"
"""The detector that positions are compared with."""

_DASH: Final = "–"


def report(results: Results) -> str:
    """Lay out every table.

    Parameters
    ----------
    results : mapping
        From `fcunet_dask.train.judge.results.read_results`.

    Returns
    -------
    str
        Markdown.
    """
    figures = {name: result for name, (result, _) in results.items()}
    parts = [
        ("What was judged", _settings(figures)),
        ("Detection", _detection(figures)),
        *((f"F1 by {g}", _groups(figures, g)) for g in _group_names(figures)),
        ("Position", _positions(figures)),
        ("Position on the same disks", _shared(results)),
        ("Structure factor", _structure(figures)),
        ("False disks", _completion(figures)),
        ("When fewer may be invented", _strict(figures)),
        ("Dose", _dose(figures)),
        ("Cost", _cost(figures)),
        *((f"Strain, {k}", _strain(figures, k)) for k in _scan_names(figures)),
        ("Variants tried on the validation patterns", _tried(figures)),
    ]
    return "\n".join(f"### {title}\n\n{table}\n" for title, table in parts)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with so many digits behind the point; a dash for none."""
    return _DASH if value is None else f"{value:.{digits}f}"


def percent(value: float | None, digits: int = 0) -> str:
    """Return a share in percent."""
    return _DASH if value is None else f"{100 * value:.{digits}f} %"


def _settings(figures: Mapping[str, dict[str, Any]]) -> str:
    rows = []
    for name, f in figures.items():
        options = ", ".join(f"{k} {v}" for k, v in f["options"].items())
        rows.append([name, options or "as shipped", _least(f["threshold"])])
    return table(["detector", "options", "detections that count"], rows)


def _least(limit: Mapping[str, Any]) -> str:
    return f"{limit['ranking']} ≥ {limit['value']:.3g}" if limit["value"] else _DASH


def _detection(figures: Mapping[str, dict[str, Any]]) -> str:
    rows = []
    for name, f in figures.items():
        d = f["detection"]
        rates = [number(d["all"][k]) for k in ("precision", "recall", "f1")]
        rest = [number(d["average_precision"]), number(d["mean_f1_of_patterns"])]
        rows.append([name, *rates, *rest])
    header = ["detector", "precision", "recall", "F1", "average precision",
              "mean F1 of a pattern"]  # fmt: skip
    return table(header, rows)


def _group_names(figures: Mapping[str, dict[str, Any]]) -> list[str]:
    first = next(iter(figures.values()), None)
    return [] if first is None else list(first["detection"]["groups"])


def _groups(figures: Mapping[str, dict[str, Any]], group: str) -> str:
    tables = {n: f["detection"]["groups"][group] for n, f in figures.items()}
    columns = sorted({c for t in tables.values() for c in t}, key=_group_order)
    rows = [
        [name, *(number(t[c]["f1"]) if c in t else _DASH for c in columns)]
        for name, t in tables.items()
    ]
    return table(["detector", *columns], rows)


def _group_order(name: str) -> tuple[int, float, str]:
    words = name.removeprefix("<").removeprefix("≥").split()
    try:
        start = float(words[0])
    except ValueError:
        return 0, 0.0, name
    return 1, start - 1e-6 * name.startswith("<"), name


def _positions(figures: Mapping[str, dict[str, Any]]) -> str:
    rows = []
    for name, f in figures.items():
        for part, p in f["position"].items():
            if p["disks"]:
                rows.append([name, part, str(p["disks"]), *_position_cells(p)])
    header = ["detector", "thickness", "disks", "RMSE, px", "RMSE, 10⁻³ 1/Å",
              "median, px", "bias y, x, px", "within 1σ", "within 2σ",
              "median over bound"]  # fmt: skip
    return table(header, rows)


def _position_cells(p: Mapping[str, Any]) -> list[str]:
    return [
        number(p["rmse_px"]),
        number(1e3 * p["rmse_inverse_angstrom"], 2),
        number(p["median_px"]),
        f"{p['bias_y_px']:+.3f}, {p['bias_x_px']:+.3f}",
        percent(p["within_1_sigma"]),
        percent(p["within_2_sigma"]),
        number(p["median_over_bound"], 1),
    ]


def _shared(results: Results) -> str:
    if YARDSTICK not in results:
        return f"Not compared: {YARDSTICK!r} was not judged."
    _, reference = results[YARDSTICK]
    rows = []
    for name, (_, errors) in results.items():
        if name == YARDSTICK:
            continue
        own, theirs = errors.shared_with(reference), reference.shared_with(errors)
        thick, others = (e.take(e.thickness >= 30) for e in (own, theirs))
        cells = [name, str(len(own.error)), number(own.rmse), number(theirs.rmse)]
        for top, bottom in ((own, theirs), (thick, others)):
            cells.append(number(top.rmse / bottom.rmse, 2))
            cells.append(number(top.least_rmse / bottom.rmse, 2))
        cells.append(number(errors.rmse / reference.rmse, 2))
        rows.append(cells)
    header = ["detector", "disks found by both", "RMSE, px", f"{YARDSTICK}'s, px",
              "ratio", "of the bound", "ratio ≥ 30 nm", "of the bound ≥ 30 nm",
              "ratio, each on its own disks"]  # fmt: skip
    return table(header, rows)


def _structure(figures: Mapping[str, dict[str, Any]]) -> str:
    rows = []
    for name, f in figures.items():
        for part, s in f["structure_factor"].items():
            if s["patterns"]:
                keys = ("rank", "linear", "rank_weighted")
                rows.append(
                    [name, part, str(s["patterns"]), *(number(s[k], 2) for k in keys)]
                )
    header = ["detector", "thickness", "patterns", "rank", "linear",
              "rank, with the excitation error"]  # fmt: skip
    return table(header, sorted(rows, key=lambda r: _group_order(r[1])))


def _completion(figures: Mapping[str, dict[str, Any]]) -> str:
    kinds = ("removed", "forbidden", "lattice", "elsewhere")
    rows = [
        [n, *(_share(f["completion"][k]) for k in kinds)] for n, f in figures.items()
    ]
    header = ["detector", "removed disks", "systematic absences",
              "other invisible reflections", "between reflections"]  # fmt: skip
    return table(header, rows)


def _strict(figures: Mapping[str, dict[str, Any]]) -> str:
    rows = []
    for name, f in figures.items():
        strict = f["strict"]
        rates = [number(strict["all"][k]) for k in ("precision", "recall", "f1")]
        found = f"{strict['removed'][0]} of {strict['removed'][1]}"
        rows.append([name, _least(strict["threshold"]), *rates, found])
    header = ["detector", "detections that count", "precision", "recall", "F1",
              "removed disks found"]  # fmt: skip
    return table(header, rows)


def _share(counts: Sequence[int]) -> str:
    hits, total = counts
    return f"{100 * hits / total:.2f} % of {total}" if total else _DASH


def _dose(figures: Mapping[str, dict[str, Any]]) -> str:
    first = next(iter(figures.values()))["dose"]["dose"]
    yardstick = figures.get(YARDSTICK)
    rows = []
    for name, f in figures.items():
        for key, words in (("f1", "at that dose"), ("f1_of_brightest", "at 10⁶")):
            at = f["dose"]["falls_to_0.8_at"][key]
            fall = _electrons(float("nan") if at is None else at)
            level = None if yardstick is None else yardstick["dose"][key][-1]
            like = None if level is None else dose_at(first, f["dose"][key], level)
            cells = [number(v, 2) for v in f["dose"][key]]
            rows.append([name, words, *cells, fall, _electrons(like)])
    header = ["detector", "visible", *(f"{d:.0e}" for d in first), "F1 = 0.8 at",
              f"F1 of {YARDSTICK} at 10⁶ reached at"]  # fmt: skip
    return table(header, rows)


def _electrons(dose: float | None) -> str:
    """Return a dose of `dose_at`."""
    if dose is None:
        return _DASH
    if math.isnan(dose):
        return "not reached"
    return f"{dose:.1e}" if dose else "below 10³"


def _cost(figures: Mapping[str, dict[str, Any]]) -> str:
    rows = [
        [n, *(number(v, 1) for v in f["cost"]["cpu_ms"].values()),
         f"{f['cost']['parameters']:,}"]
        for n, f in figures.items()
    ]  # fmt: skip
    return table(["detector", "128², CPU ms", "256², CPU ms", "parameters"], rows)


def _scan_names(figures: Mapping[str, dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(k for f in figures.values() for k in f["strain"]))


def _strain(figures: Mapping[str, dict[str, Any]], kind: str) -> str:
    rows = []
    for name, f in figures.items():
        for truth, components in f["strain"].get(kind, {}).get("figures", {}).items():
            for component, values in components.items():
                if truth == "middle" or component == "xx":
                    rows.append([name, component, truth, *_strain_cells(values)])
    header = ["detector", "component", "truth", "RMSE, %", "gain", "bias, %",
              "noise, %", "within 1σ", "within 2σ", "fitted"]  # fmt: skip
    return table(header, rows)


def _strain_cells(values: Mapping[str, Any]) -> list[str]:
    scaled: Callable[[str], float | None] = lambda k: (  # noqa: E731 - reads as a table
        None if values.get(k) is None else 100 * values[k]
    )
    return [
        number(scaled("rmse")),
        number(values.get("gain")),
        number(scaled("bias")),
        number(scaled("noise")),
        percent(values.get("within_1_sigma")),
        percent(values.get("within_2_sigma")),
        percent(values.get("fitted")),
    ]


def _tried(figures: Mapping[str, dict[str, Any]]) -> str:
    rows = []
    for name, f in figures.items():
        for t in f["tried"]:
            shown = {
                k: v for k, v in t.items() if k not in ("ranking", "f1", "rmse_px")
            }
            words = ", ".join(f"{k} {v}" for k, v in shown.items())
            rows.append(
                [name, words, t["ranking"], number(t["f1"]), number(t["rmse_px"])]
            )
    return table(["detector", "variant", "ranked by", "F1", "RMSE, px"], rows)
