# Footfall. `make demo` and `make test` are all a newcomer needs; each target sets up what it needs.
SHELL := /bin/bash
.DEFAULT_GOAL := help
BIN := .venv/bin
STAMP := .venv/.ready

help:  ## say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

setup: $(STAMP)  ## make .venv with python3.12 or python3.11 and install what the lock names

$(STAMP): requirements.lock pyproject.toml
	@python=$$(bash .ci/python) || exit 1; \
	echo "setting up .venv with $$($$python --version) (about a minute, once)"; \
	rm -rf .venv && $$python -m venv .venv && \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock && \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable . && \
	touch $(STAMP)

demo: $(STAMP)  ## see "Hi Ana" appear: a simulated shop, live, for a minute
	@$(BIN)/footfall demo $(ARGS)

test: $(STAMP)  ## run the whole everyday suite
	$(BIN)/python -m pytest -n auto --dist loadfile $(ARGS)

test-kafka: $(STAMP)  ## test against a real Kafka and registry (started here, or FOOTFALL_TEST_KAFKA, FOOTFALL_TEST_REGISTRY)
	$(BIN)/python -m pytest tests/broker -rs $(ARGS)

check: $(STAMP)  ## style, types, who imports whom, schemas, lock
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/footfall schemas check
	$(BIN)/python -m tests.chaos.report --check
	@if grep -nE 'https?://|--(extra-)?index-url|--find-links' requirements.lock requirements.image.lock tests/deploy/tools/requirements.lock; then echo "a lock must name no index host"; exit 1; fi

helm-check: $(STAMP)  ## render, lint and check the chart; check the image and the compose file (the first time minutes long)
	@bash tests/deploy/tools/make.sh
	FOOTFALL_DEPLOY=all $(BIN)/python -m pytest tests/deploy -n auto --dist loadfile -rs $(ARGS)

bench: $(STAMP)  ## measure: throughput, latency (B=short as CI does; B=latency RATE=1000 and B=outage through Kafka)
	$(BIN)/python -m benchmarks $(B) $(if $(RATE),--rate $(RATE)) $(ARGS)

chaos: $(STAMP)  ## kill it and compare (R=R1 SEED=7 for one row of the fault table; without R the short form of all)
	$(BIN)/python -m tests.chaos $(R) --seed $(or $(SEED),7) $(ARGS)

chaos-long: $(STAMP)  ## the same in the long form, its results kept and RELIABILITY.md written from them
	$(BIN)/python -m tests.chaos $(or $(R),all) --seed $(or $(SEED),7) --long --keep $(ARGS)
	$(BIN)/python -m tests.chaos.report

PIN := $(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-header --no-annotate

lock: $(STAMP)  ## compile the locks (on python3.11, so that they install on 3.12 too)
	$(PIN) --extra dev --output-file requirements.lock pyproject.toml
	cp requirements.lock requirements.image.lock
	$(PIN) --extra image --output-file requirements.image.lock pyproject.toml
	$(PIN) --output-file tests/deploy/tools/requirements.lock tests/deploy/tools/requirements.in

clean:  ## remove .venv
	rm -rf .venv

.PHONY: help setup demo test test-kafka check helm-check bench chaos chaos-long lock clean
