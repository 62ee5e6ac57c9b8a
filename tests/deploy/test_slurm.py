"""The SLURM recipes on a real SLURM: Debian's packages, two nodes, four feigned GPUs each.

Needs root and ``apt-get install slurm-wlm munge iproute2``. The only stand-in is the
worker of the GPU recipe, which is a CPU worker.
"""

import os
import shutil
import stat
import time
from pathlib import Path

import pytest
import xarray as xr
from fcunet_dask.pipeline.results import open_results
from tests.deploy.shared_work import expect_shared_work

SHELL = ("bash", "-euc")
NODES = ("nid001", "nid002")
pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("slurmctld", "slurmd", "munged"))),
    reason="SLURM is not installed: apt-get install slurm-wlm munge",
)


@pytest.fixture
def slurm(hosts):
    """Return hosts with a running SLURM: login, nid001 and nid002."""
    for name in ("login", *NODES):
        hosts.add(name)
    configure(hosts)
    environment = os.environ | {"SLURM_CONF": f"{hosts.folder}/slurm.conf"}
    key, socket = hosts.folder / "munge.key", hosts.folder / "munge.socket"
    munge = ("munged", "--foreground", "--force", f"--key-file={key}")
    files = (f"--{n}-file={hosts.folder}/munge.{n}" for n in ("pid", "log", "seed"))
    hosts.start("login", *munge, f"--socket={socket}", *files)
    wait_until(socket.exists)
    hosts.start("login", "slurmctld", "-D", env=environment)
    for name in NODES:
        hosts.start(name, "slurmd", "-D", "-N", name, env=environment)
    os.environ["SLURM_CONF"] = environment["SLURM_CONF"]
    wait_until(lambda: hosts.run("login", "sinfo", "-h", "-o", "%D %T") == "2 idle\n")
    yield hosts
    hosts.run("login", "scancel", "--user=root")
    del os.environ["SLURM_CONF"]


def configure(hosts):
    template = (Path(__file__).parent / "slurm.conf").read_text()
    names = hosts.addresses | {"folder": hosts.folder}
    (hosts.folder / "slurm.conf").write_text(template.format_map(names))
    (hosts.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    gpus = [f"{hosts.folder}/gpu{i}" for i in range(4)]
    for minor, gpu in enumerate(gpus):
        os.mknod(gpu, stat.S_IFCHR | 0o600, os.makedev(1, 3 + 2 * minor))
    lines = f"NodeName=nid[001-002] Name=gpu Type=a100 File={hosts.folder}/gpu[0-3]\n"
    (hosts.folder / "gres.conf").write_text(lines)
    (hosts.folder / "munge.key").write_bytes(os.urandom(128))
    (hosts.folder / "munge.key").chmod(0o400)
    (hosts.folder / "state").mkdir()


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.5)


def finished(hosts, number):
    """Wait for the end of a job; return what it printed."""
    state = ("squeue", "-h", "-j", number, "-o", "%T")
    wait_until(lambda: not hosts.run("login", *state).strip(), 240)
    (log,) = hosts.folder.glob(f"fcunet-{number}.log")
    shown = hosts.run("login", "scontrol", "show", "job", number)
    assert "JobState=COMPLETED" in shown, f"{shown}\n{log.read_text()}"
    return log.read_text()


def expect_the_same(hosts, measured, by=NODES):
    out = hosts.folder / "strain.zarr"
    xr.testing.assert_equal(open_results(out), measured[1])
    expect_shared_work(hosts.folder, out, by)


def test_the_cpu_job_maps_the_strain(slurm, measured, told):
    small = "sbatch --parsable --cpus-per-task=1 --mem-per-cpu=1500M "
    number = slurm.run(
        "login", *SHELL, told["sbatch-cpu"].replace("sbatch ", small, 1)
    ).strip()
    said = finished(slurm, number)
    for name in NODES:
        assert f"tls://{slurm.addresses[name]}:" in said
    assert said.count("1.46 GiB") == len(NODES), "memory of the workers, not of the job"
    expect_the_same(slurm, measured)
    assert not list(slurm.folder.glob("fcunet-*.*/")), "certificates were left behind"


@pytest.mark.slow
def test_the_gpu_job_maps_the_strain(slurm, measured, told):
    command = told["sbatch-gpu"].replace("sbatch ", "sbatch --parsable ", 1)
    worker = "export WORKER='dask worker --nworkers 1' CONTAINER='env INSIDE=1'\n"
    number = slurm.run("login", *SHELL, worker + command).strip()
    shown = slurm.run("login", "scontrol", "show", "job", number)
    assert "Features=gpu" in shown
    assert "Account=m1234_g" in shown
    assert "TresPerNode=gres:gpu:4" in shown
    said = finished(slurm, number)
    for name in NODES:
        assert f"tls://{slurm.addresses[name]}:" in said
    expect_the_same(slurm, measured)


def test_dask_jobqueue_maps_the_strain(slurm, measured, told):
    session = told["jobqueue-cpu"].replace("jobs=2", "jobs=2, cores=1, processes=1")
    python(slurm, session.replace('recipe="slurm-cpu"', "memory='2GiB'"))
    expect_the_same(slurm, measured, by=())  # one node has room for both jobs
    assert not list(slurm.folder.glob("fcunet-tls-*")), "certificates were left behind"


@pytest.mark.slow
def test_dask_jobqueue_asks_for_the_nodes_of_perlmutter(slurm, measured, told):
    cpu = 'worker_command="distributed.cli.dask_worker"'
    python(slurm, told["jobqueue-gpu"].replace("jobs=2", f"jobs=2, {cpu}"))
    expect_the_same(slurm, measured)
    jobs = slurm.run("login", "scontrol", "show", "jobs")
    assert jobs.count("TresPerNode=gres:gpu:4") == jobs.count("Features=gpu") == 2


def python(hosts, session):
    """Run a session that waits for its two workers, as a script on the login node."""
    waited = session.replace(
        "strain =", "client.wait_for_workers(2, timeout=120)\nstrain ="
    )
    (hosts.folder / "session.py").write_text(waited)
    return hosts.run("login", "python", "session.py")
