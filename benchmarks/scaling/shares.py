"""Where the time of one block goes."""

import shutil
import tempfile
import time
from pathlib import Path

import fcunet_dask
import numpy as np
from fcunet_dask._commit import BlockStore
from fcunet_dask._computing import computing
from fcunet_dask._source import source_of
from fcunet_dask.model.device import gpu, uploaded
from fcunet_dask.model.fcunet import FCUNet, weighed_evidence
from fcunet_dask.peaks import block_peaks
from fcunet_dask.pipeline.detect import bragg_arrays


def shares(detectors="template,fcunet", repeats="5"):
    """Time of the parts of a block of 16 × 16 patterns of 256², one thread.

    CPU time; where CuPy reaches a GPU, which works while the CPU waits, that of the clock.
    """
    folder = Path(tempfile.mkdtemp())
    try:
        scan = fcunet_dask.simulate_scan(
            scan=(16, 16), detector=(256, 256), radius=12.0, g1=(0.0, 60.0),
            g2=(60.0, 0.0), blocks=None, dose=2e4,
        )  # fmt: skip
        fcunet_dask.save_scan(scan[["pattern"]], folder / "scan.zarr")
        opened = fcunet_dask.open_scan(folder / "scan.zarr", blocks=(16, 16))
        probe = fcunet_dask.estimate_probe(opened)
        print(
            f"| detector | part | {'ms' if gpu() else 'CPU, ms'} a block | share |\n"
            "| --- | --- | --- | --- |"
        )
        for name in detectors.split(","):
            share(folder, opened, probe, name, int(repeats))
    finally:
        shutil.rmtree(folder)


def share(folder, opened, probe, name, repeats):
    """Print the rows of one detector; of a network, the fit is what else it does."""
    detector = fcunet_dask.load_detector(name, probe)
    work = block_peaks(opened, detector)
    shard = folder / "scan.zarr" / "pattern" / "c" / "0" / "0" / "0" / "0"
    source = source_of(opened.pattern.data)
    box = (slice(0, 16), slice(0, 16), slice(None), slice(None))
    block = source.read(box)
    values = work(block)
    clock = time.perf_counter if gpu() else time.process_time
    patterns = block.reshape(-1, *block.shape[2:])
    with BlockStore.create(
        folder / name,
        bragg_arrays(opened, detector.max_peaks),
        (16, 16),
        fingerprint={},
    ) as store:
        steps = {
            "file": shard.read_bytes,
            "read": lambda: source.read(box),
            "upload": lambda: uploaded(patterns),
            "whole": lambda: work(block),
            "commit": lambda: store.write((0, 0), values),
        }
        if isinstance(detector, FCUNet):
            steps["network"] = lambda: weighed_evidence(detector, patterns)
        times = {step: [] for step in steps}
        for _ in range(1 + repeats):
            for step, call in steps.items():
                with computing():
                    start = clock()
                    call()
                    times[step].append(clock() - start)
    took = {step: 1e3 * float(np.median(t[1:])) for step, t in times.items()}
    parts = {
        "file, from the page cache": took["file"],
        "decode": took["read"] - took["file"],
        "upload": took["upload"],
        "search and fit": took["whole"] - took["upload"],
        "commit": took["commit"],
    }
    if "network" in took:
        whole = parts.pop("search and fit")
        parts |= {"network": took["network"], "fit": whole - took["network"]}
    if gpu() is None:
        del parts["upload"]
    for part, value in parts.items():
        percent = 100 * value / sum(parts.values())
        print(f"| {name} | {part} | {value:.1f} | {percent:.1f} % |")
