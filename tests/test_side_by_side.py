"""Several at once, and none left behind."""

import threading
import time

import dask
import pytest
from fcunet_dask._bands import cluster_client
from fcunet_dask.pipeline.side_by_side import side_by_side
from tests.in_process import in_process


def test_so_many_at_once_and_each_once():
    lock, now, most, done = threading.Lock(), 0, 0, []

    def work(i):
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        with lock:
            now -= 1
            done.append(i)

    side_by_side(work, 12, 3)
    assert sorted(done) == list(range(12))
    assert most == 3


def test_one_at_a_time_is_in_order_and_in_this_thread():
    calls = []
    side_by_side(lambda i: calls.append((i, threading.current_thread())), 4, 1)
    assert calls == [(i, threading.main_thread()) for i in range(4)]


@pytest.mark.parametrize("at_once", [1, 2])
def test_an_error_stops_the_others(at_once):
    begun = []

    def work(i):
        begun.append(i)
        if i == 1:
            msg = "one fails"
            raise ValueError(msg)
        time.sleep(0.05)

    with pytest.raises(ValueError, match="one fails"):
        side_by_side(work, 50, at_once)
    assert len(begun) < 6


def test_what_is_set_for_the_while_is_undone():
    before = dask.config.get("optimization.fuse.active", "none")
    side_by_side(lambda i: time.sleep(0.01 * i), 4, 4)
    assert dask.config.get("optimization.fuse.active", "none") == before


def test_the_current_client_is_that_of_all_threads():
    with (
        in_process(1, set_as_default=False) as client,
        client.as_current(),
    ):
        found = []
        side_by_side(lambda i: found.append(cluster_client()), 3, 2)
        assert found == [client] * 3
