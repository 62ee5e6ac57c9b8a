"""Who computes a run: processes, threads, memory, GPUs."""

import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import dask
from dask.local import get_sync

from fcunet_dask.cluster.memory import own_memory

_LOG = logging.getLogger(__name__)
WORKER_BYTES: Final = 200 * 2**20
"""Of a worker process that has this package loaded and does nothing (measured)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """Who computes: processes, threads in all, memory of each process and of its GPU.

    Processes with a GPU are counted in all; where its memory is not known,
    ``device_bytes`` is 0.
    """

    processes: int
    threads: int
    memory_bytes: int
    gpus: int = 0
    device_bytes: int = 0

    def needed_bytes(self, each: int, blocks: int) -> int:
        """Memory of a process in which every thread that has a block needs `each`."""
        return WORKER_BYTES + self.busy_threads(blocks) * each

    def device_needs(self, patterns: int, blocks: int) -> int:
        """Memory of a GPU for the patterns (bytes) of a block in each thread; 0 without."""
        return self.busy_threads(blocks) * patterns if self.gpus else 0

    def busy_threads(self, blocks: int) -> int:
        """Threads of a process that have one of so many blocks, at most."""
        return min(-(-self.threads // self.processes), blocks)


def active_workers() -> Workers:
    """Return who computes: the workers of the active client, or threads of this process.

    Where `dask.annotate` asks for resources, only workers that have them compute. A
    cluster whose workers are still to come is told in the log: what is computed waits.
    """
    distributed = sys.modules.get("distributed")
    try:
        client = None if distributed is None else distributed.default_client()
    except ValueError:
        client = None
    info = {} if client is None else client.scheduler_info(n_workers=-1)["workers"]
    asked = _asked_resources()
    info = {name: w for name, w in info.items() if _has(w["resources"], asked)}
    if client is not None and not info:
        with_these = "".join(f" with {n}={amount:g}" for n, amount in asked.items())
        _LOG.warning(
            "%s has no workers%s yet: work waits until some come; till then this "
            "process is reckoned with",
            client.scheduler.address,
            with_these,
        )
    if not info:
        return Workers(processes=1, threads=_own_threads(), memory_bytes=own_memory())
    limits = [w["memory_limit"] or own_memory() for w in info.values()]
    return Workers(
        processes=len(info),
        threads=sum(w["nthreads"] for w in info.values()),
        memory_bytes=min(limits),
        gpus=sum(_gpus(w) for w in info.values()),
        device_bytes=min(filter(None, map(_device_bytes, info.values())), default=0),
    )


def _gpus(worker: Mapping[str, Any]) -> int:
    """Whether a worker says it has one: by its resources, or as Dask asked the driver."""
    return int(worker["resources"].get("GPU", 0) > 0 or _device_bytes(worker) > 0)


def _device_bytes(worker: Mapping[str, Any]) -> int:
    """Memory of the GPU that Dask found with a worker, where pynvml is installed."""
    return int(worker.get("gpu", {}).get("memory-total") or 0)


def _asked_resources() -> Mapping[str, float]:
    """Return what a worker must have to be given work, as `dask.annotate` says it."""
    asked = dask.base.get_annotations().get("resources") or {}
    return asked if isinstance(asked, Mapping) else {}


def _has(resources: Mapping[str, float], asked: Mapping[str, float]) -> bool:
    return all(resources.get(name, 0) >= amount for name, amount in asked.items())


def _own_threads() -> int:
    if dask.base.get_scheduler() is get_sync:
        return 1
    return int(dask.config.get("num_workers", None) or dask.system.CPU_COUNT)
