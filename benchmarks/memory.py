"""A scan ten times as large as a worker's memory, and how much memory it takes.

python benchmarks/memory.py [lengths, in units of the worker's memory, as 1,4,10]

Scans of 256² patterns are written to disk, in the folder of this script, and deleted
afterwards.
"""

import sys
import tempfile
import time
from pathlib import Path

import dask.array as da
import numpy as np
import xarray as xr
from fcunet_dask import connect_cluster, run, save_scan, simulate_scan

GIB = 2**30
WORKERS = 2
BLOCK = (16, 16)


def write(path, gibibytes):
    """Write a scan of that size, in memory, as the native store; return its patterns.

    One simulated block is repeated all over the scan: what is read and computed does not
    depend on that.
    """
    block = simulate_scan(
        scan=BLOCK, detector=(256, 256), radius=12.0, g1=(0.0, 60.0), g2=(60.0, 0.0),
        blocks=None,
    )  # fmt: skip
    values = block.pattern.values
    number = round(gibibytes * GIB / values.nbytes)
    rows = max(r for r in range(1, int(number**0.5) + 1) if number % r == 0)
    columns = number // rows
    patterns = da.map_blocks(
        lambda block_info=None: values,
        chunks=((16,) * rows, (16,) * columns, 256, 256),
        dtype=values.dtype,
        meta=np.empty((0, 0, 0, 0), values.dtype),
    )
    scan = xr.Dataset(
        {"pattern": (block.pattern.dims, patterns, block.pattern.attrs)},
        {n: block[n] for n in ("q_y", "q_x")},
        {"calibration": block.attrs["calibration"]},
    )
    save_scan(scan, path)
    return rows * columns * 256


def peak():
    """Peak resident memory of this process, bytes, without that of its parent."""
    status = Path("/proc/self/status").read_text()
    line = next(x for x in status.splitlines() if x.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def measure(folder, gibibytes):
    """Run the whole analysis; return patterns, seconds, and peaks of the workers."""
    store = folder / "scan.zarr"
    number = write(store, gibibytes)
    client = connect_cluster("local", n_workers=WORKERS, memory_limit=GIB)
    with client, client.cluster:
        before = client.run(peak)
        start = time.perf_counter()
        results = run(store, folder / "strain.zarr")
        seconds = time.perf_counter() - start
        after = client.run(peak)
        fitted = float(np.isfinite(results.strain_xx).mean())
    restarted = len(set(after) - set(before))
    return number, seconds, before, after, restarted, fitted


def main(lengths="1,4,10"):
    """Print one row a length."""
    print("| scan, GiB | patterns | wall, s | workers before, MiB | workers' peak, MiB "
          "| this process' peak, MiB | restarts | fitted |")  # fmt: skip
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for length in lengths.split(","):
        with tempfile.TemporaryDirectory(dir=Path(__file__).parent) as folder:
            number, seconds, before, after, restarted, fitted = measure(
                Path(folder), float(length)
            )
        peaks = [", ".join(f"{v / 2**20:.0f}" for v in d.values()) for d in
                 (before, after)]  # fmt: skip
        print(f"| {length} | {number} | {seconds:.0f} | {peaks[0]} | {peaks[1]} "
              f"| {peak() / 2**20:.0f} | {restarted} | {100 * fitted:.0f} % |",
              flush=True)  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
