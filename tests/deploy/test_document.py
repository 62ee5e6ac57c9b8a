"""docs/scaling.md: every command is run by a test, or says why it cannot be."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import xarray as xr
from fcunet_dask.pipeline.results import open_results
from tests.deploy.shared_work import NOTING, expect_shared_work, made_by

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "scaling.md").read_text()
TESTS = {
    "test_document.py": {
        *("scan", "local", "watch", "certificates", "scheduler", "worker", "strain"),
        *("load", "mixed"),
    },
    "test_hosts.py": {"certificates", "scheduler", "worker", "strain"},
    "test_slurm.py": {"sbatch-cpu", "sbatch-gpu", "jobqueue-cpu", "jobqueue-gpu"},
    "test_pods.py": {"kubernetes-certificates"},
}
"""Which test runs which command."""


def test_every_command_is_run_or_says_why_not(told):
    assert set(told) == set().union(*TESTS.values())
    for name, commands in TESTS.items():
        text = Path(__file__).with_name(name).read_text()
        assert commands == set(re.findall(r'\btold\["([\w-]+)"\]', text)), name
    blocks = re.findall(r"([^\n]*)\n\n```(?:bash|python)\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) == TEXT.count("```bash") + TEXT.count("```python")
    for before, block in blocks:
        assert before.startswith(("<!-- run: ", "<!-- not run")), block


def test_python_that_it_tells_is_whole(tmp_path):
    """No block needs names of another one."""
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    for number, block in enumerate(blocks):
        (tmp_path / f"block_{number}.py").write_text(block)
    ruff = Path(sys.executable).with_name("ruff")
    command = [str(ruff), "check", "--isolated", "--select", "F821", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_files_that_it_names_exist():
    for name in re.findall(r"deploy/[\w./-]+\w", TEXT):
        assert (ROOT / name).exists(), name


@pytest.fixture
def shell(tmp_path, monkeypatch):
    """Return a function that starts commands as a user does; they end with the test."""
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    for name, value in NOTING.items():
        monkeypatch.setenv(name, value)
    running = []

    def start(commands):
        log = tmp_path / f"{len(running)}.log"
        with log.open("w") as file:
            words = ["bash", "-euc", commands]
            process = subprocess.Popen(words, stdout=file, stderr=file)
        running.append(process)
        return process, log

    yield start
    for process in reversed(running):
        process.terminate()
        process.wait(30)


def finish(started, seconds=240):
    """Wait for the end of a command; return what it has said."""
    process, log = started
    assert process.wait(seconds) == 0, log.read_text()
    return log.read_text()


def start_cluster(told, shell, *more):
    """Start a scheduler and two workers here, with `more` words for either of them."""
    finish(shell(told["certificates"]))
    shell(told["scheduler"].replace("hsn0", "lo"))
    while not Path("scheduler.json").exists():
        time.sleep(0.1)
    worker = told["worker"].replace("hsn0", "lo").rstrip()
    for words in more or ("", ""):
        shell(f"{worker} {words}")


def test_the_commands_for_one_machine_and_for_several_give_the_same(told, shell):
    out = Path("strain.zarr")
    finish(shell(told["scan"]))
    Path("local.py").write_text(told["local"])
    finish(shell("python local.py"))
    expected = open_results(out).load()
    expect_shared_work(Path(), out)
    seen = "\nimport matplotlib.pyplot as plt\nplt.savefig('seen.png')\n"
    Path("watch.py").write_text(told["watch"] + seen)
    finish(shell("MPLBACKEND=agg python watch.py"))
    assert Path("seen.png").exists()
    out.rename("local.zarr")
    shutil.rmtree("tmp")
    Path("tmp").mkdir()
    start_cluster(told, shell)
    assert "scheduler tls://127.0.0.1:" in finish(shell(told["strain"]))
    xr.testing.assert_equal(open_results(out), expected)
    expect_shared_work(Path(), out)


@pytest.mark.slow
def test_a_network_is_loaded_before_the_first_block(told, shell):
    """On CPUs, where there is no GPU."""
    finish(shell(told["scan"]))
    Path("load.py").write_text(told["load"])
    finish(shell("python load.py"), 1200)
    assert open_results(Path("network.zarr")).strain_xx.notnull().mean() > 0.9
    expect_shared_work(Path(), Path("network.zarr"))


@pytest.mark.slow
def test_what_asks_for_a_gpu_goes_to_the_workers_that_have_one(told, shell):
    """To one of two, which is called so."""
    finish(shell(told["scan"]))
    start_cluster(told, shell, "--resources GPU=1", "")
    Path("mixed.py").write_text(told["mixed"])
    finish(shell("python mixed.py"), 1200)
    assert open_results(Path("mixed.zarr")).strain_xx.notnull().mean() > 0.9
    assert len(made_by(Path(), Path("mixed.zarr"))) == 1
