"""Memory of workers against the size of the scan."""

import multiprocessing
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import fcunet_dask
import numpy as np
import zarr
from fcunet_dask.model import Peaks

from cluster import MIB, peak_bytes

SPAWN = multiprocessing.get_context("spawn")


LATTICE = np.stack(np.mgrid[-2:3, -2:3], -1).reshape(-1, 2)


@dataclass(frozen=True)
class Same:
    """A detector that answers at once, with 25 disks of one lattice."""

    max_peaks: int = 128

    def __dask_tokenize__(self):
        return "same"

    def __call__(self, patterns):
        """Look at every pixel, and answer."""
        peaks = Peaks.empty(len(patterns), self.max_peaks)
        total = patterns.sum(axis=(1, 2), dtype=np.float32)
        order = np.argsort(np.hypot(*LATTICE.T), kind="stable")
        peaks.position[:, :25] = 127.5 + 40.0 * LATTICE[order]
        peaks.covariance[:, :25] = (0.01, 0.0, 0.01)
        peaks.intensity[:, :25] = total[:, None] / np.arange(1, 26)
        peaks.score[:, :25] = 0.9
        return peaks


def memory(sizes="2,40"):
    """Worker memory of whole runs over scans whose files are all links to one."""
    print("| scan, GiB | blocks | workers before, MiB | workers' peak, MiB "
          "| client's peak, MiB |")  # fmt: skip
    print("| --- | --- | --- | --- | --- |")
    for size in sizes.split(","):
        folder = Path(tempfile.mkdtemp(dir=Path(__file__).parent))
        try:
            memory_one(folder, float(size))
        finally:
            shutil.rmtree(folder)


def memory_one(folder, gibibytes):
    """Measure one size."""
    child = SPAWN.Process(target=linked_scan, args=(folder, gibibytes))
    child.start()
    child.join()
    client = fcunet_dask.connect_cluster("local", n_workers=2, memory_limit="1GiB")
    with client, client.cluster:
        scan = fcunet_dask.open_scan(folder / "scan.zarr", blocks=(16, 16))
        blocks = scan.pattern.data.npartitions
        client.run(one_block, scan)
        before = client.run(peak_bytes)
        fcunet_dask.run(scan, folder / "out", detector=Same())
        after = client.run(peak_bytes)
    texts = [", ".join(f"{v / MIB:.0f}" for v in d.values()) for d in (before, after)]
    print(f"| {gibibytes:g} | {blocks} | {texts[0]} | {texts[1]} "
          f"| {peak_bytes() / MIB:.0f} |", flush=True)  # fmt: skip


def one_block(scan):
    """Import what is needed, and look at one block."""
    block = scan.isel(scan_y=slice(16), scan_x=slice(16))
    fcunet_dask.find_bragg_vectors(block, Same()).compute(scheduler="sync")


def linked_scan(folder, gibibytes):
    """Write one shard of 256² patterns, and link it to all the others' names."""
    block = fcunet_dask.simulate_scan(
        scan=(16, 16), detector=(256, 256), radius=12.0, g1=(0.0, 60.0), g2=(60.0, 0.0),
        blocks=None,
    )  # fmt: skip
    path = folder / "scan.zarr"
    fcunet_dask.save_scan(block[["pattern"]], path)
    number = round(gibibytes * 2**30 / block.pattern.nbytes)
    rows = max(r for r in range(1, int(number**0.5) + 1) if number % r == 0)
    columns = number // rows
    first = path / "pattern" / "c" / "0" / "0" / "0" / "0"
    for y in range(rows):
        for x in range(columns):
            target = path / "pattern" / "c" / str(y) / str(x) / "0" / "0"
            if target != first:
                target.parent.mkdir(parents=True, exist_ok=True)
                os.link(first, target)
    array = zarr.open_array(path / "pattern", mode="r+")
    array.resize((16 * rows, 16 * columns, 256, 256))
    for name, size in (("scan_y", 16 * rows), ("scan_x", 16 * columns)):
        axis = zarr.open_array(path / name, mode="r+")
        axis.resize((size,))
        axis[...] = np.arange(size)
