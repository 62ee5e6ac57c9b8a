# Everything a fresh machine needs is Python 3.11 to 3.13 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check format-check lint types architecture pytest fix clean

# the main job on the data that ship with the package; leaves demo/strain.png
demo: $(VENV)/.installed
	$(BIN)/fcunet-dask demo demo

# everything CI runs, in the order that fails fastest
test: $(VENV)/.dev check

check: format-check lint types architecture pytest

format-check:
	$(BIN)/ruff format --check .
lint:
	$(BIN)/ruff check .
types:
	$(BIN)/mypy
architecture:
	$(BIN)/lint-imports
# a file stays in one process, and the longest come first
pytest:
	$(BIN)/pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder \
		-m "not slow and not gpu" --nbmake --nbmake-timeout=300 notebooks tests fcunet_dask

fix:
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.installed: pyproject.toml $(VENV)/bin/python
	$(BIN)/pip install --quiet -e .
	touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/bin/python
	$(BIN)/pip install --quiet -e ".[dev]"
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) demo build dist
