# brokerlab: every target sets up what it needs (bin/setup makes .venv) and works from a fresh clone.
.DEFAULT_GOAL := help
SHELL := /bin/sh
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
# tests/conftest.py says which tests may run at the same time
SIDE_BY_SIDE := -n 3

.PHONY: help install demo test unit lint test-partition soak soak-dledger flaws bench bench-rocketmq bench-checkers compared rocketmq test-interop clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

install: ## make .venv with the package and its development tools, and the system packages when root
	@sh bin/setup

demo: install ## a DLedger group under load loses its leader twice, and is judged (under two minutes)
	$(BIN)/lab run plans/demo.toml

lint: install ## ruff, mypy strict (the tests, too), import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: install ## the tests that need no namespaces and no Java
	$(PYTEST) $(SIDE_BY_SIDE) -m "not live and not interop"

test: lint ## everything: lint, unit, random, live in namespaces, planted flaws, Java clients
	$(PYTEST) $(SIDE_BY_SIDE)

test-partition: install ## the partition matrix alone: each shape, ASYNC_MASTER and SYNC_MASTER
	$(PYTEST) -m partition

test-interop: install ## Apache RocketMQ's own clients on our cluster, and our client on Apache's brokers (needs Java, Maven)
	$(PYTEST) -m interop

rocketmq: install ## bring a release of Apache RocketMQ into the cache: make rocketmq VERSION=5.3.3 (needs Java, Maven)
	@test -n "$(VERSION)" || { echo "name a version: make rocketmq VERSION=5.3.3" >&2; exit 2; }
	$(BIN)/python -m lab.systems.rocketmq "$(VERSION)" $(if $(PART),--part $(PART))

soak: install ## 20 runs with different seeds and mixed faults; all must be valid and leave nothing behind
	$(BIN)/python -m lab.soak

soak-dledger: install ## 50 seeds of mixed faults on DLedger groups of three and of five; about an hour
	$(BIN)/python -m lab.soak --mode dledger

flaws: install ## every planted flaw is found by the checker it is there for, and the same seeds without it are valid; about half an hour
	$(BIN)/python -m lab.flawtable

bench: install ## measured figures with their goals, written to bench.json
	$(BIN)/python -m lab.bench

bench-rocketmq: install ## ours against Apache's release with the same clients, written to bench-rocketmq.json (two hours; ARGS="--only throughput")
	$(BIN)/python -m lab.bench.compared $(ARGS)

bench-checkers: install ## the linearizability engine against its goals and Porcupine, written to bench-checkers.json
	$(BIN)/python -m lab.checker_bench

compared: install ## the same faults on our nodes and on Apache's releases, side by side: docs/compared.md (two hours; goes on where it was)
	$(BIN)/python -m lab.compared $(ARGS)

clean: ## remove what dead runs left, by their manifests, then the caches and the virtual environment
	@if [ -x $(BIN)/lab ]; then $(BIN)/lab clean; fi
	rm -rf .venv nodes/_compiled .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
