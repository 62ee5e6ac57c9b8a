"""Print what the arithmetic alone takes on one core: the floor under compare.py.

python benchmarks/floor.py
"""

import time

import dask
import numpy as np
import scans
import scipy.fft
from accuracy import dataset
from fcunet_dask import compute_strain, find_bragg_vectors, fit_lattice
from fcunet_dask.kernels.disk_model import disk_model
from fcunet_dask.lattice import given_lattice
from fcunet_dask.pipeline import Settings, choose_detector
from threadpoolctl import threadpool_limits

BATCH = 32


def cpu_ms(function, number, repeats=7):
    """Median CPU time of `function` over `number`, ms."""
    function()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return 1e3 * float(np.median(times)) / number


def transforms(size):
    """Two forward and three inverse FFTs: locally normalised correlation."""
    image = np.random.default_rng(0).random((BATCH, size, size), np.float32)
    spectrum = scipy.fft.rfft2(image)
    forward = cpu_ms(lambda: scipy.fft.rfft2(image), BATCH)
    inverse = cpu_ms(lambda: scipy.fft.irfft2(spectrum, s=(size, size)), BATCH)
    return 2 * forward + 3 * inverse


def products(radius, disks, steps=4):
    """Time the sums over pixels with pairs of modes, as one matrix product a step."""
    model = disk_model(radius, 0.5, structure=0.3)
    weights = np.ones((disks * BATCH, len(model.y)), np.float32)
    return steps * cpu_ms(lambda: weights @ model.products, BATCH)


def reading(size):
    """One pass over the patterns: uint16 to float32."""
    patterns = np.ones((BATCH, size, size), np.uint16)
    return cpu_ms(lambda: patterns.astype(np.float32), BATCH)


def floors():
    """Print the parts of detection that cannot be left out, and detection itself."""
    print("| detector | disks | one pass over the bytes | FFTs, unbinned | FFTs, as binned "
          "| products of the fit | detection |")  # fmt: skip
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for size, binned in ((128, 64), (256, 85)):
        scan = scans.independent(size, 0.3, shape=(16, 16))
        disks = len(scan.indices)
        _, detector = choose_detector(dataset(scan.patterns), Settings())
        flat = scan.patterns.reshape(-1, size, size)
        total = cpu_ms(lambda d=detector, f=flat: d(f), len(flat), 5)
        print(f"| {size}² | {disks} | {reading(size):.3f} | {transforms(size):.3f} "
              f"| {transforms(binned):.3f} | {products(scan.radius, disks):.3f} "
              f"| {total:.2f} |")  # fmt: skip


def lattices(copies=128):
    """Print positions a second of lattice fit and strain, on many positions."""
    scan = scans.independent(128, 0.3)
    data = dataset(scan.patterns)
    _, detector = choose_detector(data, Settings())
    bragg = find_bragg_vectors(data, detector).compute()
    bragg["bragg_q"] = bragg["bragg_q"] - scan.origin.mean((0, 1)).astype("f4")
    bragg = bragg.isel(scan_y=np.tile(np.arange(16), copies))
    bragg = bragg.chunk(scan_y=32, scan_x=32)
    basis = given_lattice(scan.reference[:2], scan.reference[2:], "px")
    number = bragg.sizes["scan_y"] * bragg.sizes["scan_x"]
    with dask.config.set(scheduler="synchronous"):
        bragg = bragg.persist()
        lattice = fit_lattice(bragg, basis)
        both = compute_strain(lattice, basis)
        wanted = (lattice[["g1", "g2", "quality"]], both)
        each = cpu_ms(lambda: dask.compute(*wanted), number, 3)
    print(f"\nlattice and strain of {number} positions: {1e3 * each:.1f} µs each, "
          f"{1e3 / each:,.0f} positions/s")  # fmt: skip


if __name__ == "__main__":
    with threadpool_limits(1):
        floors()
        lattices()
