# Everything that a person or the CI script runs. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup libs libs-python build release test test-libs test-release sim
.PHONY: demo demo-python demo-python-short demo-python-deep
.PHONY: soak lab bench objective overload fuzz format lint clean

# make sim
SEEDS    ?= 1000
SEED     ?=
# make demo
REQUESTS ?= 1000000
# make demo, make sim; make overload takes 1 unless told
NODES    ?= $(if $(filter sim,$(MAKECMDGOALS)),5,3)
MODEL    ?= logistic
# make soak
KILLS    ?= 20
# make lab
ROUNDS   ?= 1
# make bench, make soak, make lab: JSON
SUITE    ?= all
ROWS     ?=
SECONDS ?= 2
REPEATS  ?= 3
JSON     ?=
# make objective, make overload, make lab; REPORT=--report does not fail where a bound is missed
DURATION ?=
REPORT   ?=
# make test
FILTER   ?=
# make test-libs
CASES    ?= ../shared/cases
# Of release builds; .ci/run takes those of the release tests, so that programs, benchmarks and tests are built once.
RELEASE_OPTIONS ?=
BUILD_RELEASE := swift build -c release $(RELEASE_OPTIONS)
BUILD_BENCHMARKS := $(BUILD_RELEASE) --package-path Benchmarks

SOURCES := Package.swift Sources Tests Samples Benchmarks/Package.swift Benchmarks/Sources Fuzz/Package.swift Fuzz/Sources
# Tests that run in release too: one remote call of every distributed method (see CONTRIBUTING.md), and speed.
RELEASE_TESTS ?= FlockActorsTests|MethodCallTests|BundleTransferTests|PartitionSpeedTests
# The targets that have them.
RELEASE_TEST_TARGETS ?= FlockActorsTests FlockworkTests FlockPythonTests FlockClusterTests

help: ## Lists the targets.
	@echo "Flockwork. Targets:"
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "Variables: REQUESTS, NODES, MODEL (demo); KILLS, SEED, JSON (soak); ROUNDS, FAULTS, JSON, REPORT (lab); SUITE, ROWS, SECONDS, REPEATS, JSON (bench); SECONDS (fuzz); DURATION, REPORT (objective, overload); NODES=1 (overload); FILTER (test); CASES (test-libs); SEEDS, SEED, NODES, TIME, TRACE, MUTANTS (sim)."

setup: ## Checks for the packages that the build needs; as root installs the missing ones.
	@scripts/setup

libs: ## Makes .venv-libs with ONNX Runtime, XGBoost and LightGBM; PYTHON=python3.x takes another Python.
	@scripts/libs

libs-python: ## Makes .venv-python with scikit-learn (pip, about 60 MB) for demo-python, and with grpcio and uv for SUITE=python.
	@scripts/libs-python --bench

build: setup ## Builds everything, debug.
	swift build --build-tests

release: setup ## Builds the programs, release.
	$(BUILD_RELEASE) --product launcher

# Each has a build folder of its own, and most of a build waits for one large module: `make -j2 builds` takes half the time.
BUILDS := build-programs build-benchmarks build-fuzz
.PHONY: builds $(BUILDS)
builds: setup $(BUILDS) ## Builds the programs and benchmarks in release, and the fuzz targets, so that what runs them later need not.
build-programs: ; $(BUILD_RELEASE)
build-benchmarks: ; $(BUILD_BENCHMARKS) --product flockbench
build-fuzz: ; @scripts/fuzz build

test: setup ## Builds and runs all tests (debug); FILTER=regex runs some of them.
	@scripts/test debug "$(FILTER)"

test-release: setup ## Builds and runs the tests of RELEASE_TESTS in release.
	@FLOCKWORK_TEST_TARGETS="$(RELEASE_TEST_TARGETS)" scripts/test release "$(RELEASE_TESTS)"

test-libs: setup libs ## Tests the model libraries, with all third-party cases of CASES=../shared/cases.
	@FLOCKWORK_CASES_ALL=1 FLOCKWORK_CASES="$(abspath $(CASES))" FLOCKWORK_PYTHON="$(CURDIR)/.venv-libs" \
	  scripts/test debug "ModelCaseTests|DiagnosisModelTests"

sim: setup ## Simulates clusters in release, all faults on: SEEDS=1000 NODES=5; SEED=s runs one, TRACE=1 tells of it; TIME=n stops after so many seconds; MUTANTS=0 leaves the mutants out.
	$(BUILD_RELEASE) --product simulate
	@exec "$$($(BUILD_RELEASE) --show-bin-path)/simulate" $(if $(SEED),SEED=$(SEED),SEEDS=$(SEEDS)) NODES=$(NODES) \
	  $(foreach name,FIRST TIME MUTANTS MUTANT PROFILE TRACE HISTORY JOBS,$(if $($(name)),$(name)=$($(name))))

soak: release ## Kills nodes of a cluster of five under load with kill -9, KILLS=20 times, and checks every answer: SEED=s, JSON=file appends the figures.
	@exec "$$($(BUILD_RELEASE) --show-bin-path)/launcher" soak --kills $(KILLS) $(if $(SEED),--seed $(SEED)) \
	  $(if $(JSON),--json "$(JSON)")

lab: release ## Cuts hosts off (network namespaces; as root) under load, in six ways, ROUNDS=1 times, and checks every answer: FAULTS=pull,cut,…, JSON=file appends the figures.
	@exec scripts/lab run 3 "$$($(BUILD_RELEASE) --show-bin-path)/launcher" lab --rounds $(ROUNDS) \
	  $(if $(FAULTS),--faults $(FAULTS)) $(if $(JSON),--json "$(JSON)") $(REPORT)

MODELS := logistic xgboost onnx
demo: $(if $(filter $(MODELS),$(MODEL)),,$(error MODEL=$(MODEL): no such model; there are $(MODELS))) release $(if $(filter xgboost onnx,$(MODEL)),libs) ## Runs the main job on three node processes, of which one is killed, while one joins and one leaves: REQUESTS=1000000 NODES=3 MODEL=logistic|xgboost|onnx.
	@exec "$$($(BUILD_RELEASE) --show-bin-path)/launcher" demo --requests $(REQUESTS) --nodes $(NODES) \
	  --model $(MODEL) $(if $(filter 1 2,$(NODES)),,--changes)

demo-python-short: setup ## The part of demo-python that needs no package, debug.
	swift build --product flockwork
	swift build --product flockpython
	@CONFIGURATION=debug TIMES=5000 Samples/python/demo --short

demo-python: setup ## Runs the Python samples: two folders, every answer checked, a worker process killed on the way.
	@scripts/libs-python
	swift build -c release --product flockwork
	swift build -c release --product flockpython
	@Samples/python/demo

demo-python-deep: setup ## Runs the samples with PyTorch, Keras and PyTensor, every answer checked; makes .venv-deep (pip, about 330 MB).
	@scripts/libs-python --deep
	swift build -c release --product flockwork
	swift build -c release --product flockpython
	@Samples/python/demo --deep

bench: setup ## Runs the benchmarks: SUITE=native|mailbox|calls|inbox|cluster|models|python|all, JSON=file appends one JSON object a line.
	$(BUILD_BENCHMARKS) --product flockbench
	$(if $(filter python,$(SUITE)),$(BUILD_RELEASE) --product flockpython)
	@$(if $(filter python,$(SUITE)),export FLOCKWORK_PYTHON_EXTENSION="$$($(BUILD_RELEASE) \
	  --show-bin-path)/libflockpython.so";) exec "$$($(BUILD_BENCHMARKS) --show-bin-path)/flockbench" \
	  --suite $(SUITE) --seconds $(SECONDS) --repeats $(REPEATS) $(if $(ROWS),--rows $(ROWS)) $(if $(JSON),--json "$(JSON)")

fuzz: setup ## Gives mutated bytes to all that reads bytes of strangers, under AddressSanitizer, for SECONDS=60.
	@scripts/fuzz $(if $(filter command line environment,$(origin SECONDS)),$(SECONDS),60)

objective: setup ## Compares batch: .within(20 ms) with fixed policies at 80 % load; DURATION=seconds of each.
	$(BUILD_BENCHMARKS) --product flockbench
	@exec "$$($(BUILD_BENCHMARKS) --show-bin-path)/flockbench" objective \
	  $(if $(DURATION),--duration $(DURATION)) $(REPORT)

overload: setup ## Offers ten times the capacity of a stage, and half of it again; DURATION=seconds of the overload, NODES=3 to a cluster.
	$(BUILD_BENCHMARKS) --product flockbench
	@exec "$$($(BUILD_BENCHMARKS) --show-bin-path)/flockbench" overload \
	  $(if $(DURATION),--duration $(DURATION)) $(if $(filter command line environment,$(origin NODES)),--nodes $(NODES)) $(REPORT)

format: ## Formats all Swift sources in place.
	swift format --in-place --parallel --recursive $(SOURCES)

lint: ## Checks the format of all Swift sources; changes nothing.
	swift format lint --strict --parallel --recursive $(SOURCES)

clean: ## Removes what the builds made.
	rm -rf .build .build-* Benchmarks/.build Fuzz/.build
