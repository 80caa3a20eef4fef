# Set-up is part of each target: a fresh clone needs Python 3.11+ and make, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
OUT ?= out/demo

.PHONY: demo test test-slow lint format clean

$(VENV)/demo.ok: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) --editable '.[train]'
	touch $@

$(VENV)/dev.ok: $(VENV)/demo.ok
	$(PIP) --editable '.[test,lint]'
	touch $@

demo: $(VENV)/demo.ok  ## from the standard library's text to an F1 score and a generated sample
	PATH="$(CURDIR)/$(BIN):$$PATH" OUT="$(OUT)" sh examples/quickstart.sh

test: $(VENV)/dev.ok
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not gpu" -n 2 --dist worksteal

test-slow: $(VENV)/dev.ok
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "slow and not gpu" -n 2 --dist worksteal --ignore tests/examples
	$(BIN)/python -m pytest -m "slow and not gpu" tests/examples

lint: $(VENV)/dev.ok
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/deptry .
	if command -v actionlint >/dev/null; then actionlint .github/workflows/*.yml examples/ci/*.yml; fi

format: $(VENV)/dev.ok
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf out build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage*
