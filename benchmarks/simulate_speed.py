"""Patterns per second and core over a recipe, and bytes per pattern.

python benchmarks/simulate_speed.py [recipe [blocks]]
"""

import sys
import tempfile
import time
from pathlib import Path

from fcunet_dask.simulate.draw import draw_block, library_crystals
from fcunet_dask.simulate.library import make_library
from fcunet_dask.simulate.patterns import simulate_block
from fcunet_dask.simulate.recipe import load_recipe


def size_of(path):
    """Bytes of every file under a folder."""
    return sum(f.stat().st_size for f in Path(path).rglob("*") if f.is_file())


def main(name="library", blocks="10"):
    """Print one row for each block, then the whole with writing to disk."""
    recipe, count = load_recipe(name), int(blocks)
    crystals = library_crystals(recipe)
    each = recipe.block * recipe.patterns_per_specimen
    print(
        "| block | kV | depth, nm | patterns per CPU second |\n| --- | --- | --- | --- |"
    )
    for index in range(count):
        start = time.process_time()
        block = draw_block(recipe, crystals, index)
        simulate_block(block, recipe)
        rate = each / (time.process_time() - start)
        voltage, depth = block.grid.voltage, block.depth / 10
        print(f"| {index} | {voltage:.0f} | {depth:.0f} | {rate:.1f} |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        start, wall = time.process_time(), time.time()
        out = make_library(recipe, Path(folder) / "lib.zarr", patterns=count * each)
        cpu, wall = time.process_time() - start, time.time() - wall
        stored = size_of(out) / (count * each)
    print(f"with storing: {count * each} patterns, {count * each / cpu:.1f} per CPU "
          f"second, {count * each / wall:.1f} per second, "
          f"{stored / 1e3:.1f} kB per pattern")  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
