"""Scheduler, workers and client, each a process of its own; and what they are put into."""

import asyncio
import contextlib
import ctypes
import importlib
import multiprocessing
import os
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

import dask
import distributed
import fcunet_dask
import numpy as np
from fcunet_dask.errors import FcunetError

with contextlib.suppress(ImportError):
    importlib.import_module("pint")  # where it is installed xarray imports it, late
FORK = multiprocessing.get_context("fork")
"""Children have everything imported already; the parent opens nothing before it forks."""
SCAN = (16, 12)
BLOCK = (4, 4)
BLOCKS = 12
WORKERS = 2
PAUSE = 0.03
"""Seconds a block takes at least."""
CGROUP = Path("/sys/fs/cgroup/memory/fcunet_dask_faults")
SETTINGS = {
    "distributed.scheduler.worker-ttl": "3s",
    "distributed.comm.timeouts.connect": "3s",
    "distributed.comm.timeouts.tcp": "12s",
    "distributed.worker.profile.enabled": False,
    "distributed.scheduler.allowed-failures": 3,
    "distributed.admin.log-length": 0,
}


@dataclass(frozen=True, slots=True)
class Watched:
    """A detector that notes which block it searched, and eats memory if told to."""

    detector: object
    log: str
    eats: str = ""

    @property
    def max_peaks(self):
        """As of the detector."""
        return self.detector.max_peaks

    def __dask_tokenize__(self):
        return self.detector.token

    def __call__(self, patterns):
        """Find disks, slowly."""
        name = blake2b(np.ascontiguousarray(patterns), digest_size=8).hexdigest()
        with Path(self.log).open("a") as log:
            log.write(f"{name} {time.time()}\n")
        if self.eats and len(Path(self.log).read_text().splitlines()) > BLOCKS // 3:
            with contextlib.suppress(FileExistsError):
                Path(self.eats).open("x").close()
                hoard = [bytearray(b"x" * 2**24) for _ in range(1000)]
                del hoard
        time.sleep(PAUSE)
        return self.detector(patterns)


def child(function, *args, namespace=None):
    """Start `function` in a process of its own."""

    def start():
        os.setpgrp()
        if namespace:
            with Path(f"/var/run/netns/{namespace}").open() as file:
                ctypes.CDLL(None).setns(file.fileno(), 0)
        quiet = os.open(
            os.environ.get("FAULTS_LOG", os.devnull), os.O_WRONLY | os.O_APPEND
        )
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        function(*args)

    process = FORK.Process(target=start, daemon=False)
    process.start()
    return process


def kill(*processes):
    """SIGKILL, and wait until they are gone."""
    for process in processes:
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
        process.join()


def scheduler(file, host):
    """Run a scheduler; its address goes into `file`."""

    async def serve():
        async with distributed.Scheduler(host=host, port=0, dashboard=False) as it:
            Path(f"{file}.new").write_text(it.address)
            Path(f"{file}.new").rename(file)
            await it.finished()

    with dask.config.set(SETTINGS):
        asyncio.run(serve())


def worker(address, host, limited):
    """Run a worker of one thread, in a cgroup of little memory if asked to."""
    if limited:
        (CGROUP / "tasks").write_text(str(os.getpid()))

    async def serve():
        folder = tempfile.mkdtemp(prefix="faults-")
        async with distributed.Worker(
            address, nthreads=1, host=host, memory_limit=0, local_directory=folder
        ) as it:
            await it.finished()

    with dask.config.set(SETTINGS):
        asyncio.run(serve())


def client(address, scan, out, detector):
    """Run the analysis; the exit code tells how it ended."""
    with dask.config.set(SETTINGS):
        distributed.Client(address)
        opened = fcunet_dask.open_scan(scan, blocks=BLOCK)
        try:
            fcunet_dask.run(opened, out, detector=detector)
        except FcunetError as error:
            Path(f"{out}.error").write_text(f"{type(error).__name__}: {error}")
            os._exit(3)
    os._exit(0)


@dataclass
class Place:
    """One run with its processes."""

    folder: Path
    scan: str
    detector: object
    hosts: tuple = ("127.0.0.1", "127.0.0.1", "127.0.0.1")
    namespaces: tuple = (None, None, None)
    limited: bool = False
    processes: list = field(default_factory=list)

    def __post_init__(self):
        self.out = self.folder / "out" / "strain.zarr"
        self.out.parent.mkdir(exist_ok=True)
        self.log = self.folder / "log"
        self.log.touch()
        self.watched = Watched(
            self.detector,
            str(self.log),
            str(self.folder / "ate") if self.limited else "",
        )

    def start_cluster(self):
        """Start a scheduler and its workers."""
        file = self.folder / f"scheduler-{len(self.processes)}"
        self.scheduler = child(
            scheduler, file, self.hosts[0], namespace=self.namespaces[0]
        )
        self.processes.append(self.scheduler)
        wait(file.exists, 60)
        self.address = file.read_text()
        self.workers = [self.start_worker(i) for i in range(WORKERS)]

    def start_worker(self, i):
        """Start one worker."""
        process = child(
            worker,
            self.address,
            self.hosts[i + 1],
            self.limited,
            namespace=self.namespaces[i + 1],
        )
        self.processes.append(process)
        return process

    def start_client(self):
        """Start the run."""
        process = child(
            client,
            self.address,
            self.scan,
            str(self.out),
            self.watched,
            namespace=self.namespaces[0],
        )
        self.processes.append(process)
        return process

    def begin(self, finished=BLOCKS // 3):
        """Start a cluster and the run; wait until so many blocks are finished."""
        self.start_cluster()
        process = self.start_client()
        wait(lambda: len(marks(self.out)) >= finished, 120)
        return process

    def end(self, process):
        """Wait for the run; ask for it again where it ended badly."""
        process.join(240)
        if process.exitcode:
            self.finish()

    def finish(self, seconds=240):
        """Ask for the run again until it ends well; return how often."""
        for attempt in range(1, 4):
            process = self.start_client()
            process.join(seconds)
            if process.exitcode == 0:
                return attempt
            kill(process)
        msg = f"not finished: {self.out}"
        raise RuntimeError(msg)

    def close(self):
        """Kill what is left."""
        kill(*self.processes)


def wait(condition, seconds):
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            msg = "waited in vain"
            raise TimeoutError(msg)
        time.sleep(0.01)


def marks(out):
    """Return the times of the marks of finished blocks."""
    found = {}
    for path in out.glob("marks/*/*/*.json"):
        with contextlib.suppress(FileNotFoundError):
            found[path.parent.name, path.stem] = path.stat().st_mtime
    return found


def in_child(function, *args):
    """Call `function` in a fork, so that this process never opens a store."""
    with FORK.Pool(1) as pool:
        return pool.apply(function, args)


def shell(*words):
    """Run a command that must succeed."""
    subprocess.run(list(map(str, words)), check=True, capture_output=True)


def mount(*words):
    """Mount, or mount again."""
    shell("mount", *words)


@contextlib.contextmanager
def two_hosts():
    """Two network namespaces with a wire between them."""
    for i in (0, 1):
        shell("ip", "netns", "add", f"faults{i}")
    try:
        shell(
            "ip", "-n", "faults0", "link", "add", "veth0", "type", "veth",
            "peer", "name", "veth1", "netns", "faults1",
        )  # fmt: skip
        for i in (0, 1):
            name = f"faults{i}"
            shell(
                "ip",
                "-n",
                name,
                "addr",
                "add",
                f"10.97.0.{i + 1}/24",
                "dev",
                f"veth{i}",
            )
            for link in ("lo", f"veth{i}"):
                shell("ip", "-n", name, "link", "set", link, "up")
        yield
    finally:
        for i in (0, 1):
            shell("ip", "netns", "del", f"faults{i}")
