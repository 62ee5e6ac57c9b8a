"""Where the time of one block goes."""

import shutil
import tempfile
import time
from pathlib import Path

import fcunet_dask
import numpy as np
from fcunet_dask import _blockwise
from fcunet_dask._commit import BlockStore
from fcunet_dask.peaks import block_peaks
from fcunet_dask.pipeline.detect import bragg_arrays


def shares(repeats="3"):
    """Where the CPU time of a block goes: 16 × 16 patterns of 256², one thread."""
    folder = Path(tempfile.mkdtemp())
    scan = fcunet_dask.simulate_scan(
        scan=(16, 16), detector=(256, 256), radius=12.0, g1=(0.0, 60.0), g2=(60.0, 0.0),
        blocks=None, dose=2e4,
    )  # fmt: skip
    fcunet_dask.save_scan(scan[["pattern"]], folder / "scan.zarr")
    opened = fcunet_dask.open_scan(folder / "scan.zarr", blocks=(16, 16))
    probe = fcunet_dask.estimate_probe(opened)
    detector = fcunet_dask.load_detector("template", probe)
    work = block_peaks(opened, detector)
    shard = folder / "scan.zarr" / "pattern" / "c" / "0" / "0" / "0" / "0"
    source = _blockwise.source_of(opened.pattern.data)
    box = (slice(0, 16), slice(0, 16), slice(None), slice(None))
    store = BlockStore.create(
        folder / "out", bragg_arrays(opened, 128), (16, 16), fingerprint={}
    )
    steps = {
        "file": shard.read_bytes,
        "read and decode": lambda: source.read(box),
        "search and fit": lambda: work(block),
        "commit": lambda: store.write((0, 0), values),
    }
    times = {name: [] for name in steps}
    waits = []
    block = source.read(box)
    values = work(block)
    for _ in range(int(repeats)):
        for name, step in steps.items():
            wall, start = time.perf_counter(), time.process_time()
            step()
            times[name].append(time.process_time() - start)
            if name == "file":
                waits.append(time.perf_counter() - wall)
    store.close()
    shutil.rmtree(folder)
    middle = {name: 1e3 * float(np.median(t)) for name, t in times.items()}
    total = sum(v for n, v in middle.items() if n != "file")
    print("| part | CPU, ms a block | share |\n| --- | --- | --- |")
    for name, value in middle.items():
        of_which = " (part of the next)" if name == "file" else ""
        print(f"| {name}{of_which} | {value:.1f} | {100 * value / total:.1f} % |")
