"""Workers of Dask keep the memory of arrays; threads of BLAS are limited for a while."""

import os
import subprocess
import sys

import pytest

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


def said(code, environment):
    """What a process of its own prints."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


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
    faults = int(said(COUNT, environment))
    assert faults < PAGES / 20 if kept else faults > PAGES / 2


OVERLAP = """
import threading
import scipy.linalg
from fcunet_dask._computing import computing
from threadpoolctl import ThreadpoolController

steps = [threading.Event() for _ in range(4)]

def blas():
    libraries = ThreadpoolController().select(user_api="blas").info()
    return sorted({library["num_threads"] for library in libraries})

def first():
    with computing():
        steps[0].set()
        steps[1].wait(10)
    steps[2].set()

def second():
    steps[0].wait(10)
    with computing():
        steps[1].set()
        steps[2].wait(10)
        print(blas(), end=" ")

print(blas(), end=" ")
threads = [threading.Thread(target=f) for f in (first, second)]
[t.start() for t in threads]
[t.join() for t in threads]
print(blas(), end=" ")
try:
    with computing():
        raise ValueError
except ValueError:
    print(blas())
"""


def test_contexts_that_overlap_leave_blas_as_it_was():
    """One thread begins, another begins, the first ends, then the other; then an error."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2"}
    blas = said(OVERLAP, environment)
    if not blas.startswith("[2] "):
        pytest.skip("BLAS has one thread here whatever it is told")
    assert blas.split() == ["[2]", "[1]", "[2]", "[2]"]
