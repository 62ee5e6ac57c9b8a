"""Limits that keep the package readable; raise one only with an ADR."""

import ast
import subprocess
import sys
from pathlib import Path

import fcunet_dask
import pytest

MODULES = sorted(Path(fcunet_dask.__file__).parent.rglob("*.py"))


@pytest.mark.parametrize(
    "path", MODULES, ids=lambda p: "/".join(p.with_suffix("").parts[-2:])
)
def test_module_fits_on_a_few_screens(path):
    source = path.read_text()
    assert len(source.splitlines()) <= 400
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            docstring = ast.get_docstring(node) or ""
            body = node.end_lineno - node.body[0].lineno - docstring.count("\n")
            assert body <= 40, f"{path.name}:{node.lineno} {node.name} has {body} lines"


def test_public_names_are_few_and_documented():
    assert 0 < len(fcunet_dask.__all__) <= 24
    for name in fcunet_dask.__all__:
        assert getattr(fcunet_dask, name).__doc__, name


def test_import_is_light():
    heavy = ("keras", "tensorflow", "torch", "jax", "matplotlib", "distributed", "cupy")
    code = f"import fcunet_dask, sys; print([m for m in {heavy!r} if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
