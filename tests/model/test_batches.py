"""Batches: every pattern once, in order, one ahead, smaller where memory runs out."""

import logging

import numpy as np
import pytest
from fcunet_dask.model.batches import Batches
from hypothesis import given
from hypothesis import strategies as st

PATTERNS = np.arange(23)[:, None, None] * np.ones((1, 2, 2))


class JaxRuntimeError(RuntimeError):
    """As JAX calls it."""


class Backend:
    """Computes with at most so many patterns, and tells in which order it is asked."""

    def __init__(self, most=100, *, late=False):
        self.most, self.late, self.log = most, late, []

    def _checked(self, size):
        if size > self.most:
            msg = "RESOURCE_EXHAUSTED: Out of memory"
            raise JaxRuntimeError(msg)

    def send(self, part, size):
        self.log.append(("send", size, len(part)))
        if not self.late:
            self._checked(size)
        filled = np.zeros((size, *part.shape[1:]))
        filled[: len(part)] = part
        return filled

    def fetch(self, sent):
        self.log.append(("fetch", len(sent)))
        if self.late:
            self._checked(len(sent))
        return 2 * sent[:, 0, 0]


def computed(batches, backend, patterns=PATTERNS):
    return batches(patterns, backend.send, backend.fetch)


def test_one_is_sent_before_the_one_before_is_fetched():
    backend = Backend()
    found = computed(Batches(40, 0), backend)
    np.testing.assert_array_equal(found, 2 * np.arange(23))
    assert backend.log == [
        ("send", 10, 10),
        ("send", 10, 10),
        ("fetch", 10),
        ("send", 10, 3),
        ("fetch", 10),
        ("fetch", 10),
    ]


@pytest.mark.parametrize(("n", "size"), [(1, 1), (2, 2), (5, 8), (9, 10), (23, 10)])
def test_few_patterns_do_not_fill_up_a_large_batch(n, size):
    backend = Backend()
    computed(Batches(40, 0), backend, PATTERNS[:n])
    assert {s for what, s, *_ in backend.log if what == "send"} == {size}


@given(st.integers(1, 30), st.integers(4, 200), st.integers(1, 60), st.booleans())
def test_nothing_is_lost_or_computed_twice_over(n, pixels, most, late):
    backend = Backend(most, late=late)
    patterns = np.arange(n)[:, None, None] * np.ones((1, 2, 2))
    found = computed(Batches(pixels, 0), backend, patterns)
    np.testing.assert_array_equal(found, 2 * np.arange(n))


@pytest.mark.parametrize("late", [False, True])
def test_batches_stay_small_once_memory_has_run_out(late, caplog):
    batches, backend = Batches(64, 0), Backend(5, late=late)
    with caplog.at_level(logging.WARNING):
        computed(batches, backend)
    assert [r.getMessage() for r in caplog.records] == [
        "out of memory with 16 patterns: now 8",
        "out of memory with 8 patterns: now 4",
    ]
    backend.log.clear()
    computed(batches, backend)
    assert {size for name, size, *_ in backend.log if name == "send"} == {4}


def test_the_size_for_a_shape_is_found_once(monkeypatch):
    """A power of two: each other one is compiled anew."""
    free = iter([4 * 13, 4 * 7])
    monkeypatch.setattr("fcunet_dask.model.batches.free_bytes", lambda: next(free))
    batches, backend = Batches(64, 1), Backend()
    for _ in range(3):
        computed(batches, backend)
    sizes = {size for name, size, *_ in backend.log if name == "send"}
    assert sizes == {8}
    computed(batches, backend, np.ones((2, 2, 2)))
    assert backend.log[-2] == ("send", 2, 2)
    assert next(free) == 4 * 7  # nobody asked again


def test_too_little_for_one_pattern_is_the_error_of_the_backend():
    with pytest.raises(JaxRuntimeError):
        computed(Batches(64, 0), Backend(0))


def test_other_errors_pass():
    def broken(part, size):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Batches(64, 0)(PATTERNS, broken, Backend().fetch)
