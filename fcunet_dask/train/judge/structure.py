"""How well intensities say which structure factors are large."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import pearsonr, spearmanr

from fcunet_dask.train.judge.detection import Group
from fcunet_dask.train.judge.match import Found, match
from fcunet_dask.train.judge.truth import Judged
from fcunet_dask.types import Array

LEAST = 8
"""Matched disks a pattern needs to be counted."""


def correlations(found: Found, judged: Judged) -> dict[str, float]:
    """Correlation of what was found with |V_g| over the matched disks of a pattern.

    The amplitude of a disk is the detector's structure factor, or the root of its
    intensity where it gives none.

    Parameters
    ----------
    found : Found
        Detections.
    judged : Judged
        The pattern.

    Returns
    -------
    dict
        ``rank`` (Spearman) and ``linear`` (Pearson) correlation with |V_g|, and
        ``rank_weighted`` with |V_g| weakened by the distance to the Ewald sphere; NaN
        where fewer than `LEAST` disks are matched.
    """
    matched = match(found.position, judged)
    amplitude = _amplitude(found)[matched.found]
    true, weakened = judged.potential[matched.true], judged.strength[matched.true]
    usable = len(amplitude) >= LEAST and min(map(np.ptp, (amplitude, true))) > 0
    if not usable:
        return dict.fromkeys(("rank", "linear", "rank_weighted"), float("nan"))
    return {
        "rank": float(spearmanr(amplitude, true).statistic),
        "linear": float(pearsonr(amplitude, true).statistic),
        "rank_weighted": float(spearmanr(amplitude, weakened).statistic),
    }


def _amplitude(found: Found) -> Array:
    if np.isfinite(found.structure_factor).all():
        return found.structure_factor
    return np.sqrt(np.maximum(found.intensity, 0))


def by_thickness(
    found: Sequence[Found], judged: Sequence[Judged], group: Group
) -> dict[str, dict[str, float]]:
    """Median correlations of the patterns of each group, and of all."""
    rows = [correlations(f, j) for f, j in zip(found, judged, strict=True)]
    names = [group(j) for j in judged]
    thin = [j.condition["thickness"] <= 50 for j in judged]
    table = {"all": rows, "≤ 50 nm": [r for r, t in zip(rows, thin, strict=True) if t]}
    for name in dict.fromkeys(names):
        table[name] = [r for r, n in zip(rows, names, strict=True) if n == name]
    return {name: _medians(part) for name, part in table.items()}


def _medians(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    counted = [r for r in rows if np.isfinite(r["rank"])]
    if not counted:
        return {"patterns": 0}
    medians = {k: float(np.median([r[k] for r in counted])) for k in counted[0]}
    return {"patterns": len(counted), **medians}
