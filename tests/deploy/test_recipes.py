"""The recipes without the clusters that they are for: lint, options, pins, package."""

import re
import shlex
import subprocess
import sys
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path

import dask
import pytest
import yaml
from dask_jobqueue.slurm import SLURMJob
from distributed.cli import dask_scheduler, dask_worker
from fcunet_dask.cluster.recipes import read_recipe, recipe_path
from fcunet_dask.errors import ParameterError
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
BIN = Path(sys.executable).parent
SCRIPTS = sorted(
    path
    for path in (*DEPLOY.rglob("*"), *(ROOT / "tests/deploy").iterdir())
    if path.is_file() and path.read_bytes().startswith(b"#!/usr/bin/env bash")
)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shell_scripts_are_sound(script):
    subprocess.run(["bash", "-n", str(script)], check=True)
    subprocess.run([str(BIN / "shellcheck"), str(script)], check=True)


def test_the_container_file_is_sound():
    file = str(DEPLOY / "images" / "Containerfile")
    subprocess.run([str(BIN / "hadolint"), file], check=True)


@pytest.fixture(scope="module")
def options():
    """Return the options of ``dask scheduler`` and ``dask worker``."""
    commands = {"scheduler": dask_scheduler.main, "worker": dask_worker.main}
    return {
        name: {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
        for name, command in commands.items()
    }


def used(text):
    """Yield each Dask command of a shell script or a document with its options."""
    joined = text.replace("\\\n", " ")
    for line in joined.splitlines():
        found = re.search(r"(?<!-)(?:dask|WORKER) (scheduler|worker)?(.*)", line)
        if found and "--" in found[2] and not line.startswith("#"):
            yield found[1] or "worker", set(re.findall(r"(?<=\s)--[a-z][a-z-]+", line))


@pytest.mark.parametrize("name", ["deploy/slurm/on_nodes", "docs/scaling.md"])
def test_the_options_in_scripts_exist(options, name):
    text = (ROOT / name).read_text()
    found = [(c, o - {"--ntasks-per-node"}) for c, o in used(text)]
    assert {command for command, _ in found} == {"scheduler", "worker"}
    for command, names in found:
        assert names <= options[command]


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_the_options_in_manifests_exist(options, kind):
    spec = read_recipe(f"kubernetes/cluster-{kind}.yaml")["spec"]
    for part in ("scheduler", "worker"):
        (container,) = spec[part]["spec"]["containers"]
        names = {a.split("=")[0] for a in container["args"] if a.startswith("--")}
        assert names <= options[part]


JOBS = read_recipe("slurm/jobqueue.yaml")["jobqueue"]


@pytest.mark.parametrize("name", sorted(JOBS))
def test_every_section_makes_a_whole_job(options, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = yaml.safe_load(
        Path(find_spec("dask_jobqueue").origin).with_name("jobqueue.yaml").read_text()
    )
    assert set(JOBS[name]) == set(shipped["jobqueue"]["slurm"])
    with dask.config.set(jobqueue=JOBS):
        job = SLURMJob(
            "tls://10.0.0.1:8786", "worker-1", account="m1", config_name=name
        )
    script = job.job_script()
    (tmp_path / "job.sh").write_text(script)
    subprocess.run(["bash", "-n", "job.sh"], check=True)
    command = shlex.split(script.splitlines()[-1])
    assert {w for w in command if w.startswith("--")} <= options["worker"]
    assert command[command.index("--dashboard-address") + 1] == "127.0.0.1:0"
    gpu = name.endswith("gpu")
    assert ("dask_cuda.cli" in command) == gpu
    assert ("#SBATCH --gpus-per-node=4" in script) == gpu
    assert script.count("--cpus-per-task") == script.count("#SBATCH -A m1") == 1


def test_an_unknown_recipe_is_refused_and_a_file_is_taken(tmp_path):
    with pytest.raises(ParameterError, match=r"there are .*slurm/jobqueue\.yaml"):
        recipe_path("slurm/frontier.yaml")
    (tmp_path / "mine.yaml").write_text("a: 1")
    assert read_recipe(tmp_path / "mine.yaml") == {"a": 1}


def pins(kind):
    lock = (DEPLOY / "images" / f"lock-{kind}.txt").read_text()
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", lock, re.MULTILINE))


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_the_locks_hold_what_the_package_asks_for(kind):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    names = {"cpu": ("io", "s3", "survey", "network"), "cuda": ("io", "s3", "gpu")}[
        kind
    ]
    wanted = [*project["dependencies"], *(r for name in names for r in extras[name])]
    locked = pins(kind)
    for requirement in map(Requirement, wanted):
        assert locked[requirement.name] in requirement.specifier, requirement


def test_dask_cuda_has_the_bindings_that_it_imports_but_does_not_require():
    """Without them `import dask_cuda` fails, and `pip check` does not say so."""
    locked = pins("cuda")
    assert locked["cuda-bindings"].split(".")[0] == "12" == locked["cuda-toolkit"][:2]
    assert int(locked["cuda-core"].split(".")[0]) == 1


def test_both_images_can_be_in_one_cluster():
    cpu, cuda = pins("cpu"), pins("cuda")
    different = {name for name in cpu if cpu[name] != cuda.get(name)}
    assert different <= {"tensorflow-cpu"}


@pytest.mark.slow
def test_the_wheel_has_the_recipes(tmp_path):
    """Needs the package registry, for the build's own environment."""
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "."]
    subprocess.run([*wheel, "--wheel-dir", str(tmp_path)], cwd=ROOT, check=True)
    (file,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(tmp_path / "installed")
    code = "from fcunet_dask.cluster.recipes import recipe_path as p; print(p('dask.yaml'))"
    environment = {"PYTHONPATH": str(tmp_path / "installed"), "PATH": "/usr/bin:/bin"}
    found = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    folder = tmp_path / "installed/fcunet_dask/cluster/deploy"
    assert found.stdout.strip() == str(folder / "dask.yaml")
    copied = {p.relative_to(folder) for p in folder.rglob("*") if p.is_file()}
    there = {p.relative_to(DEPLOY) for p in DEPLOY.rglob("*") if p.is_file()}
    assert copied == {p for p in there if "__pycache__" not in p.parts}
