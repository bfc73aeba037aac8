# Everything needs python3 >= 3.11 and make, nothing else: the first verb makes .venv from requirements.lock, once.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# A directory of the working directory's name must not shadow a package of ours.
export PYTHONSAFEPATH := 1

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show these verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(VENV)/.ready ## Watch a fleet's events come true on this machine: NATS, two managers, collectors, relay, subscriber (ARGS="--seconds 30 --json")
	@$(BIN)/python tests/demo/run.py $(ARGS)

.PHONY: test
test: $(VENV)/.ready ## Run all tests; the pure modules must be covered whole (ARGS="-k spool": some of them, without coverage)
ifeq ($(strip $(ARGS)),)
	@$(BIN)/python -m pytest -n 2 --no-cov -m unmeasured
	@$(BIN)/python -m pytest -n 2 --cov --cov-config=tests/pure.ini --cov-fail-under=100 -m "not unmeasured"
else
	@$(BIN)/python -m pytest -n 2 --no-cov $(ARGS)
endif

.PHONY: coverage
coverage: $(VENV)/.ready ## Run all tests and say what of all modules they cover, child processes too: twice as long
	@$(BIN)/python -m pytest -n 2 --cov --cov-report=term:skip-covered $(ARGS)

.PHONY: truth
truth: $(VENV)/.ready ## Play a cluster's days in virtual time against the rules, beside naive ones (ARGS="--days 3 --nodes 5 --agents 1000 --seed 1")
	@$(BIN)/python tests/truth/run.py $(ARGS)

.PHONY: soak
soak: $(VENV)/.ready ## Kill and break everything while agents live, then hold EVENTS against what they did (ARGS="--minutes 5 --seed 7 --nodes 3 --agents 500 --json", or "takeover", "outage", "poison")
	@$(BIN)/python tests/soak/run.py $(ARGS)

.PHONY: bench
bench: $(VENV)/.ready ## Measure how fast and how small, each figure beside a floor or a peer, and its bar (ARGS="--only latency --json", --list, --quick, --rounds 3, --out DIR)
	@$(BIN)/python tests/bench/run.py $(ARGS)

.PHONY: fuzz
fuzz: $(VENV)/.ready ## Feed mutated bytes to every border: decoder, events, Wazuh's answers and files, configuration (ARGS="--inputs 1000000 --seed 1 --json")
	@$(BIN)/python tests/fuzz/run.py $(ARGS)

.PHONY: deploy-test
deploy-test: $(VENV)/.deploy ## Check Dockerfile, Kubernetes files, units and locks by hadolint, kubectl, the API's schemas and systemd-analyze
	@$(BIN)/python -m pytest -n 0 tests/deploy $(ARGS)

.PHONY: compose-test
compose-test: $(VENV)/.deploy ## Bring docker-compose.yml up, play the tour against it, kill its parts (needs a Docker engine; ARGS="--crowd 1000")
	@$(BIN)/python tests/containers/run.py $(ARGS)
	@$(BIN)/python -m pytest -n 0 tests/containers

.PHONY: lint
lint: $(VENV)/.ready ## Check style, types and the borders between modules
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

LOCK := uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
COLLECTOR := --extra nkeys --extra otlp
RELAY := $(COLLECTOR) --extra relay --extra postgresql
IMAGES := deploy/docker

.PHONY: docs
docs: $(VENV)/.ready ## Renew what is made from the code: docs/metrics.md and the README's configuration table
	@$(BIN)/python tests/make_docs.py

.PHONY: lock
lock: $(VENV)/.ready ## Renew requirements.lock from pyproject.toml, and the other locks with it (needs uv)
	$(LOCK) $(RELAY) --group dev pyproject.toml -o requirements.lock --upgrade
	@$(MAKE) --no-print-directory image-locks

.PHONY: image-locks
image-locks: $(VENV)/.ready ## Make the images' and the deployment tests' locks from the versions of requirements.lock (needs uv)
	$(LOCK) --quiet -c requirements.lock $(COLLECTOR) pyproject.toml -o $(IMAGES)/collector.lock
	$(LOCK) --quiet -c requirements.lock $(RELAY) pyproject.toml -o $(IMAGES)/relay.lock
	$(LOCK) --quiet -c requirements.lock --group pyproject.toml:deploy -o tests/deploy/requirements.lock
	echo hatchling | $(LOCK) --quiet -c requirements.lock - -o $(IMAGES)/build.lock

.PHONY: clean
clean: ## Remove .venv and every cache
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage* build dist

$(VENV)/.deploy: $(VENV)/.ready tests/deploy/requirements.lock
	@echo "Adding what deployment tests need to $(VENV) (once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r tests/deploy/requirements.lock
	@touch $@

$(VENV)/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "wazuh-jetstream needs Python 3.11 or newer; set PYTHON=/path/to/python3"; exit 1; }
	@echo "Setting up $(VENV) (once, about a minute) ..."
	@$(PYTHON) -m venv $(VENV) || { echo "python3 has no venv module; on Debian: apt-get install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-build-isolation --editable .
	@touch $@
