# radlake: every verb that a newcomer or CI needs. `make` alone lists them.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PEERS := .cache/bench-peers
ARGS ?=
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export UV_PYTHON_DOWNLOADS := never

.DEFAULT_GOAL := help
.PHONY: help install services demo test check fix bench bench-ingest bench-analytics bench-web airflow lock clean

help:  ## List the verbs
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "radlake needs Python >= 3.11; set PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes --compile-bytecode requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --compile-bytecode --editable .
	@touch $@

install: $(STAMP)  ## Create .venv from requirements.lock (hashes checked) and install radlake into it

services:  ## Install what the integration tests need with apt, when allowed to
	@tests/support/install_services.sh

demo: $(STAMP)  ## Three hospitals, harvested to a number on a screen; ARGS="--no-serve --json FILE"
	@$(BIN)/radlake demo $(ARGS)

test: $(STAMP) services  ## Every test, against real services
	@$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(STAMP)  ## Lint, types, import directions, SQL; changes nothing
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/basedpyright
	@$(BIN)/lint-imports
	@$(BIN)/sqlfluff lint --nocolor -q sql
	@$(BIN)/radlake check

fix: $(STAMP)  ## Format and repair what can be repaired
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(BIN)/sqlfluff fix --nocolor -q sql

bench: $(STAMP)  ## Benchmarks: each prints ratios against a named peer in the same run
	@$(BIN)/python -m bench $(ARGS)

$(PEERS)/.installed: bench/peers.lock | $(STAMP)
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(PEERS)
	@$(BIN)/uv pip sync --quiet --python $(PEERS)/bin/python --require-hashes $<
	@touch $@

bench-ingest: $(STAMP) $(PEERS)/.installed  ## De-identification beside cp and every peer; ARGS="--scale 0.1"
	@$(BIN)/python -m bench ingest $(ARGS)

bench-analytics: $(STAMP)  ## Repeats of 10 million exams beside a scan, pandas and Dask; ARGS="--exams 100_000_000"
	@$(BIN)/python -m bench analytics $(ARGS)

bench-web: $(STAMP) $(PEERS)/.installed  ## Dashboard beside Streamlit, and the reminder; ARGS="--exams 100_000_000"
	@$(BIN)/python -m bench web $(ARGS)

airflow: $(STAMP)  ## Start Airflow locally with the DAGs of dags/
	@$(BIN)/radlake airflow $(ARGS)

lock: $(STAMP)  ## Resolve requirements.lock anew
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --all-extras pyproject.toml --output-file requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --extra server --extra linkage --extra telemetry --constraints requirements.lock pyproject.toml --output-file docker/radlake.lock
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --extra airflow --extra linkage --extra telemetry --constraints requirements.lock pyproject.toml --output-file docker/airflow.lock
	@$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header bench/peers.in --output-file bench/peers.lock

clean:  ## Remove the environment, caches and the demo's lake
	@rm -rf $(VENV) .cache demo-lake airflow-home .pytest_cache .ruff_cache .hypothesis .import_linter_cache
