"""Workers of Dask keep the memory of arrays, as other processes do."""

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
