"""Speed and accuracy of fcunet_dask and its peers, side by side on the same patterns.

make -C benchmarks peers
python benchmarks/compare.py [repeats] [sizes, as 128,256] [rows of the scan]

Each program runs in a process of its own Python with one thread; the repeats of all
programs take turns. Times are CPU time, medians, the first call left out.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import scans
from fcunet_dask.kernels.strain import strain_tensor

HERE = Path(__file__).parent
PROGRAMS = {
    "fcunet_dask": ("default", "default, probe not given", "parabola"),
    "py4dstem": ("default", "poly", "poly, sigma_cc 0"),
    "libertem": ("fast",),
    "quantem": ("parabolic", "upsample"),
}
NOTES = {
    "libertem": "blobfinder (lattice given)",
    "quantem": "quantem (basis given)",
    "py4dstem": "py4DSTEM",
}
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MPLBACKEND": "Agg",
    "TQDM_DISABLE": "1",
}


class Program:
    """A program in its own process, which answers questions."""

    def __init__(self, name):
        python = HERE / ".bench" / name / "bin" / "python"
        if name == "fcunet_dask":
            python = Path(sys.executable)
        script = HERE / "peers" / f"run_{name}.py"
        self.process = subprocess.Popen(
            [str(python), str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **ONE_THREAD},
        )

    def ask(self, folder, method, rows=None):
        """Return CPU seconds of detection and of the fit, and the lattice vectors."""
        out = folder / "vectors.npy"
        question = {
            "folder": str(folder),
            "method": method,
            "rows": rows,
            "out": str(out),
        }
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        reply = self.process.stdout.readline()
        if not reply:
            msg = f"{self.process.args[1]} ended; run it by hand to see why"
            raise RuntimeError(msg)
        times = json.loads(reply)
        return times["detect"], times["fit"], np.load(out)

    def close(self):
        """End the process."""
        self.process.stdin.close()
        self.process.wait()


def store(scan, folder):
    """Write a scan where the programs find it."""
    folder.mkdir()
    np.save(folder / "patterns.npy", scan.patterns)
    np.save(folder / "probe.npy", scan.probe)
    about = {
        "radius": scan.radius,
        "centre": scan.centre.tolist(),
        "reference": scan.reference.tolist(),
        "indices": scan.indices.tolist(),
    }
    (folder / "about.json").write_text(json.dumps(about))


def strain_of(vectors, scan):
    """Exact strain (rows, columns, xx, yy, xy) of lattice vectors.

    The vectors are first brought to the choice of basis of the truth.
    """
    shape = scan.patterns.shape[:2]
    G = vectors.reshape(-1, 2, 2)
    truth = scan.reference.reshape(2, 2)
    middle = np.nanmedian(G[scan.unstrained.ravel()], axis=0)
    change = np.rint(truth @ np.linalg.inv(middle))
    vectors = (change @ G).reshape(*shape, 4)
    reference = np.nanmedian(vectors[scan.unstrained], axis=0)
    strain, _ = strain_tensor(vectors, np.broadcast_to(reference, vectors.shape))
    return strain[..., :3]


def accuracy(vectors, scan):
    """RMSE, largest bias of a component and scatter, and share of positions fitted."""
    error = (strain_of(vectors, scan) - scan.strain)[~scan.unstrained]
    rmse = np.sqrt(np.nanmean(error**2))
    bias = np.nanmean(error, axis=0)
    scatter = np.sqrt(np.nanmean((error - bias) ** 2))
    largest = bias[np.abs(bias).argmax()]
    return rmse, largest, scatter, np.isfinite(error[:, 0]).mean()


def measure(scan, programs, folder, repeats):
    """Ask every program in turn, `repeats` times; one row a method."""
    methods = [(name, m) for name in programs for m in PROGRAMS[name]]
    for name, method in methods:
        programs[name].ask(folder, method, rows=4)
    times = {key: [] for key in methods}
    vectors = {}
    for _ in range(repeats):
        for name, method in methods:
            *seconds, vectors[name, method] = programs[name].ask(folder, method)
            times[name, method].append(seconds)
    number = scan.unstrained.size
    return {
        key: (*(1e3 * np.median(times[key], axis=0) / number), *accuracy(v, scan))
        for key, v in vectors.items()
    }


def show(scan, rows):
    """Print the Markdown table of one scan."""
    print(f"\n**{scan.name}**, {len(scan.indices)} disks, radius {scan.radius:g} px\n")
    print("| program | method | detection | lattice + strain | total, ms | "
          "RMSE, 10⁻³ | bias | scatter | fitted |")  # fmt: skip
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for (name, method), values in rows.items():
        detect, fit, rmse, bias, scatter, share = values
        print(f"| {NOTES.get(name, name)} | {method} | {detect:.2f} | {fit:.3f} "
              f"| {detect + fit:.2f} | {1e3 * rmse:.2f} | {1e3 * bias:+.2f} "
              f"| {1e3 * scatter:.2f} | {100 * share:.0f} % |")  # fmt: skip
    sys.stdout.flush()


def main(repeats=3, sizes="128,256", rows=16):
    """Print a table for every scan."""
    installed = [
        n for n in PROGRAMS if n == "fcunet_dask" or (HERE / ".bench" / n).is_dir()
    ]
    programs = {name: Program(name) for name in installed}
    with tempfile.TemporaryDirectory(dir=HERE) as place:
        for size in map(int, sizes.split(",")):
            for make in (scans.own, scans.independent):
                for structure in (0.0, 0.3, 0.6) if size == 128 else (0.3,):
                    scan = make(size, structure, shape=(int(rows), 32))
                    folder = Path(place) / scan.name.replace(" ", "_")
                    store(scan, folder)
                    show(scan, measure(scan, programs, folder, int(repeats)))
    for program in programs.values():
        program.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
