"""The memory that this process may have, by all the groups that it is in."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_VERSION_2, _VERSION_1 = "memory.max", "memory.limit_in_bytes"


def own_memory(root: Path = Path("/")) -> int:
    """Return the bytes that this process may have before it is killed.

    Of the machine, or less: in a container, by its limits of resources, and by the
    control groups around the process. Dask looks at the outermost group alone; the
    limit of a SLURM job stands in an inner one.

    Parameters
    ----------
    root : pathlib.Path
        Where ``proc`` and ``sys`` are.

    Returns
    -------
    int
    """
    from distributed import system  # noqa: PLC0415 - heavy

    return min([int(system.MEMORY_LIMIT), *_group_limits(root)])


def _group_limits(root: Path) -> Iterator[int]:
    """Limits of all groups that hold this process; see cgroups(7), /proc/PID/cgroup."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    mount = root / "sys/fs/cgroup"
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if "memory" in controllers.split(","):
            yield from _limits(mount / "memory", group, _VERSION_1)
        elif not controllers:
            yield from _limits(mount, group, _VERSION_2)


def _limits(mount: Path, group: str, name: str) -> Iterator[int]:
    inner = PurePosixPath(group).relative_to("/")
    for part in (inner, *inner.parents):
        try:
            said = (mount / part / name).read_text().strip()
        except OSError:
            continue
        if said.isdecimal():
            yield int(said)
