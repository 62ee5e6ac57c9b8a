"""A Dask cluster of threads: what a test patches is patched for its workers, too."""

from distributed import Client


def in_process(n_workers, **options):
    """Client of workers of one thread in this process."""
    return Client(
        processes=False,
        n_workers=n_workers,
        threads_per_worker=1,
        dashboard_address=":0",
        **options,
    )
