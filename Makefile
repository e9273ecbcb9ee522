PYTHON := .venv/bin/python
PROCESSES ?= auto

.PHONY: setup demo bench distro parts test torture lint format

setup:
	@.ci/setup

demo: setup
	@$(PYTHON) tests/real/demo.py

# What binding gives at start and what the hook costs, each figure beside its target, and programs frozen in each way: half an hour on a quiet machine.
bench: setup
	@$(PYTHON) tests/bench/startup.py
	@$(PYTHON) tests/bench/cost.py
	@$(PYTHON) tests/bench/freeze.py

# Fifty packages from their own sources, built in four ways with their test suites; then both modes on the plain ones.
distro: setup
	@$(PYTHON) tests/real/distro.py
	@$(PYTHON) tests/real/modes.py

# What it costs to start from parts, and what a store would gain by them: nix/distro is built four times, untested.
parts: setup
	@$(PYTHON) tests/bench/parts.py
	@$(PYTHON) tests/bench/store.py

test: setup lint
	$(PYTHON) -m pytest -n $(PROCESSES) --dist loadfile

# The long runs of tests/faults and tests/parts: 500 kills, a million mutated files read and taken apart, 100,000 files in a tree. The counts come last.
torture: setup
	-$(PYTHON) -m pip install --quiet --disable-pip-version-check atheris
	NIX_HARDEN_TORTURE=1 $(PYTHON) -m pytest -n $(PROCESSES) tests/faults tests/parts

lint: setup
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/nix-harden hook --program /run/program | shellcheck --shell=bash -
	shellcheck .ci/setup .ci/run
	if command -v node >/dev/null; then for each in nix_harden/reporting/pages/*.js; do node --check "$$each" || exit 1; done; fi

format: setup
	.venv/bin/ruff check --fix
	.venv/bin/ruff format
