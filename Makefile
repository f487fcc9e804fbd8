# A target that needs .venv makes it first, if it is not there. `make help` lists the targets and what each is for.

PYTHON ?= python3
UV ?= uv
VENV := .venv
PIP := $(VENV)/bin/python -m pip
SLUICE := $(VENV)/bin/sluice
DEV := $(VENV)/.dev-installed

# Most tests wait for processes and sockets, so four at a time keep two cores busy. A file's tests stay in one process.
TEST_PROCESSES ?= 4

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DELETE_ON_ERROR:
.PHONY: help setup run test test-nightly test-hostile test-stack test-kserve check lock proto settings bench simulation load-test clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16

setup: $(DEV) ## make .venv with everything that working on Sluice needs

run: $(SLUICE) ## serve the models in examples/models at http://127.0.0.1:8000
	$(SLUICE) serve examples/models

# Every gateway, worker and reader that a test starts would compile the packages anew where Python is told to write no
# bytecode, as it is in many containers: an eighth of the time.
test: export PYTHONDONTWRITEBYTECODE =
test: check ## make check, then every test but those below
	$(VENV)/bin/pytest -n $(TEST_PROCESSES) --dist loadfile

test-nightly: $(DEV) ## the tests that take minutes: every operator of ONNX, and 10,000 random graphs
	$(VENV)/bin/pytest -m nightly

# HOSTILE_SEED makes a run again, HOSTILE_SCALE=0.01 makes a short one.
test-hostile: $(DEV) ## a million spoiled inputs and attacks from outside, in about half an hour
	$(VENV)/bin/pytest -m hostile -s tests/hostile

test-stack: $(DEV) ## build the images and run the whole stack: needs root, and the Docker engine
	$(VENV)/bin/pytest -m stack tests/deploy/test_stack.py

# KServe brings some 450 MB, and only its clients are wanted: they run in an environment of their own.
test-kserve: $(DEV) ## KServe's own clients against a gateway, from an environment of their own
	@test -x .venv-kserve/bin/python || $(PYTHON) -m venv .venv-kserve
	@.venv-kserve/bin/python -m pip install -qq 'kserve>=0.15'
	$(VENV)/bin/pytest tests/integration/test_kserve.py

check: $(DEV) ## lint, formatting, types, and which room may import which
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

# The paths are from here, so that the module is imported by its full name. It gets a pool of its own: a client of Triton
# in the same process has other messages of the same names in the default one.
proto: $(DEV) ## make the modules of messages from their .proto files
	$(VENV)/bin/python -m grpc_tools.protoc --proto_path=. --python_out=. --pyi_out=. gateway/grpc/*.proto \
		inference/backends/onnx/proof/structure.proto
	cd gateway/dialects/v2_grpc && $(CURDIR)/$(VENV)/bin/python -m grpc_tools.protoc --proto_path=. --python_out=. \
		--pyi_out=. inference.proto
	sed -i 's/_descriptor_pool.Default()/_descriptor_pool.DescriptorPool()/' \
		gateway/dialects/v2_grpc/*_pb2.py gateway/grpc/*_pb2.py inference/backends/onnx/proof/structure_pb2.py

settings: $(DEV) ## write docs/settings.md from the settings
	$(VENV)/bin/python -m docs.settings_page

bench: $(DEV) ## measure, and compare with the baselines
	$(VENV)/bin/python -m benchmarks

simulation: $(DEV) ## compare batching policies in virtual time
	$(VENV)/bin/python -m benchmarks.simulation --processes 2

URL ?= http://127.0.0.1:8000
OBJECTIVE_MS ?= 100

load-test: $(DEV) ## a short load test of the gateway at URL, which fails where the objective is missed
	$(VENV)/bin/python -m loadtests --host $(URL) --headless --only-summary --duration-s 15 --objective-ms $(OBJECTIVE_MS)

# Versions that are locked stay as they are where they still fit; `make lock UPGRADE=--upgrade` takes the newest.
COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	--annotation-style line $(UPGRADE)

lock: $(SLUICE) ## resolve the dependencies anew (needs uv)
	@command -v $(UV) >/dev/null || { echo "make lock needs uv, or its place: make lock UV=/path/to/uv" >&2; exit 1; }
	$(COMPILE) --group build --output-file requirements.lock pyproject.toml
	$(COMPILE) --group build --group dev --constraints requirements.lock --output-file requirements-dev.lock pyproject.toml
	$(COMPILE) --group load --constraints requirements-dev.lock --output-file requirements-load.lock

clean: ## remove what the tools leave behind; .venv stays
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

$(SLUICE): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Sluice needs Python 3.11 or newer, and $(PYTHON) is not; name one: make PYTHON=python3.12" >&2; exit 1; }
	@echo "Making $(VENV) with what Sluice needs to run..."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install -qq --require-hashes -r requirements.lock
	@$(PIP) install -qq --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV): requirements-dev.lock $(SLUICE)
	@echo "Adding what working on Sluice needs..."
	@$(PIP) install -qq --require-hashes -r requirements-dev.lock
	@touch $@
