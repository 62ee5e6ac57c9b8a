"""The same patterns from this package and from abTEM: speed ratio and agreement.

python benchmarks/simulate_abtem.py /path/to/an/environment/with/abtem/bin/python \
    [speed out.npz | agreement crystals]

abTEM (GPL) runs in a process and an environment of its own; atoms go there in a file.
"""

import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from fcunet_dask.kernels.illumination import Probe, probe_wave
from fcunet_dask.kernels.multislice import Grid, exit_waves, layer_atoms
from fcunet_dask.simulate.crystals import Crystal, load_crystals
from fcunet_dask.simulate.draw import draw_rotation
from fcunet_dask.simulate.recipe import LibraryRecipe
from fcunet_dask.simulate.sample import Sample, build_specimen, list_reflections
from simulate_agreement import cases
from threadpoolctl import threadpool_limits

SEMIANGLES = (1.5, 2.0, 3.0)
EXITS = list(range(10, 251, 10))
THERMAL = 0.5

THERE = """
import sys, time
import numpy as np, abtem, ase, dask
from abtem.parametrizations import LobatoParametrization
dask.config.set(scheduler="synchronous")
abtem.config.set({"fftw.threads": 1, "precision": "float32"})
abtem.config.set({"diagnostics.progress_bar": False})
given = np.load(sys.argv[1])
box, depth, size = float(given["box"]), float(given["depth"]), int(given["size"])
atoms = ase.Atoms(given["numbers"], positions=given["positions"])
atoms.set_cell([box, box, depth])
atoms.set_pbc(True)
symbols = sorted(set(atoms.get_chemical_symbols()))
sigma = float(np.sqrt(given["thermal"] / (8 * np.pi**2)))
start = time.process_time()
potential = abtem.Potential(
    atoms, gpts=size, slice_thickness=2.0, exit_planes=10,
    parametrization=LobatoParametrization(sigmas={s: sigma for s in symbols}),
    projection="infinite",
).build(lazy=False)
built = time.process_time()
patterns = []
for semiangle in given["semiangles"]:
    energy = float(given["voltage"]) * 1e3
    probe = abtem.Probe(semiangle_cutoff=float(semiangle), energy=energy, soft=True)
    probe.grid.match(potential)
    first = probe.build(scan=(box / 2, box / 2), lazy=False).array
    waves = probe.multislice(potential, scan=(box / 2, box / 2), lazy=False).array
    total = (np.abs(np.fft.fft2(first)) ** 2).sum()
    image = np.fft.fftshift(np.abs(np.fft.fft2(waves)) ** 2, axes=(-2, -1)) / total
    half = int(given["pixels"]) // 2
    middle = size // 2
    cut = image[..., middle - half : middle + half, middle - half : middle + half]
    patterns.append(np.swapaxes(np.squeeze(cut), -1, -2))
done = time.process_time()
seconds = [built - start, done - built]
np.savez(sys.argv[2], patterns=np.array(patterns, np.float32), seconds=seconds)
"""


def gallium_arsenide():
    """GaAs on [001], 9 × 9 cells in the box: what abTEM is at home with."""
    base = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    crystal = Crystal(
        name="GaAs",
        cell=np.eye(3) * 5.6533,
        positions=np.concatenate([base, base + 0.25]),
        numbers=[31] * 4 + [33] * 4,
    )
    origin = np.array([0.5 * 5.6533, 0.5 * 5.6533, 0.3])
    return Sample(crystal=crystal, thermal=THERMAL, origin=origin), 9 * 5.6533, 300.0


def library_crystal(seed):
    """Draw a crystal of the table and its orientation; this package cuts the slab."""
    rng = np.random.default_rng(seed)
    pool = [c for c in load_crystals() if c.system == "monoclinic" and c.volume < 300]
    crystal = pool[rng.integers(len(pool))]
    turn = draw_rotation(LibraryRecipe(), crystal.cell, rng)
    return Sample(crystal=crystal, rotation=turn, thermal=THERMAL), 51.2, 200.0


def ours(sample, grid, semiangles=SEMIANGLES):
    """Patterns (probes, thicknesses, q_y, q_x) and the seconds they took."""
    start = time.process_time()
    specimen = build_specimen(sample, grid, 2.0 * EXITS[-1])
    layers = layer_atoms([specimen], grid, EXITS[-1])
    q = grid.frequencies()
    waves = np.array(
        [[probe_wave(Probe(semiangle=a), q, grid.box, grid.wavelength)
          for a in semiangles]]
    )  # fmt: skip
    images = [np.abs(w[0]) ** 2 for w in exit_waves(layers, waves, grid, EXITS)]
    return np.stack(images, 1), time.process_time() - start, specimen


def theirs(python, sample, specimen, grid, semiangles=SEMIANGLES):
    """Run abTEM on the same atoms; return the same patterns and the seconds."""
    with tempfile.TemporaryDirectory() as folder:
        given, out = Path(folder) / "in.npz", Path(folder) / "out.npz"
        kinds = np.array(sample.crystal.elements)
        np.savez(
            given, numbers=kinds[specimen.element], positions=specimen.coordinates,
            box=grid.box, depth=2.0 * EXITS[-1], size=grid.size, pixels=256,
            thermal=THERMAL, semiangles=semiangles, voltage=grid.voltage,
        )  # fmt: skip
        subprocess.run([python, "-W", "ignore", "-c", THERE, given, out], check=True)
        result = np.load(out)
        return result["patterns"][:, -len(EXITS):], result["seconds"]  # fmt: skip


def disks(sample, grid, image, radius):
    """Intensity of the reflections whose disks no stronger one touches: (n, exits)."""
    truth = list_reflections(sample, grid.voltage, q_max=2.0, s_max=0.05)
    q = (np.arange(256) - 128) / grid.box
    found, taken = [], np.zeros((0, 2))
    for place in truth.q[truth.strength() > 0.01 * truth.strength()[1:].max(initial=0)]:
        if (np.linalg.norm(taken - place, axis=1) > 2 * radius + 3 / grid.box).all():
            mask = (
                np.hypot(q[:, None] - place[0], q - place[1]) <= radius + 1.5 / grid.box
            )
            found.append(image[..., mask].sum(-1))
            taken = np.vstack([taken, place])
    return np.array(found)


def both(python, sample, grid, semiangles=SEMIANGLES):
    """Patterns (probes, thicknesses, 256, 256) of both, and seconds of both."""
    with threadpool_limits(1):
        mine, seconds, specimen = ours(sample, grid, semiangles)
    first = grid.half - 128
    mine = mine[..., first : first + 256, first : first + 256]
    other, cost = theirs(python, sample, specimen, grid, semiangles)
    return mine, other, seconds, cost


def speed(python, out=None):
    """Print the table of seconds: three probes, 25 thicknesses."""
    print("| specimen | grid of both | this package, s "
          "| abTEM, s (potential + propagation) | ratio |")  # fmt: skip
    print("| --- | --- | --- | --- | --- |")
    kept = {}
    for name, (sample, box, voltage) in {
        "GaAs [001], 300 kV": gallium_arsenide(),
        "monoclinic, drawn, 200 kV": library_crystal(4),
    }.items():
        for size in (384, 768):
            grid = Grid(box=box, voltage=voltage, size=size)
            mine, other, seconds, cost = both(python, sample, grid)
            print(f"| {name} ({sample.crystal.formula}) | {size}² | {seconds:.1f} "
                  f"| {cost[0]:.1f} + {cost[1]:.1f} "
                  f"| {cost.sum() / seconds:.1f} |", flush=True)  # fmt: skip
            kept[f"{name} {size}"] = np.stack([mine[1], other[1]])[:, [4, 14, 24]]
    if out:
        np.savez_compressed(out, **kept)


def agreement(python, count=12, size=768):
    """Print the table of disks: the crystals of simulate_agreement.py."""
    print("| crystal | system | orientation | disks | R at 10 / 30 / 50 nm "
          "| largest disk error | ΣI ours | ΣI abTEM |")  # fmt: skip
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    everything = []
    grid = Grid(voltage=200.0, size=size)
    for kind, drawn in cases(int(count)):
        sample = replace(drawn, thermal=THERMAL)
        mine, other, *_ = both(python, sample, grid, (2.0,))
        pair = [
            disks(sample, grid, p[0], 2e-3 / grid.wavelength) for p in (mine, other)
        ]
        error = np.abs(pair[0] - pair[1])[:, [4, 14, 24]]
        columns = (
            error.sum(0),
            error.max(0),
            *(p[0, [4, 14, 24]].sum((-1, -2)) for p in (mine, other)),
        )
        everything.append(error.sum(0))
        text = " | ".join(" / ".join(f"{v:.3f}" for v in c) for c in columns)
        crystal = sample.crystal
        print(f"| {crystal.formula} | {crystal.system} | {kind} | {len(error)} | {text} |",
              flush=True)  # fmt: skip
    print("median R", np.median(everything, 0), "largest R", np.max(everything, 0))


def main(python, what="speed", *rest):
    """Print one of the tables."""
    {"speed": speed, "agreement": agreement}[what](python, *rest)


if __name__ == "__main__":
    main(*sys.argv[1:])
