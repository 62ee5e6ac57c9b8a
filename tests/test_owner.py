"""One process at a time owns a store, whoever comes, goes, sleeps or dies."""

import json
import os
import threading
import time

import pytest
from fcunet_dask._commit import owner
from fcunet_dask._commit.owner import OWNER, STALE_S, Owner
from fcunet_dask._places.folder import ABANDONED_S, PARTIAL, FolderPlace
from fcunet_dask.errors import StoreInUseError

ELSEWHERE = json.dumps({"host": "elsewhere", "pid": 1}).encode()


@pytest.fixture
def place(tmp_path):
    return FolderPlace(tmp_path / "a.zarr")


def silent(place, seconds=STALE_S + 1):
    """Leave the claim of another host that gave no sign for so long."""
    place.write(OWNER, ELSEWHERE)
    then = time.time() - seconds
    os.utime(place.path / OWNER, (then, then))


def files(place):
    return [p.name for p in (place.path / "marks").iterdir()]


def wait_until(happened):
    end = time.monotonic() + 10
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_of_many_one_takes_a_silent_owner_over(place, monkeypatch):
    create = FolderPlace.create

    def slow(self, key, data):
        time.sleep(0.002)
        return create(self, key, data)

    monkeypatch.setattr(FolderPlace, "create", slow)
    for _ in range(10):
        silent(place)
        start, owners, refused = threading.Barrier(8), [], []

        def take(start=start, owners=owners, refused=refused):
            start.wait()
            try:
                owners.append(Owner.take(place))
            except Exception as error:  # noqa: BLE001 - looked at below
                refused.append(type(error))

        threads = [threading.Thread(target=take) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert refused == [StoreInUseError] * 7
        assert owners[0].holds()
        owners[0].release()
        assert files(place) == []


def test_who_saw_the_old_claim_does_not_touch_the_new_one(place):
    """Not even for a moment: who looked meanwhile would find no owner."""
    silent(place)
    seen = place.stamp(OWNER)
    assert place.swap(OWNER, b"first", seen)
    first = place.stamp(OWNER)
    assert not place.swap(OWNER, b"second", seen)
    assert place.stamp(OWNER) == first
    assert place.read(OWNER) == b"first"
    assert files(place) == ["owner.json"]


def test_one_at_a_time_replaces_what_was_seen(place):
    silent(place)
    seen = place.stamp(OWNER)
    turn = place.path / f"{OWNER}.{seen.version}{PARTIAL}"
    turn.touch()
    assert not place.swap(OWNER, b"second", seen)
    assert place.stamp(OWNER) == seen
    then = time.time() - ABANDONED_S - 1  # its process was killed
    os.utime(turn, (then, then))
    taken = Owner.take(place)
    assert taken.holds()
    taken.release()
    assert files(place) == []


def test_a_claim_that_goes_while_it_is_read_is_free(place, monkeypatch):
    place.write(OWNER, ELSEWHERE)
    read = FolderPlace.read

    def released(self, key):
        self.delete(key)
        return read(self, key)

    with monkeypatch.context() as patch:
        patch.setattr(FolderPlace, "read", released)
        taken = Owner.take(place)
    assert taken.holds()
    taken.release()


def test_a_claim_that_is_gone_is_made_again(place, monkeypatch):
    monkeypatch.setattr(owner, "HEARTBEAT_S", 0.01)
    taken = Owner.take(place)
    claim = place.read(OWNER)
    place.delete(OWNER)
    wait_until(lambda: place.stamp(OWNER) is not None)
    assert taken.holds()
    assert place.read(OWNER) == claim
    taken.release()
    assert files(place) == []


def test_a_claim_of_another_takes_the_store_away_for_good(place, monkeypatch):
    monkeypatch.setattr(owner, "HEARTBEAT_S", 0.01)
    taken = Owner.take(place)
    place.write(OWNER, ELSEWHERE)
    wait_until(lambda: not taken._thread.is_alive())
    place.delete(OWNER)  # the other came and went
    assert not taken.holds()
    assert files(place) == []
    place.write(OWNER, ELSEWHERE)
    taken.release()
    assert place.read(OWNER) == ELSEWHERE
