"""Patterns a second from a Zarr store in memory to peaks, and what bounds them.

python benchmarks/throughput.py [DETECTOR] [THREADS] [PATTERNS]

One process, as a worker is one: 256² patterns in blocks of 256, of which each of THREADS
reads, decodes and searches one at a time (a GPU is one thread's at a time). Beside the
whole: decoding alone and searching alone, on as many threads. The larger of the two times
is the floor of the whole; where it is reached, the other is hidden behind it.
"""

import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import fcunet_dask
import numpy as np
from fcunet_dask._computing import computing
from fcunet_dask._source import source_of
from fcunet_dask.model.device import gpu

SIDE = 16
REPEATS = 3


def blocks_of(scan):
    """Return where the blocks of a scan are."""
    whole = (slice(None), slice(None))
    return [
        (slice(i, i + SIDE), slice(j, j + SIDE), *whole)
        for i in range(0, scan.sizes["scan_y"], SIDE)
        for j in range(0, scan.sizes["scan_x"], SIDE)
    ]


def rate(work, boxes, threads):
    """Return patterns a second, the best of a few times."""
    best = np.inf
    with computing(), ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, boxes[:threads]))  # compiled, and each thread begun
        for _ in range(REPEATS):
            start = time.perf_counter()
            list(pool.map(work, boxes))
            best = min(best, time.perf_counter() - start)
    return len(boxes) * SIDE**2 / best


def main(name="template", threads="4", patterns="4096"):
    """Print the table."""
    columns = max(SIDE, int(patterns) // SIDE)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        made = fcunet_dask.simulate_scan(
            scan=(SIDE, columns), detector=(256, 256), radius=12.0, g1=(0.0, 60.0),
            g2=(60.0, 0.0), blocks=None, dose=2e4,
        )  # fmt: skip
        fcunet_dask.save_scan(
            made[["pattern"]], f"{folder}/scan.zarr", shard=(SIDE, SIDE)
        )
        scan = fcunet_dask.open_scan(f"{folder}/scan.zarr", blocks=(SIDE, SIDE))
        detector = fcunet_dask.load_detector(name, fcunet_dask.estimate_probe(scan))
        source, boxes = source_of(scan.pattern.data), blocks_of(scan)
        held = source.read(boxes[0]).reshape(-1, 256, 256)

        def search(box):
            return detector(source.read(box).reshape(-1, 256, 256))

        found = {
            "decode alone": rate(source.read, boxes, int(threads)),
            "search alone": rate(lambda _: detector(held), boxes, int(threads)),
            "whole": rate(search, boxes, int(threads)),
        }
    where = "a GPU" if gpu() else "CPU"
    print(
        f"{name}, {where}, {threads} threads, {len(boxes)} blocks of {SIDE**2} patterns\n"
    )
    print("| | patterns/s | of the floor |\n| --- | --- | --- |")
    floor = min(found["decode alone"], found["search alone"])
    for part, value in found.items():
        print(f"| {part} | {value:,.0f} | {100 * value / floor:.0f} % |")


if __name__ == "__main__":
    main(*sys.argv[1:])
