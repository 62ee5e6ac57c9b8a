"""How the scheduler, the client and the workers bear many blocks.

python benchmarks/scaling.py submit [blocks]         client and scheduler, empty blocks
python benchmarks/scaling.py graphs [blocks]         the client alone: all that it sends
python benchmarks/scaling.py workers [seconds]       1, 2, … 64 workers, blocks that sleep
python benchmarks/scaling.py simulate [s] [ms]       the same, calculated
python benchmarks/scaling.py memory [GiB,GiB]        workers' memory against the scan's size
python benchmarks/scaling.py shares                  where the time of one block goes

Scheduler, workers and client are processes of their own; CPU times are those of each.
`workers` is a simulation in this sense: scheduler, client and messages are real, what a
worker does is to sleep for as long as a block was measured to take, so that 64 fit on one
machine. `simulate` does without any process: workers and one scheduler that serves them in
turn, with measured times of a block and of the scheduler, for machines too busy for that.
"""

import asyncio
import heapq
import multiprocessing
import os
import pickle
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import dask
import distributed
import fcunet_dask
import numpy as np
import zarr
from fcunet_dask import _blockwise
from fcunet_dask._blockwise import commit_blocks, commit_patterns
from fcunet_dask._commit import BlockStore
from fcunet_dask.model import Peaks
from fcunet_dask.peaks import block_peaks
from fcunet_dask.pipeline.detect import bragg_arrays

FORK = multiprocessing.get_context("fork")
SPAWN = multiprocessing.get_context("spawn")
MIB = 2**20


@dataclass(frozen=True)
class Grid:
    """A store that forgets: blocks without content."""

    rows: int
    columns: int

    def region(self, block_id):
        """Return rows and columns of a block."""
        y, x = block_id
        return slice(16 * y, 16 * y + 16), slice(16 * x, 16 * x + 16)

    def pending(self):
        """Return all blocks."""
        return [(y, x) for y in range(self.rows) for x in range(self.columns)]

    def has(self, block_id):
        """Return that nothing is there."""
        return False

    def expect_room(self, block_id):
        """Accept it."""

    def write(self, block_id, values):
        """Forget."""


@dataclass(frozen=True)
class Sleep:
    """A block that takes its time, and no processor."""

    seconds: float

    def __call__(self, region):
        """Sleep."""
        time.sleep(self.seconds)
        return {}


def cpu_seconds(pid):
    """CPU time of a process, s."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_bytes(pid="self"):
    """Peak resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def serve(what, *args):
    """Run a coroutine for ever, in a child."""
    quiet = os.open(
        os.environ.get("SCALING_LOG", os.devnull), os.O_WRONLY | os.O_APPEND
    )
    os.dup2(quiet, 2)
    asyncio.run(what(*args))


async def scheduler(file):
    """Run a scheduler; its address goes into `file`."""
    async with distributed.Scheduler(host="127.0.0.1", port=0, dashboard=False) as it:
        Path(f"{file}.new").write_text(it.address)
        Path(f"{file}.new").rename(file)
        await it.finished()


async def workers(address, number):
    """Run so many workers of one thread, in one process."""
    folder = tempfile.mkdtemp()
    made = [
        await distributed.Worker(
            address, nthreads=1, memory_limit=0, local_directory=folder
        )
        for _ in range(number)
    ]
    await asyncio.gather(*(w.finished() for w in made))


class Cluster:
    """A scheduler in one process, workers in others, a client here."""

    def __init__(self, in_each):
        self.folder = Path(tempfile.mkdtemp())
        file = self.folder / "address"
        self.processes = [FORK.Process(target=serve, args=(scheduler, file))]
        self.processes[0].start()
        while not file.exists():
            time.sleep(0.02)
        address = file.read_text()
        for number in in_each:
            process = FORK.Process(target=serve, args=(workers, address, number))
            process.start()
            self.processes.append(process)
        self.client = distributed.Client(address)
        self.client.wait_for_workers(sum(in_each))

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.client.close()
        for process in self.processes:
            process.kill()
            process.join()
        shutil.rmtree(self.folder)

    @property
    def scheduler_cpu(self):
        """CPU time of the scheduler so far."""
        return cpu_seconds(self.processes[0].pid)


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
    shared = _blockwise._Shared(Sleep(0), grid)
    graph = _blockwise._band_graph(shared, grid.pending()[: 1000 * size], size)
    pickled = len(pickle.dumps(dict(graph.dask))) / 1000
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
    shared = _blockwise._Shared(Sleep(0), grid)
    bands, sent = 0, 0
    for band in _blockwise._bands(pending, _blockwise.BAND * size):
        graph = _blockwise._band_graph(shared, band, size)
        (optimized,) = dask.optimize(graph)
        sent += len(pickle.dumps(dict(optimized.__dask_graph__())))
        bands += 1
    spent, tasks = time.process_time() - start, -(-number // size)
    print(f"| {number} | {size} | {tasks} | {bands} | {sent / tasks:.0f} | {spent:.1f} "
          f"| {peak_bytes() / MIB:.0f} |")  # fmt: skip


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


def simulate(seconds="0.65", milliseconds="2.0"):
    """Strong and weak scaling, calculated from measured times."""
    block, serve_one = float(seconds), float(milliseconds) / 1e3
    print("| workers | strong: 6400 blocks | weak: 10 a worker |")
    print("| --- | --- | --- |")
    for number in (1, 2, 4, 8, 16, 32, 64, 128):
        shown = []
        for blocks in (6400, 10 * number):
            ideal = block * -(-blocks // number)
            shown.append(
                f"{100 * ideal / simulated(number, blocks, block, serve_one):.1f} %"
            )
        print(f"| {number} | {shown[0]} | {shown[1]} |")


def simulated(number, blocks, block, serve_one):
    """Seconds of a run: each worker has a block in work and one in hand.

    The scheduler serves one message after another, each in `serve_one` seconds; it hears
    of a block when it is finished, and gives the worker another one then.
    """
    free = 0.0  # from when on the scheduler has time
    waiting = blocks
    events, hands = [], [0] * number
    for turn in range(2):
        for worker in range(number):
            if waiting:
                waiting -= 1
                free += serve_one
                heapq.heappush(events, (free, turn, "given", worker))
    end, busy = 0.0, [False] * number
    while events:
        now, _, what, worker = heapq.heappop(events)
        if what == "given":
            hands[worker] += 1
        else:
            busy[worker] = False
            end = max(end, now)
            free = max(free, now) + serve_one
            if waiting:
                waiting -= 1
                heapq.heappush(events, (free, 1, "given", worker))
        if hands[worker] and not busy[worker]:
            hands[worker] -= 1
            busy[worker] = True
            heapq.heappush(events, (now + block, 0, "done", worker))
    return max(end, free)


@dataclass(frozen=True)
class Same:
    """A detector that answers at once, with 25 disks."""

    max_peaks: int = 128

    def __call__(self, patterns):
        """Look at every pixel, and answer."""
        peaks = Peaks.empty(len(patterns), self.max_peaks)
        total = patterns.sum(axis=(1, 2), dtype=np.float32)
        peaks.position[:, :25] = 10.0 * np.arange(25)[:, None]
        peaks.intensity[:, :25] = total[:, None]
        return peaks


def memory(sizes="2,40"):
    """Worker memory over scans whose files are all links to one."""
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
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            memory_limit="1GiB",
            dashboard_address=":0",
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        scan = fcunet_dask.open_scan(folder / "scan.zarr", blocks=(16, 16))
        work = block_peaks(scan, Same())
        # everything imported, one block seen
        client.run(np.asarray, scan.pattern[:1, :1])
        before = client.run(peak_bytes)
        with BlockStore.create(
            folder / "out", bragg_arrays(scan, 128), (16, 16), fingerprint={}
        ) as store:
            blocks = len(store.pending())
            commit_patterns(work, scan.pattern, store)
        after = client.run(peak_bytes)
    texts = [", ".join(f"{v / MIB:.0f}" for v in d.values()) for d in (before, after)]
    print(f"| {gibibytes:g} | {blocks} | {texts[0]} | {texts[1]} "
          f"| {peak_bytes() / MIB:.0f} |", flush=True)  # fmt: skip


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


def in_child(function, *args):
    """Call `function` in a process of its own, so that peaks are its own."""
    child = FORK.Process(target=function, args=args)
    child.start()
    child.join()


COMMANDS = {
    "submit": submit,
    "graphs": graphs,
    "workers": many_workers,
    "simulate": simulate,
    "memory": memory,
    "shares": shares,
}

if __name__ == "__main__":
    with dask.config.set({"distributed.worker.profile.enabled": False}):
        COMMANDS[sys.argv[1]](*sys.argv[2:])
