import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
import types
from functools import partial
from importlib.machinery import ModuleSpec
from pathlib import Path

import fcunet_dask as fcu
import numpy as np
import pytest
from distributed import LocalCluster
from fcunet_dask.cluster import connect, cuda
from fcunet_dask.errors import ParameterError
from fcunet_dask.model import loaded

ROOT = Path(fcu.__file__).parents[1]


def touch(folder):
    """Leave a file that tells the process; stands for loading a network."""
    path = folder / str(os.getpid())
    path.write_text(str(int(path.read_text()) + 1) if path.exists() else "1")


def fail():
    msg = "no weights at /nowhere"
    raise ValueError(msg)


def test_cuda_starts_a_process_for_each_gpu(tmp_path, monkeypatch):
    """LocalCUDACluster is one of dask's own, so that only its options are feigned."""
    asked = {}

    class LocalCUDACluster(LocalCluster):
        def __init__(self, CUDA_VISIBLE_DEVICES, rmm_pool_size, **options):
            asked.update(options, rmm_pool_size=rmm_pool_size)
            gpus = CUDA_VISIBLE_DEVICES.split(",")
            super().__init__(n_workers=len(gpus), **options)

    feigned = types.ModuleType("dask_cuda")
    feigned.LocalCUDACluster = LocalCUDACluster
    monkeypatch.setitem(sys.modules, "dask_cuda", feigned)
    monkeypatch.setattr(cuda, "why_no_gpu", lambda: None)
    client = fcu.connect_cluster(
        "cuda",
        CUDA_VISIBLE_DEVICES="0,1",
        rmm_pool_size="1GB",
        load=partial(touch, tmp_path),
    )
    with client, client.cluster:
        assert sorted(client.nthreads().values()) == [4, 4]
        assert len(list(tmp_path.iterdir())) == 2
    assert asked["rmm_pool_size"] == "1GB"
    assert asked["dashboard_address"].startswith("127.0.0.1")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def test_cuda_without_a_gpu_says_why_and_works_on_the_cpu(tmp_path, monkeypatch):
    monkeypatch.setattr(cuda, "find_spec", lambda name: None)
    with pytest.warns(RuntimeWarning, match="dask-cuda is not installed"):
        client = fcu.connect_cluster(
            "cuda",
            n_workers=2,
            rmm_pool_size="1GB",
            load=partial(touch, tmp_path),
        )
    with client, client.cluster:
        assert set(client.nthreads().values()) == {1}
        threads = client.run(os.environ.get, "TF_NUM_INTRAOP_THREADS")
        assert set(threads.values()) == {"1"}
        client.cluster.scale(3)
        client.wait_for_workers(3, timeout=60)
        pids = {str(pid) for pid in client.run(os.getpid).values()}
        loads = {path.name: path.read_text() for path in tmp_path.iterdir()}
        assert loads == dict.fromkeys(pids, "1")
        with pytest.raises(ValueError, match="no weights at /nowhere"):
            fcu.cluster.warm_up(client, fail)


def loaded_networks():
    return len(loaded._NETWORKS)


def test_the_network_is_there_before_the_first_block():
    """As docs/scaling.md says it."""
    detector = fcu.load_detector("fcunet", radius=4.0)
    one_pattern = np.ones((1, 64, 64), np.float32)
    client = fcu.connect_cluster(
        "local", n_workers=1, load=partial(detector, one_pattern)
    )
    with client, client.cluster:
        assert set(client.run(loaded_networks).values()) == {1}


def arenas(path):
    """Pools of memory that glibc has for this process, when eight threads have asked."""
    hold = threading.Event()
    threads = [
        threading.Thread(target=lambda: (bytes(10**5), hold.wait())) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    libc = ctypes.CDLL(None)
    libc.fopen.restype = ctypes.c_void_p
    file = ctypes.c_void_p(libc.fopen(os.fsencode(path), b"w"))
    libc.malloc_info(0, file)
    libc.fclose(file)
    hold.set()
    return path.read_text().count("<heap nr=")


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="of glibc")
def test_threads_of_a_worker_share_its_memory(tmp_path):
    assert arenas(tmp_path / "here") > 1
    client = fcu.connect_cluster("local", n_workers=1)
    with client, client.cluster:
        assert list(client.run(arenas, tmp_path / "worker").values()) == [1]


class NVMLError(Exception):
    """As of pynvml."""


@pytest.mark.parametrize(
    ("devices", "visible", "package", "reason"),
    [
        (None, "all", "whole", "no NVIDIA driver answers"),
        (0, "all", "whole", "the driver knows no GPU"),
        (4, "", "whole", "CUDA_VISIBLE_DEVICES hides every GPU"),
        (4, "0,1", "broken", "dask-cuda does not load"),
        (4, "0,1", "whole", None),
    ],
)
def test_the_reason_for_no_gpu_is_named(monkeypatch, devices, visible, package, reason):
    def count():
        if devices is None:
            msg = "Driver Not Loaded"
            raise NVMLError(msg)
        return devices

    driver = types.ModuleType("pynvml")
    driver.NVMLError = NVMLError
    driver.nvmlInit = lambda: None
    driver.nvmlDeviceGetCount = count
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    loaded = types.ModuleType("dask_cuda") if package == "whole" else None
    monkeypatch.setitem(sys.modules, "dask_cuda", loaded)
    monkeypatch.setattr(cuda, "find_spec", lambda name: ModuleSpec(name, None))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = cuda.why_no_gpu()
    assert (found is None) if reason is None else (reason in found)


NOWHERE = """
import fcunet_dask as fcu
from fcunet_dask.errors import ComputeError
if __name__ == "__main__":
    try:
        fcu.connect_cluster("local", n_workers=1)
    except ComputeError as error:
        print(error)
"""


def may_mount():
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "-o", "ro", "none", "/mnt"]
    try:
        return subprocess.run(command, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not may_mount(), reason="mounting needs root")
def test_workers_that_cannot_start_say_why(tmp_path):
    (tmp_path / "start.py").write_text(NOWHERE)
    command = f"mount -t tmpfs -o ro none /dev/shm && {sys.executable} start.py"
    found = subprocess.run(
        ["unshare", "--mount", "sh", "-c", command],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "do not start: OSError: [Errno 30] Read-only file system" in found.stdout
    assert "/dev/shm" in found.stdout


def test_what_is_no_cluster_is_refused(tmp_path):
    with pytest.raises(ParameterError, match="'kubernetes', an address"):
        fcu.connect_cluster("perlmutter")
    with pytest.raises(ParameterError, match="no such scheduler file"):
        fcu.connect_cluster(str(tmp_path / "scheduler.json"))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_half_a_scheduler_file_is_named(tmp_path, text):
    (tmp_path / "scheduler.json").write_text(text)
    with pytest.raises(ParameterError, match=r"scheduler\.json: no scheduler file"):
        fcu.connect_cluster(str(tmp_path / "scheduler.json"))


def test_a_scheduler_file_of_tls_needs_certificates(tmp_path):
    (tmp_path / "scheduler.json").write_text('{"address": "tls://10.0.0.1:8786"}')
    with pytest.raises(ParameterError, match="needs certificates"):
        fcu.connect_cluster(str(tmp_path / "scheduler.json"))


def test_a_scheduler_that_has_ended_is_named(tmp_path):
    file = tmp_path / "scheduler.json"
    file.write_text(json.dumps({"address": f"tcp://127.0.0.1:{free_port()}"}))
    with pytest.raises(ParameterError, match=r"scheduler\.json: no scheduler answers"):
        fcu.connect_cluster(str(file), timeout="1s")


@pytest.mark.parametrize(
    ("where", "options", "said"),
    [
        ("local", {"n_workers": 0}, "n_workers must be a positive integer, got 0"),
        ("local", {"n_workers": -1}, "n_workers must be a positive integer, got -1"),
        ("local", {"n_workers": "abc"}, "n_workers must be .* got 'abc'"),
        ("local", {"threads_per_worker": 0}, "threads_per_worker must be .* got 0"),
        ("local", {"n_workers": 1, "foo": 3}, r"foo=3.*unexpected keyword .*'foo'"),
        ("local", {"n_workers": 1, "memory_limit": "lots"}, "memory_limit='lots'"),
        ("kubernetes", {}, "missing .*'certificates'"),
        ("tcp://127.0.0.1:1", {"foo": 1}, "foo=1"),
        ("tcp://127.0.0.1:1", {"timeout": "abc"}, "timeout='abc'"),
    ],
)
def test_options_that_make_no_sense_are_named(where, options, said):
    with pytest.raises(ParameterError, match=said):
        fcu.connect_cluster(where, **options)


def test_options_that_slurm_has_not_are_named(monkeypatch):
    def cluster(**options):
        msg = f"unexpected keyword argument {next(iter(options.keys() & {'foo'}))!r}"
        raise TypeError(msg)

    monkeypatch.setitem(connect.KINDS, "slurm", cluster)
    with pytest.raises(ParameterError, match=r"'slurm' .*foo=1.*unexpected keyword"):
        fcu.connect_cluster("slurm", foo=1)


def test_missing_programs_and_packages_are_named(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(fcu.FcunetError, match="there is no kubectl"):
        fcu.connect_cluster("kubernetes", certificates="tls")
    with pytest.raises(fcu.FcunetError, match="there is no sbatch"):
        fcu.connect_cluster("slurm")
    monkeypatch.setitem(sys.modules, "dask_jobqueue.slurm", None)
    with pytest.raises(fcu.FcunetError, match=r"fcunet-dask\[slurm\]"):
        fcu.connect_cluster("slurm")


def test_slurm_leaves_ctrl_c_as_it_was():
    """With dask-jobqueue alone it ends the process, such as the kernel of a notebook."""
    code = (
        "import signal, fcunet_dask as fcu\n"
        "try:\n    fcu.connect_cluster('slurm')\n"
        "except fcu.FcunetError as error:\n    print(error)\n"
        "import dask_jobqueue\n"
        "print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PATH": "/nowhere"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "there is no sbatch" in said.stdout
    assert said.stdout.splitlines()[-1] == "True"


class Where:
    """Detector that notes on which worker it was called."""

    def __init__(self, folder, detector):
        self.folder = folder
        self.detector = detector
        self.max_peaks = detector.max_peaks

    def __call__(self, patterns):
        from distributed import get_worker  # noqa: PLC0415

        (self.folder / get_worker().name).touch()
        return self.detector(patterns)


def test_blocks_go_to_the_gpu_workers_of_a_mixed_cluster(scan, detector, tmp_path):
    import dask  # noqa: PLC0415
    from distributed import Nanny, SpecCluster  # noqa: PLC0415
    from distributed.scheduler import Scheduler  # noqa: PLC0415

    workers = {
        name: {"cls": Nanny, "options": {"nthreads": 1, "resources": resources}}
        for name, resources in {"gpu": {"GPU": 1}, "cpu": {}}.items()
    }
    scheduler = {"cls": Scheduler, "options": {"dashboard_address": "127.0.0.1:0"}}
    with SpecCluster(workers, scheduler) as cluster, cluster.get_client():
        blocks = scan.chunk({"scan_y": 2, "scan_x": 2})
        with dask.annotate(resources={"GPU": 1}):
            fcu.run(blocks, tmp_path / "out", detector=Where(tmp_path, detector))
    assert {path.name for path in tmp_path.iterdir()} == {"out", "gpu"}
