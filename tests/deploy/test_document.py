"""docs/scaling.md: every command is run by a test, or says why it cannot be."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import xarray as xr
from fcunet_dask.pipeline.results import open_results

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "scaling.md").read_text()
ELSEWHERE = {"sbatch-cpu", "sbatch-gpu", "jobqueue-cpu", "jobqueue-gpu"}
HERE = {"scan", "local", "watch", "certificates", "scheduler", "worker", "strain"}


def test_every_command_is_run_or_says_why_not(told):
    assert set(told) == HERE | ELSEWHERE | {"kubernetes-certificates"}
    blocks = re.findall(r"([^\n]*)\n\n```(?:bash|python)\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) == TEXT.count("```bash") + TEXT.count("```python")
    for before, block in blocks:
        assert before.startswith(("<!-- run: ", "<!-- not run")), block


def test_files_that_it_names_exist():
    for name in re.findall(r"deploy/[\w./-]+\w", TEXT):
        assert (ROOT / name).exists(), name


@pytest.fixture
def shell(tmp_path, monkeypatch):
    """Return a function that starts commands as a user does; they end with the test."""
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    running = []

    def start(commands):
        log = (tmp_path / f"{len(running)}.log").open("w")
        process = subprocess.Popen(["bash", "-euc", commands], stdout=log, stderr=log)
        running.append((process, log))
        return process

    yield start
    for process, log in reversed(running):
        process.terminate()
        process.wait(30)
        log.close()


def finish(process, number, seconds=240):
    assert process.wait(seconds) == 0, Path(f"{number}.log").read_text()


def test_the_commands_for_one_machine_and_for_several_give_the_same(told, shell):
    finish(shell(told["scan"]), 0)
    Path("local.py").write_text(told["local"])
    finish(shell("python local.py"), 1)
    expected = open_results(Path("strain.zarr")).load()
    seen = "\nimport matplotlib.pyplot as plt\nplt.savefig('seen.png')\n"
    Path("watch.py").write_text(told["watch"] + seen)
    finish(shell("MPLBACKEND=agg python watch.py"), 2)
    assert Path("seen.png").exists()
    Path("strain.zarr").rename("local.zarr")
    finish(shell(told["certificates"]), 3)
    shell(told["scheduler"].replace("hsn0", "lo"))
    while not Path("scheduler.json").exists():
        time.sleep(0.1)
    for _ in range(2):
        shell(told["worker"].replace("hsn0", "lo"))
    finish(shell(told["strain"]), 7)
    assert "scheduler tls://127.0.0.1:" in Path("7.log").read_text()
    xr.testing.assert_equal(open_results(Path("strain.zarr")), expected)
