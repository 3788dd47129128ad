# The verbs of the project. Each creates .venv and installs into it when that was not done yet or pyproject.toml
# changed, and reuses it otherwise. Another interpreter: make PYTHON=python3.12 demo. More arguments: make test ARGS="-k mini".

PYTHON ?= python3
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.evlvideo-installed

# The models of the demo and of the tests are tiny: more than four threads or processes cost more than they give.
CORES := $(shell n=$$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN); echo $$((n < 4 ? n : 4)))
export OMP_NUM_THREADS ?= $(CORES)
# What `evlvideo` sets for itself, for tests and scripts too: threads that wait leave their core to others.
export OMP_WAIT_POLICY ?= passive

.DEFAULT_GOAL := help
.PHONY: help demo test lint format bench mini-checkpoint clean

help: ## Say what the verbs do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(INSTALLED) ## Train, compare and report on the embedded miniature (about 6 minutes on 2 cores)
	$(BIN)/evlvideo demo $(ARGS)

test: $(INSTALLED) ## Run the tests that are not slow, a process for each core
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(CORES) --dist loadfile $(ARGS)

lint: $(INSTALLED) ## Check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED) ## Apply the formatter and the fixes that are safe
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(INSTALLED) ## Run the slow tests, then every benchmark that needs no GPU
	$(BIN)/python -m pytest -m slow $(ARGS) || test $$? -eq 5  # 5: there is no slow test
	set -e; for script in $(filter-out %/gpu.py,$(wildcard scripts/benchmarks/*.py)); do $(BIN)/python $$script; done

mini-checkpoint: $(INSTALLED) ## Train the checkpoint inside the package again
	$(BIN)/python scripts/build_mini_checkpoint.py $(ARGS)

clean: ## Remove caches and build output; .venv, runs and reports stay
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find evlvideo tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +

MODERN := import sys; sys.exit(sys.version_info < (3, 11))
NAMED := import platform; print("Python " + platform.python_version())

$(INSTALLED): pyproject.toml
	@$(BIN)/python -c 'import pip; $(MODERN)' 2>/dev/null || $(PYTHON) -c '$(MODERN)' 2>/dev/null || { \
	  echo "evlvideo needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) -c '$(NAMED)' 2>/dev/null || echo not there)." \
	       "Name another one: make PYTHON=/path/to/python3.11 …" >&2; exit 1; }
	@$(BIN)/python -c 'import pip; $(MODERN)' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@echo "Installing evlvideo and what it needs into $(VENV); the first time takes some minutes."
	@$(BIN)/python -m pip install --quiet --editable '.[java,dev]'
	@touch $@
