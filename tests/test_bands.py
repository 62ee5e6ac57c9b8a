"""Bands of tasks: computed behind what is small, and cancelled from any thread."""

import threading
import time
from concurrent.futures import CancelledError

import dask
import pytest
from dask.delayed import delayed
from distributed import Future
from fcunet_dask._bands import cancel_bands, cluster_client, compute_band
from tests.in_process import in_process


@pytest.fixture
def client():
    with in_process(1) as client:
        yield client


def sleepy(i):
    time.sleep(0.1)
    return i


NOTED = []


def note(i):
    time.sleep(0.02)
    NOTED.append(i)


def test_the_client_is_found_where_it_computes(client):
    assert cluster_client() is client
    with dask.config.set(scheduler="threads"):
        assert cluster_client() is None


def test_what_is_small_comes_first(client):
    """Asked for later, and done before the rest of the band."""
    band = [delayed(note)(i) for i in range(20)]
    thread = threading.Thread(target=compute_band, args=(band,))
    thread.start()
    while not NOTED:
        time.sleep(0.01)
    delayed(note)("small").compute(fifo_timeout=0)  # as if a minute later
    thread.join()
    assert len(NOTED) == 21
    assert NOTED.index("small") < 10


def test_a_band_is_cancelled(client):
    raised = []

    def compute():
        try:
            compute_band([delayed(sleepy)(i) for i in range(60)])
        except CancelledError as error:
            raised.append(error)

    thread = threading.Thread(target=compute)
    thread.start()
    time.sleep(0.5)
    began = time.monotonic()
    while thread.is_alive():
        cancel_bands()
        thread.join(0.1)
    assert time.monotonic() - began < 2  # 60 take 6 s
    assert len(raised) == 1
    assert isinstance(client.submit(sleepy, 1), Future)  # the cluster goes on


def test_without_a_cluster_there_is_nothing_to_cancel():
    assert cluster_client() is None
    cancel_bands()
    compute_band([delayed(sleepy)(1)])
