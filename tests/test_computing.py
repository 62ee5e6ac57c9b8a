"""Workers of Dask keep the memory of arrays; threads of BLAS are limited for a while."""

import os
import subprocess
import sys
import threading

import pytest
from fcunet_dask._computing import computing
from threadpoolctl import ThreadpoolController, threadpool_limits

COUNT = """
import resource, numpy as np
from fcunet_dask._computing import computing

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.full(2**20, 1.0)  # 8 MiB
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 20

with computing():
    faults()
    print(faults())
"""
PAGES = 8 * 2**20 // os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
@pytest.mark.parametrize(
    ("limit", "kept"), [("65536", True), (None, True), ("0", False)]
)
def test_memory_of_arrays_is_used_again_unless_someone_else_wants_it_back(limit, kept):
    given = {} if limit is None else {"MALLOC_TRIM_THRESHOLD_": limit}
    # an array in one huge page is one fault, whatever the allocator does
    environment = {**os.environ, **given, "NUMPY_MADVISE_HUGEPAGE": "0"}
    if limit is None:
        environment.pop("MALLOC_TRIM_THRESHOLD_", None)
    said = subprocess.run(
        [sys.executable, "-c", COUNT],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    faults = int(said.stdout)
    assert faults < PAGES / 20 if kept else faults > PAGES / 2


def blas_threads():
    libraries = ThreadpoolController().select(user_api="blas").info()
    return {library["num_threads"] for library in libraries}


def test_contexts_that_overlap_leave_blas_as_it_was():
    """One thread begins, another begins, the first ends, then the other."""
    begun, entered, left = (threading.Event() for _ in range(3))
    seen = []

    def first():
        with computing():
            begun.set()
            entered.wait(10)
        left.set()

    with threadpool_limits(2, "blas"):
        thread = threading.Thread(target=first)
        thread.start()
        begun.wait(10)
        with computing():
            entered.set()
            left.wait(10)
            seen.append(blas_threads())
        thread.join()
        seen.append(blas_threads())
    assert seen == [{1}, {2}]


def test_an_error_leaves_blas_as_it_was():
    with threadpool_limits(2, "blas"):
        with pytest.raises(ValueError, match="no such block"), computing():
            raise ValueError("no such block")  # noqa: EM101
        assert blas_threads() == {2}
