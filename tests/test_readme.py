import os
import re
import tomllib
from pathlib import Path

import fcunet_dask as fcu

README = Path(__file__).parents[1] / "README.md"


def test_the_cell_of_the_readme_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scan = fcu.simulate_scan(scan=(8, 16), blocks=(8, 8), dose=1e5)
    fcu.save_scan(scan[["pattern"]], "scan.zarr")
    cell = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL).group(1)
    names: dict = {}
    exec(compile(cell, str(README), "exec"), names)
    names["client"].cluster.close()
    names["client"].close()
    error = names["strain"].strain_xx.values - scan.true_strain_xx.values
    assert abs(error).max() < 0.003
    assert abs(error).mean() < 0.0007


def test_the_commands_of_the_readme_are_in_the_makefile():
    makefile = (README.parent / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)$", README.read_text(), re.MULTILINE):
        assert f"\n{target}:" in makefile
    assert os.access(README.parent / ".ci" / "run", os.X_OK)


def test_every_extra_that_is_told_of_exists():
    root = README.parent
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    prose = README.read_text().split("`pip install .`")[1].split("\n\n")[0]
    told = set(re.findall(r"`([a-z0-9]+)`", prose))
    for page in [README, *root.glob("docs/*.md"), *root.glob("fcunet_dask/**/*.py")]:
        for names in re.findall(r"fcunet-dask\[([a-z0-9,]+)\]", page.read_text()):
            told |= set(names.split(","))
    assert len(told) > 7
    assert told <= set(project["optional-dependencies"])
