"""What the allocator's settings of Dask's nannies cost a block, and what is left of it.

python benchmarks/allocator.py [repeats] [detector]

The same block of 16 × 16 patterns of 128² in a process of its own each time: with the limit
that nannies set, which `fcunet_dask._computing` undoes; with one byte more, which it takes
for somebody's wish and leaves; and without any.
"""

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import fcunet_dask
import numpy as np
from fcunet_dask._computing import computing
from fcunet_dask._source import source_of
from fcunet_dask.peaks import block_peaks

LIMITS = {"65536, undone": "65536", "65537, left as it is": "65537", "none": ""}
BLOCKS = 5


def main(repeats="3", detector="template"):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.zarr"
        scan = fcunet_dask.simulate_scan(
            scan=(16, 16), detector=(128, 128), blocks=(16, 16)
        )
        fcunet_dask.save_scan(scan.drop_vars("probe"), path)
        rows = {name: [] for name in LIMITS}
        for _ in range(int(repeats)):
            for name, limit in LIMITS.items():
                rows[name].append(measured(path, detector, limit))
    print("| trim threshold | CPU, ms a block | of which system | page faults |")
    print("| --- | --- | --- | --- |")
    for name, row in rows.items():
        user, system, faults = np.median(row, axis=0)
        print(f"| {name} | {user + system:.0f} | {system:.0f} | {faults:.0f} |")


def measured(path, detector, limit):
    """Seconds of the process and of the system, and page faults, in another process."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    if limit:
        environment["MALLOC_TRIM_THRESHOLD_"] = limit
    told = subprocess.run(
        [sys.executable, __file__, "child", path, detector],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    return [float(word) for word in told.stdout.split()]


def child(path, detector):
    """Search a block again and again."""
    scan = fcunet_dask.open_scan(path, blocks=(16, 16))
    probe = fcunet_dask.estimate_probe(scan)
    work = block_peaks(scan, fcunet_dask.load_detector(detector, probe))
    whole = (slice(0, 16), slice(0, 16), slice(None), slice(None))
    block = source_of(scan.pattern.data).read(whole)
    with computing():
        work(block)
        before = resource.getrusage(resource.RUSAGE_SELF)
        for _ in range(BLOCKS):
            work(block)
        after = resource.getrusage(resource.RUSAGE_SELF)
    print(
        1e3 * (after.ru_utime - before.ru_utime) / BLOCKS,
        1e3 * (after.ru_stime - before.ru_stime) / BLOCKS,
        (after.ru_minflt - before.ru_minflt) / BLOCKS,
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        child(*sys.argv[2:])
    else:
        main(*sys.argv[1:])
