"""A scheduler, workers and a client, each a process of its own, and empty blocks."""

import asyncio
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import distributed

FORK = multiprocessing.get_context("fork")
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
    return _of_status(pid, "VmHWM:")


def resident_bytes(pid):
    """Resident memory of a process."""
    return _of_status(pid, "VmRSS:")


def _of_status(pid, name):
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(status.split(name)[1].split()[0])


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


def in_child(function, *args):
    """Call `function` in a process of its own, so that peaks are its own."""
    child = FORK.Process(target=function, args=args)
    child.start()
    child.join()
    if child.exitcode:
        sys.exit(child.exitcode)
