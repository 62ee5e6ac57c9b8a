"""Detectors on a feigned GPU: nothing of the host is mixed in, the peaks are the same."""

import logging
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from threading import Event
from weakref import ref

import keras
import numpy as np
import pytest
from fcunet_dask import run
from fcunet_dask.model import (
    FCUNet,
    Peaks,
    TemplateMatching,
    backend,
    device,
    fcunet,
    loaded,
    template,
)
from fcunet_dask.model.prepared import Recent
from tests import cupy_stand_in

RADIUS = 4.2
CAMERAS = ({}, {"gain": 1.7, "readout": 2.0, "dark": 3.0, "saturation": 60.0})
LINEAR = {"method": "phase"}, {"method": "cross", "kernel": "edge"}


@pytest.fixture
def patterns(scan):
    return scan.pattern.values.reshape(-1, *scan.pattern.shape[2:])[:11]


@pytest.fixture
def on_gpu(monkeypatch):
    """Return what begins to feign a GPU."""

    def begin(**options):
        cupy = cupy_stand_in.install(monkeypatch, **options)
        forget()
        monkeypatch.setattr(backend, "_sees_gpu", lambda: True)
        monkeypatch.setattr(loaded, "_NETWORKS", {})
        for module in (fcunet, template):
            monkeypatch.setattr(module, "_PREPARED", Recent())
        return cupy

    def forget():
        device.gpu.cache_clear()
        backend.has_gpu.cache_clear()

    yield begin
    forget()


def assert_alike(found, expected, within=1e-4):
    assert np.isfinite(expected.position).any()
    for f in fields(Peaks):
        here, there = getattr(found, f.name), getattr(expected, f.name)
        assert isinstance(here, np.ndarray)
        np.testing.assert_allclose(here, there, rtol=within, atol=within)


@pytest.mark.parametrize("camera", CAMERAS)
@pytest.mark.parametrize("subpixel", ["fit", "dft", "parabola", "none"])
@pytest.mark.parametrize("method", [{}, *LINEAR])
def test_template_matching(method, subpixel, camera, patterns, on_gpu):
    detector = TemplateMatching(radius=RADIUS, subpixel=subpixel, **method, **camera)
    expected = detector(patterns)
    cupy = on_gpu()
    assert_alike(detector(patterns), expected)
    assert_alike(detector(cupy.asarray(patterns)), expected)
    assert {"nonzero", "where"} < cupy.asked


@pytest.mark.parametrize(
    "options",
    [
        {"refine": "fit"},
        {"refine": "mean", "mirrored": True, **CAMERAS[1]},
        {"refine": "none", "mask": np.arange(96 * 112).reshape(96, 112) > 3000},
    ],
)
@pytest.mark.filterwarnings("ignore:__array__ implementation")
def test_network(options, patterns, weights, on_gpu):
    detector = FCUNet(radius=RADIUS, weights=weights, **options)
    expected, images = detector(patterns), detector.structure_factors(patterns)
    cupy = on_gpu()
    assert_alike(detector(patterns), expected, 1e-3)
    found = detector.structure_factors(cupy.asarray(patterns))
    np.testing.assert_allclose(found, images, atol=1e-4)


def test_a_whole_run(scan, detector, tmp_path, on_gpu):
    expected = run(scan, tmp_path / "host", detector=detector)
    on_gpu()
    found = run(scan, tmp_path / "gpu", detector=detector)
    for name in ("strain_xx", "strain_yy", "strain_xx_std"):
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5)


def test_patterns_of_other_machines_are_uploaded_in_the_order_of_this_one(on_gpu):
    on_gpu()
    there = device.uploaded(np.arange(8, dtype=">u2").reshape(2, 2, 2))
    assert there.dtype == np.dtype("u2")
    assert there.dtype.isnative
    assert there.get().ravel().tolist() == list(range(8))


def test_one_thread_computes_at_a_time_on_a_gpu(on_gpu):
    there, here = on_gpu().zeros(3), np.zeros(3)
    inside = [Event(), Event()]

    def compute(i, array):
        with device.turn(array):
            inside[i].set()
            return inside[1 - i].wait(0.2)

    with ThreadPoolExecutor() as pool:
        assert list(pool.map(compute, range(2), [here, here])) == [True, True]
        [event.clear() for event in inside]
        met = list(pool.map(compute, range(2), [there, there]))
    assert sorted(met) == [False, True]  # the second finds that the first was there


def test_batches_take_half_of_the_free_memory(patterns, on_gpu, monkeypatch):
    detector = TemplateMatching(radius=RADIUS, max_peaks=10)
    expected = detector(patterns)
    pixels, window = 96 * 112, (2 * RADIUS + 7) ** 2
    each = 24 * pixels + 48 * 20 * window
    cupy = on_gpu(free=int(2 * 3.5 * each))
    sizes = []
    find = TemplateMatching._find

    def noted(self, part, prepared):
        sizes.append(len(part))
        return find(self, part, prepared)

    monkeypatch.setattr(TemplateMatching, "_find", noted)
    assert_alike(detector(patterns), expected)
    assert sizes == [3, 3, 3, 2]
    assert cupy.freed == 1  # once for a shape: what is freed is asked for again


@pytest.mark.parametrize(
    ("installed", "driver", "visible", "level"),
    [
        (True, True, "0", "WARNING"),
        (True, True, "-1", None),
        (True, False, "0", None),
        (False, True, "0", "WARNING"),
    ],
)
def test_a_gpu_that_is_not_used_is_told(
    installed, driver, visible, level, monkeypatch, caplog, tmp_path, on_gpu
):
    on_gpu(device=False)
    if not installed:
        monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr(device, "_DRIVER", tmp_path if driver else tmp_path / "none")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with caplog.at_level(logging.INFO):
        assert device.gpu() is device.gpu() is None
    assert [r.levelname for r in caplog.records] == ([level] if level else [])
    if level:
        assert (
            "no CUDA-capable device" if installed else "import of cupy"
        ) in caplog.text


def test_backends_that_are_not_loaded_yet_are_told_to_leave_memory(on_gpu, monkeypatch):
    monkeypatch.setenv("TF_FORCE_GPU_ALLOW_GROWTH", "false")
    monkeypatch.delenv("XLA_PYTHON_CLIENT_PREALLOCATE", raising=False)
    on_gpu()
    assert device.gpu() is not None
    assert os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] == "false"  # as the user said
    assert os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"


@pytest.mark.filterwarnings("ignore:__array__ implementation")
def test_the_input_of_a_network_lives_until_its_output_is_there(
    patterns, weights, on_gpu, monkeypatch
):
    """Backends compute later, and do not keep what they were lent."""
    lent, lives = [], []

    def noted(array):
        if isinstance(array, cupy_stand_in.Array):
            lent.append(ref(array))
        return tensor(array)

    def fetched(output):
        lives.append(lent[len(lives)]() is not None)
        return fetch(output)

    tensor, fetch = backend.tensor, keras.ops.convert_to_numpy
    on_gpu(free=2 * 1024 * 96 * 112 * 4)
    monkeypatch.setattr(backend, "tensor", noted)
    monkeypatch.setattr(keras.ops, "convert_to_numpy", fetched)
    FCUNet(radius=RADIUS, weights=weights)(patterns)
    assert lives == [True, True, True]


def test_nothing_of_no_patterns(weights):
    detector = FCUNet(radius=RADIUS, weights=weights)
    none = np.zeros((0, 96, 112), np.uint16)
    assert detector(none).position.shape == (0, 128, 2)
    assert detector.structure_factors(none).shape == (0, 96, 112)


def test_a_backend_that_does_not_see_the_gpu_is_told(
    patterns, weights, on_gpu, monkeypatch, caplog
):
    expected = FCUNet(radius=RADIUS, weights=weights)(patterns)
    on_gpu()
    monkeypatch.setattr(backend, "_sees_gpu", lambda: False)
    assert_alike(FCUNet(radius=RADIUS, weights=weights)(patterns), expected)
    assert f"{keras.backend.backend()} does not see it" in caplog.text


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (type("OutOfMemoryError", (Exception,), {})(), True),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 2 bytes"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUBLAS_STATUS_NOT_INITIALIZED"), True),
        (type("InternalError", (Exception,), {})("XLA: out of memory"), True),
        (RuntimeError("misaligned address"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_lack_of_memory_looks_like(error, expected):
    assert device.of_memory(error) is expected
