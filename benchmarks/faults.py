"""What happens when things die: each fault on a real run, many times, then gone on with.

python benchmarks/faults.py [repeats] [faults, as worker,client,…] [folder]

Scheduler, workers and client are processes of their own. Root, cgroups (v1), tmpfs and
network namespaces are needed for the faults `memory`, `disk` and `partition`. After each
fault the run is asked for again, and its output compared, byte by byte, with that of an
undisturbed run. A log that the workers write tells which blocks were searched, and when.
"""

import asyncio
import contextlib
import ctypes
import importlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

import dask
import distributed
import fcunet_dask
import numpy as np
from fcunet_dask._commit import BlockStore
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


# --- what runs -----------------------------------------------------------------------
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

    def wait_for_blocks(self, number):
        """Wait until so many blocks are finished."""
        wait(lambda: len(marks(self.out)) >= number, 120)

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


# --- the faults ----------------------------------------------------------------------
def undisturbed(run):
    """Let nothing happen."""
    run.start_cluster()
    run.finish()


def worker_killed(run):
    """Kill one of the two workers; start another."""
    run.start_cluster()
    process = run.start_client()
    run.wait_for_blocks(BLOCKS // 3)
    kill(run.workers[0])
    run.start_worker(0)
    process.join(240)
    if process.exitcode:
        run.finish()


def scheduler_killed(run):
    """Kill the scheduler; client and workers end; start all anew."""
    run.start_cluster()
    process = run.start_client()
    run.wait_for_blocks(BLOCKS // 3)
    kill(run.scheduler)
    process.join(60)
    kill(process, *run.workers)
    run.start_cluster()
    run.finish()


def client_killed(run):
    """Kill the client; another one goes on with the same cluster."""
    run.start_cluster()
    process = run.start_client()
    run.wait_for_blocks(BLOCKS // 3)
    kill(process)
    run.finish()


def out_of_memory(run):
    """Let a worker take more memory than its cgroup has: the kernel kills it."""
    CGROUP.mkdir(exist_ok=True)
    (CGROUP / "memory.limit_in_bytes").write_text(str(1500 * 2**20))
    run.start_cluster()
    process = run.start_client()
    wait(lambda: not all(w.is_alive() for w in run.workers), 120)
    run.start_worker(0)
    process.join(240)
    if process.exitcode:
        run.finish()


def disk_full(run):
    """Fill the disk of the results (tmpfs); then make it larger."""
    run.start_cluster()
    mount("-t", "tmpfs", "-o", "size=250k", "none", run.out.parent)
    process = run.start_client()
    process.join(240)
    said = Path(f"{run.out}.error")
    full = said.exists() and "the disk is full" in said.read_text()
    if not full or not 0 < len(marks(run.out)) < BLOCKS:
        msg = "the disk was not full while blocks were committed"
        raise RuntimeError(msg)
    mount("-o", "remount,size=64m", run.out.parent)
    run.finish()


def input_corrupted(run):
    """Flip a bit of the scan ahead of the workers; mend it when the run has failed."""
    last = Path(run.scan) / "pattern" / "c" / "3" / "2" / "0" / "0"
    whole = last.read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 4
    run.start_cluster()
    process = run.start_client()
    run.wait_for_blocks(
        BLOCKS // 3
    )  # the probe is measured, the last block not reached
    replace(last, damaged)
    try:
        process.join(240)
        said = Path(f"{run.out}.error").read_text()
        if "ReaderError" not in said or "damaged" not in said:
            msg = f"the damage was not told: {said}"
            raise RuntimeError(msg)
    finally:
        replace(last, whole)
    run.finish()


def replace(path, data):
    """Put other bytes into a file at once: workers that read it now see either."""
    new = path.with_suffix(".new")
    new.write_bytes(data)
    new.rename(path)


def network_partition(run):
    """Cut off the host of one worker until the run has ended."""
    run.start_cluster()
    process = run.start_client()
    run.wait_for_blocks(BLOCKS // 3)
    shell("ip", "-n", "faults0", "link", "set", "veth0", "down")
    try:
        process.join(240)
        if process.exitcode:
            run.finish()
    finally:
        shell("ip", "-n", "faults0", "link", "set", "veth0", "up")


FAULTS = {
    "worker": worker_killed,
    "scheduler": scheduler_killed,
    "client": client_killed,
    "memory": out_of_memory,
    "disk": disk_full,
    "input": input_corrupted,
    "partition": network_partition,
}


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


# --- judged --------------------------------------------------------------------------
def content(out):
    """Digest of every file of a store."""
    return {
        str(p.relative_to(out)): blake2b(p.read_bytes()).hexdigest()
        for p in sorted(out.rglob("*"))
        if p.is_file() and p.name != "owner.json"
    }


def names(scan):
    """Which block has which digest of patterns."""
    patterns = fcunet_dask.open_scan(scan, blocks=BLOCK).pattern.values
    found = {}
    for y in range(SCAN[0] // BLOCK[0]):
        for x in range(SCAN[1] // BLOCK[1]):
            rows, columns = (slice(4 * i, 4 * i + 4) for i in (y, x))
            block = patterns[rows, columns]
            block = np.ascontiguousarray(block).reshape(-1, *block.shape[2:])
            name = blake2b(block, digest_size=8).hexdigest()
            found[name] = (str(y), str(x))
    return found


def marks(out):
    """Return the times of the marks of finished blocks."""
    found = {}
    for path in out.glob("marks/*/*/*.json"):
        with contextlib.suppress(FileNotFoundError):
            found[path.parent.name, path.stem] = path.stat().st_mtime
    return found


def judge(out, log, known, expected):
    """Whether the end is the same, and which blocks were searched more than once."""
    entries = [line.split() for line in log.read_text().splitlines()]
    marked = marks(out)
    strange = sorted({name for name, _ in entries if name not in known})
    if strange:
        msg = f"patterns that are not those of the scan were searched: {strange}"
        raise RuntimeError(msg)
    late = sum(float(t) > marked[known[n]] for n, t in entries)
    again = len(entries) - BLOCKS
    found = content(out)
    other = sorted(n for n in {*found, *expected} if found.get(n) != expected.get(n))
    if other:
        print(f"{out}: {other[:5]} differ", file=sys.stderr)
    whole = BlockStore(out).complete and not other
    return whole, late, again


def prepare(folder):
    """Write the scan, and return the detector for it."""
    scan = fcunet_dask.simulate_scan(
        scan=SCAN, detector=(64, 64), radius=3.0, g1=(2.0, 12.0), g2=(12.0, -2.0),
        dose=1e4, blocks=BLOCK,
    )  # fmt: skip
    fcunet_dask.save_scan(scan[["pattern", "probe"]], folder / "scan.zarr", shard=BLOCK)


def one(name, folder, detector, judged):
    """Run with one fault; leave the judgement in a file."""
    fault = FAULTS.get(name, undisturbed)
    apart = name == "partition"
    hosts = ("10.97.0.1", "10.97.0.1", "10.97.0.2")
    spaces = ("faults0", "faults0", "faults1")
    run = Place(
        folder,
        str(folder.parent / "scan.zarr"),
        detector,
        limited=name == "memory",
        **({"hosts": hosts, "namespaces": spaces} if apart else {}),
    )
    start = time.monotonic()
    try:
        with two_hosts() if apart else contextlib.nullcontext():
            try:
                fault(run)
            finally:
                run.close()
        seconds = time.monotonic() - start
        result = judged(run), seconds
    finally:
        if name == "disk":
            subprocess.run(["umount", str(run.out.parent)], check=False)
        if name == "memory":
            time.sleep(0.2)
            CGROUP.rmdir()
    return result


def main(repeats="20", chosen="", folder=None):
    """Print one row a fault."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background too
    chosen = chosen or ",".join(FAULTS)
    root = Path(tempfile.mkdtemp(prefix="faults-", dir=folder))
    try:
        table(int(repeats), chosen.split(","), root)
    finally:
        shutil.rmtree(root)


def table(repeats, chosen, root):
    """Measure, each fault in turn, and print; what is interrupted prints what it has."""
    detector = fcunet_dask.load_detector("template", radius=3.0)
    in_child(prepare, root)
    known = in_child(names, str(root / "scan.zarr"))
    (root / "undisturbed").mkdir()
    expected = one(
        "", root / "undisturbed", detector, lambda r: in_child(content, r.out)
    )[0]
    results = {name: [] for name in chosen}
    try:
        for i in range(repeats):
            for name in chosen:
                folder = root / f"{name}-{i}"
                folder.mkdir()
                results[name].append(tried(name, folder, detector, known, expected))
                print(f"{name} {i}: {results[name][-1]}", file=sys.stderr, flush=True)
                shutil.rmtree(folder, ignore_errors=True)
    finally:
        print("| fault | runs | ended whole | bit-identical | finished blocks searched "
              "again | blocks lost, mean (most) | s, median |")  # fmt: skip
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for name, runs in results.items():
            print(row(FAULTS[name].__doc__.rstrip("."), runs))


def tried(name, folder, detector, known, expected):
    """Return the judgement of one run and its seconds; None if it did not end well."""
    try:
        return one(
            name,
            folder,
            detector,
            lambda r: in_child(judge, r.out, r.log, known, expected),
        )
    except (RuntimeError, TimeoutError, subprocess.CalledProcessError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return None


def row(words, runs):
    """Return the row of one fault."""
    ended = [run for run in runs if run is not None]
    same = sum(whole for (whole, _, _), _ in ended)
    late = sum(number for (_, number, _), _ in ended)
    again = [number for (_, _, number), _ in ended] or [0]
    seconds = np.median([seconds for _, seconds in ended] or [0])
    return (
        f"| {words} | {len(runs)} | {len(ended)} | {same} | {late} "
        f"| {np.mean(again):.1f} ({max(again)}) | {seconds:.1f} |"
    )


def in_child(function, *args):
    """Call `function` in a fork, so that this process never opens a store."""
    with FORK.Pool(1) as pool:
        return pool.apply(function, args)


if __name__ == "__main__":
    main(*sys.argv[1:])
