# Everything a checkout can do. Needs make, bash and any Python from 3.11 on; the rest is installed into .venv.
#
#   PYTHON=/path/to/python make venv    builds .venv from that Python
#   PYTEST_ADDOPTS="-x -k retries"      reaches every pytest below

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
# The tests and the benchmarks start programs by the thousand. Without this each would compile the project anew, 0.35 s of it.
unexport PYTHONDONTWRITEBYTECODE
# Two pips at once would spoil the virtual environment.
.NOTPARALLEL:

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PYTEST := $(BIN)/python -m pytest
WORKERS ?= auto
DIST := .build/dist

.PHONY: help
help:  ## list the targets
	@grep -hE '^[a-z-]+:.*  ## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*  ## (.*)/  make \1\t\2/' | expand -t 22

.venv/.made:
	$${PYTHON:-$$(.ci/find-python)} -m venv .venv
	touch $@

.venv/.demo: .venv/.made pyproject.toml
	$(PIP) install --editable '.[demo]'
	touch $@

.venv/.dev: .venv/.made pyproject.toml
	$(PIP) install --editable '.[dev]'
	touch $@

.PHONY: venv
venv: .venv/.dev  ## make .venv with the project and its tools in it

.PHONY: demo
demo: .venv/.demo  ## run the example on the 336,776 flights of New York in 2013
	$(BIN)/python examples/flights.py

.PHONY: test
test: venv  ## run all tests but the fault campaigns
	$(PYTEST) --numprocesses $(WORKERS) --dist loadscope --no-loadscope-reorder --ignore tests/clusters
	# By themselves: Dask changes how every exception is pickled, and Ray what SIGTERM does, in the process that imports them.
	$(PYTEST) --numprocesses $(WORKERS) --dist loadscope --no-loadscope-reorder tests/clusters

.PHONY: test-fast
test-fast: venv  ## run the unit and lifecycle tests
	$(PYTEST) --numprocesses $(WORKERS) --dist loadscope --no-loadscope-reorder tests/unit tests/lifecycle

.PHONY: faults
faults: venv  ## run the fault campaigns in full
	$(PYTEST) -m faults --timeout 3600 --ignore tests/clusters tests
	$(PYTEST) -m faults --timeout 3600 tests/clusters

.PHONY: bench
bench: venv  ## measure against the bare engines
	$(BIN)/python -m benchmarks

.PHONY: format
format: venv  ## format the code
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

.PHONY: lint
lint: venv  ## check style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: types
types: venv  ## check types with mypy and pyright
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

.PHONY: contracts
contracts: venv  ## check who imports whom
	$(BIN)/lint-imports --cache-dir .build/import-linter

.PHONY: package
package: venv  ## build the wheel and the sdist into .build/dist and check what is in them
	rm -rf $(DIST)
	$(BIN)/python -m build --no-isolation --outdir $(DIST) .
	$(BIN)/check-wheel-contents $(DIST)

.PHONY: matrix
matrix: package  ## test the wheel on every Python here, with the newest and the oldest dependencies
	.ci/matrix

.PHONY: clean
clean:  ## remove all that these commands made
	rm -rf .venv .build .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
