"""Table of docs/simulation.md: multislice against Bloch waves, disk by disk.

python benchmarks/simulate_agreement.py [crystals]
"""

import sys
import time

import numpy as np
from fcunet_dask.kernels.illumination import Probe
from fcunet_dask.kernels.multislice import Grid
from fcunet_dask.simulate.agreement import compare_solvers
from fcunet_dask.simulate.crystals import SYSTEMS, load_crystals
from fcunet_dask.simulate.draw import draw_rotation
from fcunet_dask.simulate.recipe import LibraryRecipe
from fcunet_dask.simulate.sample import Sample

DEPTHS = np.array([100.0, 300.0, 500.0])


def cases(count, seed=11, largest=150.0):
    """Yield samples of every system, half near a zone axis, half anywhere."""
    rng = np.random.default_rng(seed)
    crystals = load_crystals()
    order = rng.permutation(len(crystals))
    chosen = []
    for i in range(count):
        system = SYSTEMS[i % len(SYSTEMS)]
        chosen.append(
            next(
                c
                for c in (crystals[j] for j in order)
                if c.system == system and c.volume < largest and c not in chosen
            )
        )
    recipes = [
        LibraryRecipe(near_zone=1.0, off_zone=0.0),
        LibraryRecipe(near_zone=0.0, off_zone=0.0),
    ]
    for i, crystal in enumerate(chosen):
        rotation = draw_rotation(recipes[i % 2], crystal.cell, rng)
        origin = rng.random(3) @ crystal.cell @ rotation.T
        kind = ("near a zone axis", "random")[i % 2]
        yield (
            kind,
            Sample(crystal=crystal, rotation=rotation, origin=origin, thermal=0.6),
        )


def main(count=14):
    """Print one line per crystal."""
    print("| crystal | system | orientation | beams | disks | R at 10 / 30 / 50 nm | "
          "largest disk error | ΣI multislice | s |")  # fmt: skip
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    everything = []
    for kind, sample in cases(count):
        start = time.process_time()
        found = compare_solvers(
            sample, Probe(semiangle=2.0), Grid(voltage=200.0), DEPTHS
        )
        numbers = (
            " / ".join(f"{v:.4f}" for v in series)
            for series in (
                found.sum_of_differences,
                found.largest_difference,
                found.total,
            )
        )
        everything.append(found.sum_of_differences)
        crystal = sample.crystal
        print(f"| {crystal.formula} | {crystal.system} | {kind} | {found.beams} "
              f"| {len(found.hkl)} | {' | '.join(numbers)} "
              f"| {time.process_time() - start:.0f} |", flush=True)  # fmt: skip
    print("median R", np.median(everything, 0), "largest R", np.max(everything, 0))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
