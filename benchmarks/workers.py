"""Strong and weak scaling of whole runs, from a file to strain, on one and two workers.

python benchmarks/workers.py [repeats] [rows and columns of the scan] [detector]

Workers are processes of one thread that have run the first rows of the scan before, so
that what is compiled is compiled. *Strong*: the same scan; *weak*: twice the scan on
two workers; *apart*: two processes without Dask, each of which searches the blocks of
the scan, beside one: what the machine itself gives for a second process. Each repeat
runs all in turn; ratios are those of its own times.
"""

import multiprocessing
import shutil
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import fcunet_dask
import numpy as np
from distributed import Client, LocalCluster
from fcunet_dask._computing import computing
from fcunet_dask._source import source_of
from fcunet_dask.peaks import block_peaks

BLOCKS = (16, 16)


def main(repeats="3", side="192", detector="template"):
    side = int(side)
    folder = Path(tempfile.mkdtemp())
    try:
        scans = [make(folder / f"{n}.zarr", (side, n * side)) for n in (1, 2)]
        times = []
        for _ in range(int(repeats)):
            one, two, double = (
                seconds(scan, folder / "out", n, detector)
                for scan, n in ((scans[0], 1), (scans[0], 2), (scans[1], 2))
            )
            alone, beside = (apart(scans[0], n, detector) for n in (1, 2))
            times.append((one, two, double, alone, beside))
    finally:
        shutil.rmtree(folder)
    one, two, double, alone, beside = np.array(times).T
    patterns, blocks = side**2, side**2 // np.prod(BLOCKS)
    print("| | patterns | blocks | workers | s, median | patterns/s | efficiency |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, factor, number, time_, share in (
        ("one", 1, 1, one, np.ones_like(one)),
        ("strong", 1, 2, two, one / (2 * two)),
        ("weak", 2, 2, double, one / double),
        ("apart, one", 1, 1, alone, np.ones_like(alone)),
        ("apart", 2, 2, beside, alone / beside),
    ):
        print(
            f"| {name} | {factor * patterns} | {factor * blocks} | {number} "
            f"| {np.median(time_):.1f} | {factor * patterns / np.median(time_):.0f} "
            f"| {100 * np.median(share):.0f} % ({100 * share.min():.0f} – "
            f"{100 * share.max():.0f}) |"
        )


def make(path, shape):
    scan = fcunet_dask.simulate_scan(scan=shape, detector=(128, 128), blocks=BLOCKS)
    fcunet_dask.save_scan(scan.drop_vars("probe"), path)
    return path


def seconds(path, out, workers, detector):
    """Wall time of one run on that many workers, which are warm."""
    with warm_workers(workers):
        scan = fcunet_dask.open_scan(path, blocks=BLOCKS)
        for part in (scan.isel(scan_y=slice(BLOCKS[0])), scan):
            shutil.rmtree(out, ignore_errors=True)
            began = time.perf_counter()
            fcunet_dask.run(part, out, detector=detector)
        return time.perf_counter() - began


@contextmanager
def warm_workers(number):
    """Start processes of one thread that have imported what a block needs."""
    with (
        LocalCluster(
            n_workers=number, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
        Client(cluster) as client,
    ):
        client.run(warm)
        yield


def apart(path, processes, detector):
    """Wall time of so many processes, each of which searches all blocks."""
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Barrier(processes + 1)
    children = [
        spawn.Process(target=search, args=(path, ready, detector))
        for _ in range(processes)
    ]
    for child in children:
        child.start()
    ready.wait()
    began = time.perf_counter()
    for child in children:
        child.join()
    return time.perf_counter() - began


def search(path, ready, detector):
    """Search the blocks of a scan, one after the other."""
    scan = fcunet_dask.open_scan(path, blocks=BLOCKS)
    probe = fcunet_dask.estimate_probe(scan)
    work = block_peaks(scan, fcunet_dask.load_detector(detector, probe))
    source = source_of(scan.pattern.data)

    def block(y, x):
        rows, columns = slice(y, y + BLOCKS[0]), slice(x, x + BLOCKS[1])
        work(source.read((rows, columns, slice(None), slice(None))))

    with computing():
        block(0, 0)
        ready.wait()
        for y in range(0, scan.sizes["scan_y"], BLOCKS[0]):
            for x in range(0, scan.sizes["scan_x"], BLOCKS[1]):
                block(y, x)


def warm():
    """Import what a block needs."""
    fcunet_dask.load_detector("template", radius=4.0, edge=0.5)


if __name__ == "__main__":
    main(*sys.argv[1:])
