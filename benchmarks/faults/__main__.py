"""What happens when things die: each fault on a real run, many times, then gone on with.

python benchmarks/faults [repeats] [faults, as worker,client,…] [folder]

Scheduler, workers and client are processes of their own. Root, cgroups (v1), tmpfs and
network namespaces are needed for the faults `memory`, `disk` and `partition`. After each
fault the run is asked for again, and its output compared, byte by byte, with that of an
undisturbed run. A log that the workers write tells which blocks were searched, and when.
"""

import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import fcunet_dask
import numpy as np
from happenings import FAULTS, undisturbed
from judge import content, judge, names
from processes import BLOCK, CGROUP, SCAN, Place, in_child, two_hosts


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


if __name__ == "__main__":
    main(*sys.argv[1:])
