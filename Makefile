# Everything made here stays in this folder: the environment in .venv, every cache in .cache, the demo in runs/demo.

.DEFAULT_GOAL := help
.PHONY: help demo test drills lint docs readme install constraints clean
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

CACHE := $(CURDIR)/.cache
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-cache-dir --quiet
RUNTIME := .venv/.installed
DEV := .venv/.installed-dev

# Looked for only where a rule makes an environment.
FIND_PYTHON = $(or $(shell for python in python3.11 python3; do $$python -c \
  'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done),$(error \
  megavit needs Python 3.11 or later, and neither python3.11 nor python3 here is one))

export XDG_CACHE_HOME := $(CACHE)
export MPLCONFIGDIR := $(CACHE)/matplotlib
export TORCHINDUCTOR_CACHE_DIR := $(CACHE)/inductor
export TRITON_CACHE_DIR := $(CACHE)/triton
export HYPOTHESIS_STORAGE_DIRECTORY := $(CACHE)/hypothesis
export PYTEST_DEBUG_TEMPROOT := $(CACHE)
export npm_config_cache := $(CACHE)/npm
# Compiled modules are kept, as hundreds of the tests' processes import them.
unexport PYTHONDONTWRITEBYTECODE

help:  ## show this list
	@sed -nE 's/^([a-z]+):.*## (.*)/  make \1 \t\2/p' $(MAKEFILE_LIST) | expand -t 22

demo: $(RUNTIME)  ## train, evaluate and use a small model on real images, in about a minute
	$(BIN)/megavit demo --out runs/demo

test: $(DEV)  ## run the tests, in minutes
	mkdir -p $(CACHE)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist worksteal  # more than the cores, as many tests wait for other processes

drills: $(DEV)  ## run what takes long: real faults, long sweeps, the tests of the benchmarks
	mkdir -p $(CACHE)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --hypothesis-profile drills -m 'drill or benchmarks or hypothesis'

lint: $(DEV)  ## check style, types and which part may import which
	$(BIN)/ruff check --no-cache
	$(BIN)/ruff format --no-cache --check
	$(BIN)/pyrefly check
	$(BIN)/lint-imports --no-cache --no-logo

docs: $(DEV)  ## build the documentation site into site/, and run the commands of its pages
	mkdir -p $(CACHE)
	$(BIN)/python tools/make_cli_reference.py
	$(BIN)/zensical build --strict --clean
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist worksteal -m docs

readme: $(RUNTIME)  ## put a run of the demo into README.md
	$(BIN)/python tools/make_readme.py

install: $(DEV)  ## install the package with what its tests need, into .venv

constraints:  ## renew constraints.txt with the newest versions that pyproject.toml allows
	$(FIND_PYTHON) -m venv --clear $(CACHE)/newest
	$(CACHE)/newest/bin/python -m pip --no-cache-dir --quiet install '.[dev]'
	{ grep '^#' constraints.txt; $(CACHE)/newest/bin/python -m pip freeze --all --exclude megavit \
	  | grep -vE '^(pip=|nvidia-|cuda-|triton=)'; } > $(CACHE)/constraints.txt
	mv $(CACHE)/constraints.txt constraints.txt
	rm -rf $(CACHE)/newest

clean:  ## remove what was made here, but no run of your own
	rm -rf .venv .cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist site docs/reference/cli.md runs/demo
	find src tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/pip:
	$(FIND_PYTHON) -m venv --clear .venv

$(RUNTIME): pyproject.toml constraints.txt | $(BIN)/pip
	$(PIP) install --constraint constraints.txt --editable .
	touch $@

$(DEV): pyproject.toml constraints.txt | $(BIN)/pip
	$(PIP) install --constraint constraints.txt --editable '.[dev]'
	touch $(RUNTIME) $@
