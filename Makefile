# The project's commands. Each one creates .venv and installs into it if that is missing or pyproject.toml has changed.
# Select another interpreter with make PYTHON=python3.12 demo, and pass arguments with make test ARGS="-k mini".

PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.evlvideo-installed

# The models of the demo and the tests are tiny: more than four threads or processes do not pay off.
CORES := $(shell n=$$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN); echo $$((n < 4 ? n : 4)))
export OMP_NUM_THREADS ?= $(CORES)
# As `evlvideo` sets for itself, also for tests and scripts: waiting threads leave their core to others.
export OMP_WAIT_POLICY ?= passive

.DEFAULT_GOAL := help
.PHONY: help demo test lint format docs bench mini-checkpoint clean

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## Train, compare and report on the mini dataset (about 6 minutes on 2 cores)
	$(BIN)/evlvideo demo $(ARGS)

test: $(INSTALLED) ## Run all tests but the slow ones, one process per core
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(CORES) --dist loadfile $(ARGS)

lint: $(INSTALLED) ## Check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED) ## Apply the formatter and safe fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(INSTALLED) ## Build the documentation as a site in build/site; a broken link fails it
	$(BIN)/python -c 'import mkdocstrings, zensical' 2>/dev/null || $(BIN)/python -m pip install --quiet --editable '.[docs]'
	$(BIN)/python scripts/build_docs.py

bench: $(INSTALLED) ## Run the slow tests, then all benchmarks that need no GPU
	$(BIN)/python -m pytest -m slow $(ARGS) || test $$? -eq 5  # 5: no test is slow
	set -e; for script in $(filter-out %/gpu.py,$(wildcard scripts/benchmarks/*.py)); do $(BIN)/python $$script; done

mini-checkpoint: $(INSTALLED) ## Retrain the packaged mini checkpoint
	$(BIN)/python scripts/build_mini_checkpoint.py $(ARGS)

clean: ## Remove caches and build output, but not .venv, runs and reports
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find evlvideo tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +

MODERN := import sys; sys.exit(sys.version_info < (3, 11))
NAMED := import platform; print("Python " + platform.python_version())

$(INSTALLED): pyproject.toml
	@$(BIN)/python -c 'import pip; $(MODERN)' 2>/dev/null || $(PYTHON) -c '$(MODERN)' 2>/dev/null || { \
	  echo "evlvideo needs Python 3.11 or newer, but $(PYTHON) is $$($(PYTHON) -c '$(NAMED)' 2>/dev/null || echo missing)." \
	       "Select another one: make PYTHON=/path/to/python3.11 …" >&2; exit 1; }
	@$(BIN)/python -c 'import pip; $(MODERN)' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@echo "Installing evlvideo and its dependencies into $(VENV); this takes a few minutes the first time."
	@$(BIN)/python -m pip install --quiet --editable '.[java,dev]'
	@touch $@
