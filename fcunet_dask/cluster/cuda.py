"""One worker process per GPU of this machine."""

import os
import warnings
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from fcunet_dask.cluster.local import DEFAULTS, local_cluster

THREADS: Final = 4
"""Of a worker: one computes on the GPU, the others read and decode what comes next."""
_OF_GPUS_ONLY: Final = ("CUDA_", "cudf_", "device_", "enable_", "jit_", "rmm_")


def cuda_cluster(**options: Any) -> Any:
    """Start one worker process of four threads per GPU; CPU workers where there is none.

    One thread computes on the GPU at a time, the others read, upload and write.

    Parameters
    ----------
    **options
        Passed to `dask_cuda.LocalCUDACluster`: ``n_workers``, ``CUDA_VISIBLE_DEVICES``,
        …; those that speak of GPUs are left out where there is none.

    Returns
    -------
    distributed.Client
    """
    missing = why_no_gpu()
    if missing is not None:
        msg = f"no GPU workers: {missing}; the work goes to CPU workers instead"
        warnings.warn(msg, RuntimeWarning, stacklevel=3)
        kept = {k: v for k, v in options.items() if not k.startswith(_OF_GPUS_ONLY)}
        return local_cluster(**kept)
    from dask_cuda import LocalCUDACluster  # noqa: PLC0415 - an extra
    from distributed import Client  # noqa: PLC0415 - heavy

    return Client(
        LocalCUDACluster(**(DEFAULTS | {"threads_per_worker": THREADS} | options))
    )


def why_no_gpu() -> str | None:
    """Return why there can be no GPU worker on this machine; None if there can."""
    if find_spec("dask_cuda") is None:
        return "dask-cuda is not installed (pip install 'fcunet-dask[gpu]')"
    import pynvml  # noqa: PLC0415 - comes with dask-cuda

    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError as error:
        return f"no NVIDIA driver answers ({error})"
    if not count:
        return "the driver knows no GPU"
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all") in {"", "-1"}:
        return "CUDA_VISIBLE_DEVICES hides every GPU"
    try:
        import_module("dask_cuda")
    except ImportError as error:
        return f"dask-cuda does not load ({error}): install 'fcunet-dask[gpu]' again"
    return None
