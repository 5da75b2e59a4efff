# `make demo` shows the product at work, `make test` proves that it works, `make docs` builds the
# documentation. All set up .venv first; all that they need is Python 3.10 to 3.12.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The first of these that is 3.10, 3.11 or 3.12; `make PYTHON=/path/to/python` overrides it.
PYTHON ?= $(shell for p in python3 python3.12 python3.11 python3.10; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null \
	&& echo $$p && break; done)
# On Linux, the default torch wheel brings gigabytes of CUDA packages. Set TORCH_INDEX to PyTorch's
# CPU wheel index (its install page names it) for the small one.
TORCH_INDEX ?=
# Processes that the tests run in; each takes up to 2 GB of memory.
JOBS ?= 2
DEMO := examples/fashion_mnist/user_quant.py
DEMO_OUT := outputs/demo

.PHONY: demo test test-all docs setup lint types unit coverage clean

demo: $(STAMP)
	$(BIN)/espdl-quantize check $(DEMO)
	$(BIN)/espdl-quantize tune $(DEMO) --output-dir $(DEMO_OUT)

test: lint types unit

docs: $(STAMP)
	$(BIN)/mkdocs build --strict --quiet --clean
	@echo "open site/index.html in a browser; it needs no server and no network"

setup: $(STAMP)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

# Each process of the tests computes on one thread: two that compute on all of them wait for each other.
# Many tests start the command: it is compiled once, also where the environment keeps nothing compiled.
PYTEST = OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n $(JOBS) --dist worksteal
unit: $(STAMP)
	$(PYTEST)

# Of each combination of networks, chips and engines; `unit` runs those that have all values of each.
test-all: lint types
	$(PYTEST) --matrix

# Not part of `test`: tracing every line makes the tests half as long again.
coverage: $(STAMP)
	$(PYTEST) --cov --cov-report=term --cov-fail-under=90

clean:
	rm -rf $(VENV) outputs site .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage*

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: no Python 3.10, 3.11 or 3.12 found; set PYTHON" >&2; exit 6; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) \
		--constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@
