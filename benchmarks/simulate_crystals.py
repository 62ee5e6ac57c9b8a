"""Tables of the crystals that ship, for docs/simulation.md.

python benchmarks/simulate_crystals.py
"""

from fcunet_dask.simulate.factors import symbol
from fcunet_dask.simulate.split import SPLITS, summarize


def main():
    """Print counts by system and split, elements, and volume per atom."""
    counts = summarize()
    print(f"{counts['crystals']} crystals, {counts['spacegroups']} space groups, "
          f"{counts['formulas']} formulas, {counts['families']} families; "
          f"{counts['source']}\n")  # fmt: skip
    print(f"| system | {' | '.join(SPLITS)} | all |\n| --- | --- | --- | --- | --- |")
    for system, row in counts["system"].items():
        cells = [row.get(s, 0) for s in SPLITS]
        print(f"| {system} | {' | '.join(map(str, cells))} | {sum(cells)} |")
    total = [sum(r.get(s, 0) for r in counts["system"].values()) for s in SPLITS]
    print(f"| all | {' | '.join(map(str, total))} | {sum(total)} |\n")
    steps = (0, 5, 25, 50, 75, 95, 100)
    volumes = (f"{v:.1f}" for v in counts["volume_per_atom"])
    print(f"| percentile | {' | '.join(map(str, steps))} |\n| {'--- | ' * 8}")
    print(f"| volume per atom, Å³ | {' | '.join(volumes)} |\n")
    order = sorted(counts["elements"].items(), key=lambda kv: -kv[1])
    print(f"{len(order)} elements, crystals with each:",
          ", ".join(f"{symbol(z)} {n}" for z, n in order))  # fmt: skip


if __name__ == "__main__":
    main()
