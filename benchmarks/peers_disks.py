"""The peers' own detection of disks, judged as `fcunet-dask evaluate` judges ours.

make -C benchmarks peers
python benchmarks/peers_disks.py SETS JUDGED

SETS and JUDGED are folders of `evaluate`: its patterns, and its results, with whose
correlation positions are compared. Variant and threshold of each peer are those of the
best F1 on every third validation pattern; the test patterns are looked at once.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from fcunet_dask.train.judge.contender import tune
from fcunet_dask.train.judge.detection import tally, total
from fcunet_dask.train.judge.match import Found
from fcunet_dask.train.judge.positions import position_errors
from fcunet_dask.train.judge.results import read_results
from fcunet_dask.train.judge.truth import open_scenes

HERE = Path(__file__).parent
PEERS = {"py4dstem": "py4DSTEM", "libertem": "LiberTEM-blobfinder"}


def judged(path, every=1):
    """Patterns of a set as `evaluate` sees them."""
    return [scene.judged() for scene in open_scenes(path, every=every)]


def found_by(peer, patterns, variants=()):
    """Let a peer look in its own Python: its detections, by variant and pattern."""
    with tempfile.TemporaryDirectory() as folder:
        asked, told = Path(folder) / "in.npz", Path(folder) / "out.npz"
        np.savez(
            asked,
            patterns=[j.counts for j in patterns],
            probes=[np.asarray(j.probe["probe"]) for j in patterns],
            radii=[j.radius for j in patterns],
            centers=[j.probe.attrs["center"] for j in patterns],
            variants=np.array(variants, str),
        )
        python = HERE / ".bench" / peer / "bin" / "python"
        script = HERE / "peers" / f"disks_{peer}.py"
        subprocess.run([python, script, asked, told], check=True)
        with np.load(told) as reply:
            names, rows = list(map(str, reply["names"])), reply["rows"]
    return {
        name: [
            as_found(rows[(rows[:, 0] == v) & (rows[:, 1] == i), 2:])
            for i in range(len(patterns))
        ]
        for v, name in enumerate(names)
    }


def as_found(rows):
    """Rows of y, x, intensity as detections, without what the peers do not say."""
    unknown = np.full(len(rows), np.nan)
    covariance = np.full((len(rows), 3), np.nan)
    return Found(rows[:, :2], covariance, rows[:, 2], unknown, unknown, unknown)


def f1(found, patterns):
    """Precision, recall and F1 of all patterns together."""
    return total([tally(f, j) for f, j in zip(found, patterns, strict=True)])


def main():
    """Print one row for each peer."""
    sets, results = Path(sys.argv[1]), read_results(sys.argv[2])
    validation = judged(sets / "validation.zarr", every=3)
    test = judged(sets / "test.zarr")
    reference = results["correlation"][1]
    print("| peer | best variant | F1 (precision, recall) | RMSE, px | ratio |")
    print("| --- | --- | --- | --- | --- |")
    for peer, title in PEERS.items():
        tried = {}
        for name, found in found_by(peer, validation).items():
            threshold = tune(found, validation)
            kept = [threshold(f) for f in found]
            tried[name] = f1(kept, validation).f1, threshold
            print(f"{title}: {name}: {tried[name][0]:.3f}", file=sys.stderr)
        best = max(tried, key=lambda name: tried[name][0])
        kept = [tried[best][1](f) for f in found_by(peer, test, [best])[best]]
        rates, errors = f1(kept, test), position_errors(kept, test)
        ratio = errors.shared_with(reference).rmse / reference.shared_with(errors).rmse
        print(
            f"| {title} | {best} | {rates.f1:.3f} ({rates.precision:.2f}, "
            f"{rates.recall:.2f}) | {errors.rmse:.2f} | {ratio:.2f} |"
        )


if __name__ == "__main__":
    main()
