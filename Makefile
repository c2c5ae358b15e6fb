# Every target sets up what it needs by itself: `make demo` works on a fresh clone.
# Another Python than the first one found: make PYTHON=/path/to/python3.12 test

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

PY := .venv/bin/python
export PYTHON

# Test workers; the suite starts real servers, so more than cores does not pay.
JOBS ?= 2
# Extra words for pytest, for example: make test ARGS='-k outbox -x'
ARGS ?=

.PHONY: help setup demo serve fieldbook test unit soak soak-browser faults lint format generate bench bench-browser check clean

help: ## this text
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

setup: ## make .venv with everything in it (all other targets do this first)
	@tools/setup.sh

demo: setup ## two devices, one node, PostgreSQL: offline, conflicts, and back in step
	@$(PY) -m homeport demo $(ARGS)

serve: setup ## a development node on a free port, with an embedded PostgreSQL
	@$(PY) -m homeport serve --dev $(ARGS)

fieldbook: setup ## the field book: a page on Pyodide, several tabs, offline, over real well logs
	@$(PY) examples/fieldbook/serve.py $(ARGS)

lint: setup ## ruff, mypy --strict, pyright, generated code up to date
	@$(PY) -m ruff check .
	$(PY) -m ruff format --check src tools
	$(PY) tools/async_to_sync.py --check
	$(PY) -m mypy
	$(PY) -m pyright

# pytest comes last, so that its closing line is the last line.
test: lint ## all checks and the whole suite, on real PostgreSQL and real files
	@$(PY) -m pytest -n $(JOBS) --dist loadgroup $(ARGS)

unit: setup ## the fast part of the suite
	@$(PY) -m pytest tests/unit $(ARGS)

check: lint unit ## before a commit: lint and the fast tests

soak: setup ## random schedules of the simulator, for an hour or MINUTES=…
	@$(PY) -m homeport.testing.simulation --seed $${SEED:-100000} --minutes $${MINUTES:-60} $(ARGS)

soak-browser: setup ## random operations from two tabs beside the plain model, in Chromium and Firefox; MINUTES=…
	@$(PY) -m tests.browser.random_run --minutes $${MINUTES:-10} $(ARGS)

faults: setup ## real processes killed, stopped and cut off; RUNS=100 of each kind, writes docs/faults.md
	@command -v pgbouncer >/dev/null || [[ -x /usr/sbin/pgbouncer ]] ||
		{ [[ $$(id -u) == 0 ]] && apt-get install -y --no-install-recommends pgbouncer; } ||
		echo "pgbouncer is missing (Debian, Ubuntu: apt-get install pgbouncer); its kind will fail" >&2
	$(PY) -m tests.faults --runs $${RUNS:-100} --publish $(ARGS)

bench: setup ## against the same work by hand and nine other databases; writes bench/latest.json
	@$(PY) -m bench $(ARGS)

bench-browser: setup ## in Chromium and Firefox, beside Dexie in the same page
	@$(PY) -m bench.browser $(ARGS)

format: setup ## let ruff lay out the code and sort its imports
	@$(PY) -m ruff format src tools
	$(PY) -m ruff check --fix --select I src tools

generate: setup ## write the blocking facade anew from the async one
	@$(PY) tools/async_to_sync.py

clean: ## remove .venv, node_modules, caches and the files of the demo
	@rm -rf .venv node_modules .demo .data .mypy_cache .pytest_cache .ruff_cache .hypothesis
