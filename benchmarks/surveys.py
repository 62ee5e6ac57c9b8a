"""Surveys of scans that are small for their cluster: one after another, and side by side.

python benchmarks/surveys.py [repeats] [scans] [rows and columns of a scan]

Two workers, processes of one thread. Each repeat surveys the same scans with one, two and
three at once, in turn; ratios are those of its own times.
"""

import shutil
import sys
import tempfile
import time
from pathlib import Path

import fcunet_dask
import numpy as np
from workers import warm_workers

AT_ONCE = (1, 2, 3)


def main(repeats="3", scans="6", side="96"):
    folder = Path(tempfile.mkdtemp())
    try:
        paths = [
            make(folder / f"{i}.zarr", int(side), seed=i) for i in range(int(scans))
        ]
        times = np.array(
            [
                [seconds(paths, folder / "out", n) for n in AT_ONCE]
                for _ in range(int(repeats))
            ]
        )
    finally:
        shutil.rmtree(folder)
    print("| scans at once | s, median | scans/min | times as fast |")
    print("| --- | --- | --- | --- |")
    for n, own, ratio in zip(AT_ONCE, times.T, (times[:, :1] / times).T, strict=True):
        median = np.median(own)
        print(
            f"| {n} | {median:.1f} | {60 * len(paths) / median:.1f} | "
            f"{np.median(ratio):.2f} ({ratio.min():.2f} – {ratio.max():.2f}) |"
        )


def make(path, side, seed):
    scan = fcunet_dask.simulate_scan(
        scan=(side, side), detector=(128, 128), blocks=(16, 16), seed=seed
    )
    fcunet_dask.save_scan(scan.drop_vars("probe"), path)
    return path


def seconds(paths, out, at_once):
    """Wall time of one survey on two workers, which are warm."""
    shutil.rmtree(out, ignore_errors=True)
    with warm_workers(2):
        began = time.perf_counter()
        rows = fcunet_dask.survey(paths, out, at_once=at_once, blocks=(16, 16))
        took = time.perf_counter() - began
    if any(row.state != "done" for row in rows):
        raise SystemExit(str(rows))
    return took


if __name__ == "__main__":
    main(*sys.argv[1:])
