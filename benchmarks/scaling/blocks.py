"""Many blocks on a real scheduler: what each costs it, the client, and the workers."""

import pickle
import time

import dask
from fcunet_dask import _blockwise
from fcunet_dask._blockwise import commit_blocks
from fcunet_dask._shared import Shared

from cluster import MIB, Cluster, Grid, Sleep, in_child, peak_bytes, resident_bytes


def submit(blocks="100000"):
    """Empty blocks: what client and scheduler spend on each."""
    print("| blocks | in a task | tasks | pickled, B a task | client CPU, s | client's "
          "peak, MiB | scheduler CPU, ms a task | ms a block | wall, s |")  # fmt: skip
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for number in map(int, blocks.split(",")):
        in_child(submit_one, number)


def submit_one(number):
    """Measure one number of blocks."""
    grid = Grid(number // 250, 250)
    size = _blockwise.blocks_in_task(number)
    tasks = -(-number // size)
    some = grid.pending()[: 1000 * size]
    graph = _band_graph(Shared(Sleep(0), grid), some, size)
    pickled = len(pickle.dumps(dict(graph.dask))) / min(tasks, 1000)
    with Cluster([1, 1]) as cluster:
        commit_blocks(Sleep(0), Grid(4, 4))
        before, own, start = cluster.scheduler_cpu, time.process_time(), time.time()
        commit_blocks(Sleep(0), grid)
        spent = cluster.scheduler_cpu - before
        own, wall = time.process_time() - own, time.time() - start
    print(f"| {number} | {size} | {tasks} | {pickled:.0f} | {own:.1f} "
          f"| {peak_bytes() / MIB:.0f} | {1e3 * spent / tasks:.2f} "
          f"| {1e3 * spent / number:.2f} | {wall:.0f} |", flush=True)  # fmt: skip


def graphs(blocks="100000"):
    """Make and pickle what the client sends to the scheduler, band by band."""
    print(
        "| blocks | in a task | tasks | bands | B a task | client CPU, s | peak, MiB |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    number = int(blocks)
    start = time.process_time()
    grid = Grid(number // 250, 250)
    pending = grid.pending()
    size = _blockwise.blocks_in_task(len(pending))
    shared = Shared(Sleep(0), grid)
    bands, sent = 0, 0
    for band in _blockwise._bands(pending, _blockwise.BAND * size):
        graph = _band_graph(shared, band, size)
        (optimized,) = dask.optimize(graph)
        sent += len(pickle.dumps(dict(optimized.__dask_graph__())))
        bands += 1
    spent, tasks = time.process_time() - start, -(-number // size)
    print(f"| {number} | {size} | {tasks} | {bands} | {sent / tasks:.0f} | {spent:.1f} "
          f"| {peak_bytes() / MIB:.0f} |")  # fmt: skip


def _band_graph(shared, band, size):
    return _blockwise._band_graph(_blockwise._commit_batch, shared, band, size)


def many_workers(seconds="0.65"):
    """Strong and weak scaling with blocks that sleep."""
    pause = float(seconds)
    print("| workers | blocks | kind | ideal, s | wall, s | efficiency |")
    print("| --- | --- | --- | --- | --- | --- |")
    for number in (1, 2, 4, 16, 64):
        in_child(sleep_one, number, 640 if number > 4 else 64, pause, "strong")
        in_child(sleep_one, number, 10 * number, pause, "weak")


def sleep_one(number, blocks, pause, kind):
    """Measure one number of workers."""
    with Cluster([number] if number > 2 else [1] * number):
        commit_blocks(Sleep(0.0), Grid(4, number))
        start = time.perf_counter()
        commit_blocks(Sleep(pause), Grid(blocks // 2, 2))
        wall = time.perf_counter() - start
    ideal = pause * -(-blocks // number)
    print(f"| {number} | {blocks} | {kind} | {ideal:.1f} | {wall:.1f} "
          f"| {100 * ideal / wall:.0f} % |", flush=True)  # fmt: skip


def few(seconds="0.65"):
    """Few blocks that sleep, on workers that have computed nothing yet."""
    pause = float(seconds)
    print("| workers | blocks | ideal, s | wall, s |")
    print("| --- | --- | --- | --- |")
    for number, blocks in ((2, 4), (4, 8), (16, 16), (16, 32), (64, 128)):
        in_child(few_one, number, blocks, pause)


def few_one(number, blocks, pause):
    """Measure one number of workers."""
    with Cluster([number] if number > 2 else [1] * number):
        start = time.perf_counter()
        commit_blocks(Sleep(pause), Grid(blocks, 1))
        wall = time.perf_counter() - start
    print(f"| {number} | {blocks} | {pause * -(-blocks // number):.1f} | {wall:.1f} |",
          flush=True)  # fmt: skip


def remember(turns="6"):
    """Memory of two workers that do nothing, over 4,000 tasks each turn."""
    print("| tasks | scheduler, MiB | workers, MiB |")
    print("| --- | --- | --- |")
    with Cluster([1, 1]) as cluster:
        for turn in range(int(turns) + 1):
            if turn:
                commit_blocks(Sleep(0), Grid(40, 100))
            first, *others = (
                resident_bytes(process.pid) / MIB for process in cluster.processes
            )
            shown = ", ".join(f"{size:.0f}" for size in others)
            print(f"| {4000 * turn} | {first:.0f} | {shown} |", flush=True)
