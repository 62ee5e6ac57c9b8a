"""A strain map on a cluster: python strain_map.py SCAN OUT [WORKERS].

The scheduler is that of $SCHEDULER_FILE or $DASK_SCHEDULER_ADDRESS; the work begins when
WORKERS (one, if not told) have joined. Edit a copy for what should not be automatic.
"""

import os
import sys

import fcunet_dask as fcu
import numpy as np


def main(scan: str, out: str, workers: str = "1") -> None:
    """Map the strain of `scan` to `out` and print what it was."""
    where = os.environ.get("SCHEDULER_FILE") or os.environ["DASK_SCHEDULER_ADDRESS"]
    client = fcu.connect_cluster(where)
    client.wait_for_workers(int(workers), timeout=600)
    print("scheduler", client.scheduler.address)
    print("workers", *sorted(client.nthreads()), flush=True)
    strain = fcu.run(scan, out)
    for name in ("strain_xx", "strain_yy", "strain_xy", "rotation"):
        low, high = np.nanpercentile(strain[name], [2, 98])
        print(f"{name} {low:+.5f} … {high:+.5f}")
    client.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
