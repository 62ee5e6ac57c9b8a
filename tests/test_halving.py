"""Out of memory: half as many patterns at a time, and the same peaks."""

import logging
from dataclasses import fields

import numpy as np
import pytest
from fcunet_dask import run
from fcunet_dask.model import Peaks
from fcunet_dask.pipeline.halving import Halving


class ResourceExhaustedError(RuntimeError):
    """As TensorFlow calls it."""


class Limited:
    """A detector for few patterns at a time."""

    def __init__(self, detector, most, error=MemoryError):
        self.detector, self.most, self.error = detector, most, error
        self.sizes = []

    @property
    def max_peaks(self):
        return self.detector.max_peaks

    def __dask_tokenize__(self):
        return self.detector.token

    def __call__(self, patterns):
        if len(patterns) > self.most:
            raise self.error
        self.sizes.append(len(patterns))
        return self.detector(patterns)


@pytest.mark.parametrize("error", [MemoryError, ResourceExhaustedError])
def test_peaks_are_those_of_the_whole_batch(error, scan, detector, caplog):
    patterns = scan.pattern.values.reshape(-1, *scan.pattern.shape[2:])[:11]
    limited = Limited(detector, 3, error)
    with caplog.at_level(logging.WARNING):
        found = Halving(limited)(patterns)
    assert limited.sizes == [2, 3, 3, 3]
    assert "out of memory with 11 patterns: now 5" in caplog.text
    whole = detector(patterns)
    for field in fields(Peaks):
        # batches of another size sum in another order
        np.testing.assert_allclose(
            getattr(found, field.name), getattr(whole, field.name), rtol=1e-4, atol=1e-7
        )


def test_too_little_for_one_pattern_is_told(scan, detector):
    patterns = scan.pattern.values.reshape(-1, *scan.pattern.shape[2:])
    with pytest.raises(MemoryError):
        Halving(Limited(detector, 0))(patterns)


def test_other_errors_pass(scan, detector):
    with pytest.raises(ZeroDivisionError):
        Halving(Limited(detector, 0, ZeroDivisionError))(scan.pattern.values[0])


def test_a_run_goes_on(scan, tmp_path, detector):
    limited = Limited(detector, 20)
    found = run(scan, tmp_path / "a", detector=limited)
    whole = run(scan, tmp_path / "b", detector=detector)
    np.testing.assert_array_equal(found["bragg_q"], whole["bragg_q"])
    assert max(limited.sizes) == 12
