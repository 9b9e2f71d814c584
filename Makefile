# Everything that a person or the CI script runs. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup build release test test-release demo bench format lint clean

# make demo
REQUESTS ?= 1000000
NODES    ?= 3
# make bench
SUITE    ?= all
ROWS     ?=
SECONDS ?= 2
REPEATS  ?= 3
JSON     ?=
# make test
FILTER   ?=

SOURCES := Package.swift Sources Tests Samples Benchmarks/Package.swift Benchmarks/Sources
# A target whose tests run in release too: one remote call of every distributed method (see CONTRIBUTING.md).
RELEASE_TESTS ?= FlockActorsTests

help: ## Lists the targets.
	@echo "Flockwork. Targets:"
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "Variables: REQUESTS, NODES (demo); SUITE, ROWS, SECONDS, REPEATS, JSON (bench); FILTER (test)."

setup: ## Checks for the packages that the build needs; as root installs the missing ones.
	@scripts/setup

build: setup ## Builds everything, debug.
	swift build --build-tests

release: setup ## Builds the programs, release.
	swift build -c release --product launcher

test: setup ## Builds and runs all tests (debug); FILTER=regex runs some of them.
	@scripts/test debug "$(FILTER)"

test-release: setup ## Builds and runs the tests of RELEASE_TESTS in release.
	@scripts/test release "$(RELEASE_TESTS)"

demo: release ## Runs the main job on three node processes: REQUESTS=1000000 NODES=3.
	@exec "$$(swift build -c release --show-bin-path)/launcher" demo --requests $(REQUESTS) --nodes $(NODES)

bench: setup ## Runs the benchmarks: SUITE=native|mailbox|calls|inbox|all, JSON=file appends one JSON object a line.
	swift build -c release --package-path Benchmarks --product flockbench
	@exec "$$(swift build -c release --package-path Benchmarks --show-bin-path)/flockbench" \
	  --suite $(SUITE) --seconds $(SECONDS) --repeats $(REPEATS) $(if $(ROWS),--rows $(ROWS)) $(if $(JSON),--json "$(JSON)")

format: ## Formats all Swift sources in place.
	swift format --in-place --parallel --recursive $(SOURCES)

lint: ## Checks the format of all Swift sources; changes nothing.
	swift format lint --strict --parallel --recursive $(SOURCES)

clean: ## Removes what the builds made.
	rm -rf .build .build-* Benchmarks/.build
