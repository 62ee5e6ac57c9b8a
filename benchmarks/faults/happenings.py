"""The faults: what is done to a run, and how it is asked for again."""

from pathlib import Path

from processes import BLOCKS, CGROUP, kill, marks, mount, shell, wait


def undisturbed(run):
    """Let nothing happen."""
    run.start_cluster()
    run.finish()


def worker_killed(run):
    """Kill one of the two workers; start another."""
    process = run.begin()
    kill(run.workers[0])
    run.start_worker(0)
    run.end(process)


def scheduler_killed(run):
    """Kill the scheduler; client and workers end; start all anew."""
    process = run.begin()
    kill(run.scheduler)
    process.join(60)
    kill(process, *run.workers)
    run.start_cluster()
    run.finish()


def client_killed(run):
    """Kill the client; another one goes on with the same cluster."""
    process = run.begin()
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
    run.end(process)


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
    process = run.begin(1)  # the probe is measured, the last block not reached
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
    process = run.begin()
    shell("ip", "-n", "faults0", "link", "set", "veth0", "down")
    try:
        run.end(process)
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
