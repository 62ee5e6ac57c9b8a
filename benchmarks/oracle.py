"""Positions of disks with the help of an oracle that knows which reflection each one is.

python benchmarks/oracle.py TEST_SET JUDGED [every]

TEST_SET and JUDGED are ``test.zarr`` and OUT of ``fcunet-dask evaluate``, which has judged
``correlation`` and ``fcunet_mean``. The oracle gives the true positions; all that is left
to find in a pattern is the affine map from them to the found ones (origin, turn and
distortion), by least squares with Huber weights. Then the share of the visible disks that
lie on one lattice through the direct beam, found from the truth; and the F1 of another
oracle, which knows where every reflection is and how strong, and has only to say from the
noisy counts which of them can be seen, by the best threshold of their significance.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from fcunet_dask.kernels.basis import find_basis
from fcunet_dask.simulate.visibility import Visibility, disk_significance
from fcunet_dask.train.judge.contender import Contender
from fcunet_dask.train.judge.detection import Tally, Threshold
from fcunet_dask.train.judge.match import match
from fcunet_dask.train.judge.positions import position_errors
from fcunet_dask.train.judge.truth import open_scenes

LEAST = 7
"""Disks of a pattern that the oracle helps."""
UNEVEN, UNKNOWN = 0.05, 0.2
"""What uneven fillings move a disk by, and errors of which nothing is known, σ, radii."""
OFF = 0.1
"""σ of a true position about its lattice, px."""


def main(test_set, judged, every="5"):
    patterns = [s.judged() for s in open_scenes(test_set, every=int(every))]
    found = {n: detected(n, patterns, judged) for n in ("correlation", "fcunet_mean")}
    for name in list(found):
        pairs = zip(found[name], patterns, strict=True)
        found[f"{name}, oracle"] = [helped(f, j) for f, j in pairs]
    reference = position_errors(found["correlation"], patterns)
    print("| | RMSE of what was found, px | ratio to correlation | ≥ 30 nm |")
    print("| --- | --- | --- | --- |")
    for name, disks in found.items():
        errors = position_errors(disks, patterns)
        own, theirs = errors.shared_with(reference), reference.shared_with(errors)
        thick, others = (e.take(e.thickness >= 30) for e in (own, theirs))
        print(
            f"| {name} | {errors.rmse:.3f} | {own.rmse / theirs.rmse:.2f} "
            f"| {thick.rmse / others.rmse:.2f} |"
        )
    on, disks = np.sum([on_one_lattice(j) for j in patterns], axis=0)
    print(f"\n{100 * on / disks:.0f} % of {disks:.0f} visible disks lie on one lattice")
    best = max(seen_where_known(patterns), key=lambda tally: tally.f1)
    print(f"places known: F1 {best.f1:.3f} ({best.precision:.2f}, {best.recall:.2f})")


def detected(name, patterns, judged):
    """Return the detections that count, of each pattern, as they were judged."""
    result = json.loads((Path(judged) / f"{name}.json").read_text())
    contender = Contender(name, result["options"])
    threshold = Threshold(**result["threshold"])
    return [threshold(contender.candidates(j)) for j in patterns]


def helped(found, j):
    """Put detections where the affine map of their true positions says they are."""
    matched = match(found.position, j)
    if len(matched.found) < LEAST:
        return found
    position, true = found.position[matched.found], j.position[matched.true]
    own = found.covariance[matched.found][:, [0, 2]].mean(axis=1)
    known = np.where(np.isfinite(own), own, (UNKNOWN * j.radius) ** 2)
    variance = known + (UNEVEN * j.radius) ** 2
    terms = np.column_stack([np.ones(len(true)), true - true.mean(axis=0)])
    weight = 1 / variance
    for _ in range(6):
        root = np.sqrt(weight)[:, None]
        fit = terms @ np.linalg.lstsq(terms * root, position * root, rcond=None)[0]
        off = np.hypot(*(position - fit).T) / np.sqrt(2 * variance)
        weight = np.minimum(1, 2.5 / np.maximum(off, 1e-9)) / variance
    moved = found.position.copy()
    moved[matched.found] = fit
    return replace(found, position=moved)


def on_one_lattice(j):
    """Visible disks on the best lattice through the direct beam, and all of them."""
    visible = j.label == Visibility.VISIBLE
    position, weight = j.position[visible], j.flux[visible] ** 0.25
    middle = np.array(j.counts.shape) / 2
    beam = j.position[np.argmin(np.hypot(*(j.position - middle).T))]
    shortest = j.radius * np.array([0.6, 1.0, 1.5])
    bases = [find_basis(position - beam, weight, OFF, s) for s in shortest]
    return max((b.n_spots for b in bases if b), default=0), len(position)


def seen_where_known(patterns):
    """Return the tally of what is above each significance."""
    label = np.concatenate([j.label for j in patterns])
    significance = np.concatenate(
        [
            disk_significance(j.counts, j.position, j.radius, j.edge, j.strength)[0]
            for j in patterns
        ]
    )
    asked = label != Visibility.FAINT
    visible = label[asked] == Visibility.VISIBLE
    tallies = []
    for least in np.arange(1.0, 6.0, 0.05):
        found = significance[asked] >= least
        counted = (found & visible, found & ~visible, visible & ~found)
        tallies.append(Tally(*(int(part.sum()) for part in counted)))
    return tallies


if __name__ == "__main__":
    main(*sys.argv[1:])
