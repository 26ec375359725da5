# Every verb sets up what it needs: Python 3.11 or later, git and make are enough.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PARTS  := protocol/src schemas/src runtime/src planter/src
TABLE  := tests/integration/test_executor_table.py

.DEFAULT_GOAL := help
.PHONY: help setup demo check test conformance sim faults bench mutants asyncapi format lint types imports unit clean

help:  ## show this
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(BIN)/.ready  ## make .venv with the four parts, editable, and the tools

$(BIN)/.ready: requirements-dev.txt protocol/pyproject.toml schemas/pyproject.toml runtime/pyproject.toml planter/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Planter needs Python 3.11 or later: make PYTHON=python3.12 ..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing Planter and its tools into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-dev.txt
	@$(BIN)/python -m compileall -q $(PARTS) tests/support  # where Python may not write bytecode itself
	@touch $@

demo: $(BIN)/.ready  ## run a real manifest: NATS, planner and runtime as processes of this machine
	$(BIN)/planter run --local examples/release-pipeline/release.planter.yaml

check: format lint types imports unit  ## what must pass before every commit, in under a minute

format: $(BIN)/.ready
	$(BIN)/ruff format --check --quiet .

lint: $(BIN)/.ready
	$(BIN)/ruff check --quiet .

types: $(BIN)/.ready
	$(BIN)/basedpyright --level error

imports: $(BIN)/.ready
	$(BIN)/lint-imports --no-cache > /dev/null || $(BIN)/lint-imports --no-cache

unit: $(BIN)/.ready
	$(BIN)/python -m pytest -q tests/unit tests/architecture

test: $(BIN)/.ready  ## the whole suite
	@$(MAKE) --no-print-directory -j2 check
	$(BIN)/python -m pytest -q --tb=short -n 4 --dist worksteal --ignore $(TABLE) tests/integration tests/examples tests/faults
	$(BIN)/python -m pytest -q --tb=short -n 3 --dist loadgroup $(TABLE)
	$(BIN)/python -m pytest -q --tb=short tests/sim
	$(BIN)/python -m pytest -q --tb=short tests/conformance

conformance: $(BIN)/.ready  ## try a server against the protocol, over the wire: NATS_URL=, HTTP_URL=, RUNTIME_URL=, else Planter
	$(BIN)/python -m pytest -q --tb=short tests/conformance

sim: $(BIN)/.ready  ## play simulated histories: SEEDS=10000, or one with its trace: SEED=42
	$(BIN)/python scripts/sim.py $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),1000))

faults: $(BIN)/.ready  ## kill, stop and cut off real processes for an hour: ONLY=planner-kill, COUNT=30, SEED=7
	$(BIN)/python scripts/faults.py $(if $(ONLY),--only $(ONLY)) $(if $(COUNT),--count $(COUNT)) --seed $(or $(SEED),1)

bench: $(BIN)/.ready  ## measure Planter against the floor that JetStream sets: ONLY=fan,chain, REPEAT=1, SCALE=0.1
	$(BIN)/python scripts/bench.py $(if $(ONLY),--only $(ONLY)) --repeat $(or $(REPEAT),5) --scale $(or $(SCALE),1)

mutants: $(BIN)/.ready  ## break the product in a dozen ways; the simulation has to find each (docs/mutants.md)
	$(BIN)/python scripts/mutants.py

asyncapi: $(BIN)/.ready  ## write schemas/asyncapi.json anew and check it with the official parser (needs node and npm)
	$(BIN)/python -m planter_protocol.asyncapi > schemas/asyncapi.json
	@test -d .node/node_modules/@asyncapi/parser || npm install --prefix .node --no-save --no-audit --no-fund --ignore-scripts --silent @asyncapi/parser@3.6.3
	node scripts/check_asyncapi.mjs schemas/asyncapi.json

clean:  ## remove everything that the other verbs made
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .demo .node
