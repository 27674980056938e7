# On a fresh machine: `make demo` and `make test`. Each makes the environment in .venv first; nothing else is needed.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := PIP_CONSTRAINT=constraints.txt PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet

.PHONY: demo test lint type check wheel-test benchmark format clean

demo: $(VENV)/.installed-core
	$(BIN)/python examples/demo.py $(if $(IN),"$(IN)")

test: lint type check wheel-test

check: $(VENV)/.installed-dev
	$(BIN)/python -m pytest

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
benchmark: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/inference.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/training.py

$(VENV)/.created:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.installed-core: $(VENV)/.created pyproject.toml constraints.txt
	$(INSTALL) --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-core
	$(INSTALL) --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist demo
