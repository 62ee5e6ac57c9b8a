"""The array at hand decides where the work is done."""

import sys
from types import ModuleType

import numpy as np
import scipy.fft
from fcunet_dask.kernels.arrays import fft_module, namespace, to_host


class OnDevice:
    def get(self):
        return np.arange(3)


def test_numpy_arrays_stay_with_numpy():
    array = np.zeros(3, np.float32)
    assert namespace(array) is np
    assert fft_module(array) is scipy.fft
    assert to_host(array) is array


def test_arrays_of_a_loaded_cupy_belong_to_it(monkeypatch):
    cupy = ModuleType("cupy")
    cupy.ndarray = OnDevice
    fft = ModuleType("fft")
    device_scipy = ModuleType("cupyx.scipy")
    device_scipy.fft = fft
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setitem(sys.modules, "cupyx", ModuleType("cupyx"))
    monkeypatch.setitem(sys.modules, "cupyx.scipy", device_scipy)
    assert namespace(OnDevice()) is cupy
    assert fft_module(OnDevice()) is fft
    assert namespace(np.zeros(2)) is np


def test_to_host_copies_from_the_device_and_takes_lists():
    np.testing.assert_array_equal(to_host(OnDevice()), [0, 1, 2])
    np.testing.assert_array_equal(to_host([1, 2]), [1, 2])
