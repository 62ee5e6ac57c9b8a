"""One BLAS thread, so that results do not depend on the load of the machine."""

from contextlib import AbstractContextManager
from typing import Any

from fcunet_dask.errors import MissingDependencyError


def one_thread() -> AbstractContextManager[Any]:
    """Return a context in which BLAS runs on one thread.

    Matrix products split over threads may round differently; blocks of a library must
    have the same bytes on any number of workers.

    Raises
    ------
    MissingDependencyError
        If threadpoolctl is not installed.
    """
    try:
        from threadpoolctl import threadpool_limits  # noqa: PLC0415  (an extra)
    except ImportError as error:
        msg = "simulation needs threadpoolctl: pip install 'fcunet-dask[simulate]'"
        raise MissingDependencyError(msg) from error
    context: AbstractContextManager[Any] = threadpool_limits(1, user_api="blas")
    return context
