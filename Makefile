# Everything runs from a fresh clone: each target makes its own .venv first.
#   make demo    the main job on generated data        make test    format, lint, types, imports, tests
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
NO_TORCH := .venv-no-torch
GOLDEN ?= ../shared/golden
PYTEST_WORKERS ?= 2
CHAOS_SECONDS ?= 60
CHAOS_SEED ?=

# One thread per process: results to the last digit, and no fight between processes for the same cores.
export OMP_NUM_THREADS := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help install demo test lint format types imports pytest kill-test chaos golden test-no-torch bench queue-test up down compose-test clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

install: $(STAMP)  ## make .venv with the exact versions of constraints.txt; quick when there is nothing to do

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { \
	  echo "nasdet needs Python 3.11 to 3.13, but there is no '$(PYTHON)' on the PATH; install one or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "nasdet needs Python 3.11 to 3.13, but '$(PYTHON)' is $$($(PYTHON) -V 2>&1); name another one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[embedded,dev]"
	@touch $@

demo: install  ## run the whole job on generated data, then serve the result until Ctrl-C
	$(BIN)/nasdet demo

# The type check is one long single process: it runs beside the tests. -k shows both results when one fails.
test: install  ## everything that must hold before a change lands
	@$(MAKE) --no-print-directory lint imports
	@$(MAKE) --no-print-directory -k -j2 pytest types

lint: install  ## formatting and lint rules, nothing is changed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: install  ## rewrite the files in the project's format, fix what can be fixed safely
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: install  ## mypy --strict
	$(BIN)/mypy

imports: install  ## who may import whom (pyproject.toml, [tool.importlinter])
	$(BIN)/lint-imports

pytest: install  ## the tests that need no GPU and end within minutes
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist worksteal --golden=$(GOLDEN) \
	  --durations=20 --durations-min=5

kill-test: install  ## the long kill test: kill -9 at seeded points, same result
	$(BIN)/python -m pytest tests/e2e -m slow --timeout 3600

# One store after the other; the last line of each says what came out.
chaos: install  ## whole searches under seeded faults on both stores (CHAOS_SEED=n, CHAOS_SECONDS=60 of faults each)
	$(BIN)/python -m tests.chaos.run --store sqlite --seconds $(CHAOS_SECONDS) $(if $(CHAOS_SEED),--seed $(CHAOS_SEED))
	$(BIN)/python -m tests.chaos.run --store postgres --seconds $(CHAOS_SECONDS) $(if $(CHAOS_SEED),--seed $(CHAOS_SEED))

golden: install  ## compare with recorded outputs of the reference code (GOLDEN=DIR)
	$(BIN)/python -m pytest tests/golden --golden=$(GOLDEN)

test-no-torch: install  ## API and searcher suites in an environment that has no torch
	test -x $(NO_TORCH)/bin/python || $(PYTHON) -m venv $(NO_TORCH)
	$(NO_TORCH)/bin/python -m pip install --quiet -c constraints.txt -e ".[api,searcher,client,dev]"
	! $(NO_TORCH)/bin/python -c 'import torch' 2>/dev/null
	suites=$$($(BIN)/python -m tests.support.torch_free); \
	$(NO_TORCH)/bin/python -m pytest -n $(PYTEST_WORKERS) --dist worksteal $$suites

bench: install  ## measure, beside what the obvious way costs (prints, never fails by time)
	$(BIN)/python benchmarks/check_coco_size.py
	$(BIN)/python -m benchmarks.load_api
	$(BIN)/python -m benchmarks.load_workers

queue-test: install  ## the doorbell on Redis and, where it is installed or NASDET_TEST_AMQP_URL names one, on RabbitMQ
	$(BIN)/python -m pytest tests/integration/queue -m "slow or not slow" --timeout 600

up:  ## server mode by docker compose, on the GPUs where there are some; then see docs/operations.md
	@deploy/compose.sh up

down:  ## stop server mode; volumes, data and secrets stay
	@deploy/compose.sh down

compose-test: install  ## a whole search in containers, alone and with every service killed: the same result (25 min)
	$(BIN)/python -m tests.compose

clean:  ## remove the environments and caches this Makefile made
	rm -rf $(VENV) $(NO_TORCH) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
