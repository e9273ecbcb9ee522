PYTHON := .venv/bin/python
PROCESSES ?= auto

.PHONY: setup demo test lint format

setup:
	@.ci/setup

demo: setup
	@$(PYTHON) tests/real/demo.py

test: setup lint
	$(PYTHON) -m pytest -n $(PROCESSES) --dist loadfile

lint: setup
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/nix-harden hook --program /run/program | shellcheck --shell=bash -
	shellcheck .ci/setup .ci/run

format: setup
	.venv/bin/ruff check --fix
	.venv/bin/ruff format
