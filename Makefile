# Everything runs in .venv, which `make setup` makes and every other target makes sure of.
PYTHON ?= python3
BIN := .venv/bin
# On Linux, PyPI's torch brings CUDA (gigabytes). A smaller one: make setup TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
PIP_TORCH = $(BIN)/pip install --quiet torch==2.13.0 $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX))
COVERAGE = --cov --cov-report=term

.PHONY: setup fix check test test-all coverage-pipeline bench smoke

setup: .venv/ready  ## Make .venv with crest, the lab and the developers' tools

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(PIP_TORCH)
	$(BIN)/pip install --quiet --editable '.[train,dev]'
	touch $@

fix: setup  ## Format, and mend what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: setup  ## Formatting, lint, types, direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check  ## The checks and every test that is not marked slow
	$(BIN)/pytest -m 'not slow' $(COVERAGE)

test-all: check  ## The checks and every test
	$(BIN)/pytest $(COVERAGE)

coverage-pipeline: setup  ## Coverage of the lab, from the last test run
	$(BIN)/coverage report --include='*/crest/pipeline/*' --omit=none --fail-under=0

bench: setup  ## Latency, throughput, memory, start-up, beside two rivals
	$(BIN)/pip install --quiet --editable '.[bench]'
	$(BIN)/python bench/run.py

smoke: setup  ## The whole pipeline on a tiny random encoder, in minutes
	$(BIN)/python -m crest.pipeline recipes/smoke.toml
