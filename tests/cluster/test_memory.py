"""The memory of a process is that of its control groups, the inner ones too."""

import subprocess
import sys
from pathlib import Path

import fcunet_dask as fcu
import pytest
from distributed import system
from fcunet_dask.cluster.memory import own_memory

GROUPS = Path("/sys/fs/cgroup/memory")


def host(tmp_path, groups, files):
    """Return a root whose process is in `groups`, with limits in `files`."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_a_slurm_job_below_the_root_of_version_2(tmp_path):
    job = "system.slice/slurmstepd.scope/job_7"
    root = host(
        tmp_path,
        f"0::/{job}/step_0/user\n",
        {
            f"{job}/memory.max": "3000000\n",
            f"{job}/step_0/memory.max": "2000000\n",
            f"{job}/step_0/user/memory.max": "max\n",
            "other/memory.max": "5\n",
        },
    )
    assert own_memory(root) == 2000000


def test_a_slurm_job_of_version_1(tmp_path):
    root = host(
        tmp_path,
        "5:cpu,cpuacct:/a\n4:memory:/slurm/uid_0/job_7\n1:name=systemd:/\n",
        {
            "memory/slurm/uid_0/job_7/memory.limit_in_bytes": "9223372036854771712\n",
            "memory/slurm/memory.limit_in_bytes": "4000000\n",
            "cpu/a/memory.limit_in_bytes": "5\n",
        },
    )
    assert own_memory(root) == 4000000


def test_a_container_that_sees_its_own_group_as_the_root(tmp_path):
    groups = "4:memory:/docker/0123\n"
    root = host(tmp_path, groups, {"memory/memory.limit_in_bytes": "6000000\n"})
    assert own_memory(root) == 6000000


@pytest.mark.parametrize("groups", ["0::/\n", "0::/../outside\n", ""])
def test_without_limits_it_is_that_of_the_machine(tmp_path, groups):
    assert own_memory(host(tmp_path, groups, {})) == system.MEMORY_LIMIT
    assert own_memory(tmp_path / "nothing") == system.MEMORY_LIMIT


def test_a_real_group():
    """As SLURM does it: a group below the root, and a process in it."""
    group = GROUPS / "fcunet-test"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control groups of version 1 to make one in: {error}")
    try:
        (group / "memory.limit_in_bytes").write_text(str(2**30))
        code = (
            f"open({str(group / 'cgroup.procs')!r}, 'w').write('0')\n"
            "from fcunet_dask.cluster.memory import own_memory\nprint(own_memory())"
        )
        command = [sys.executable, "-c", code]
        said = subprocess.run(command, capture_output=True, text=True, check=True)
    finally:
        group.rmdir()
    assert int(said.stdout) == 2**30


def test_local_workers_share_it(monkeypatch):
    monkeypatch.setattr("fcunet_dask.cluster.local.own_memory", lambda: 3 * 2**30)
    with fcu.connect_cluster("local", n_workers=2) as client, client.cluster:
        info = client.scheduler_info()["workers"].values()
        assert [w["memory_limit"] for w in info] == [3 * 2**29] * 2
