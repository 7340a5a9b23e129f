# Everything works in a virtual environment of its own (.venv); nothing is installed elsewhere.
# Needs python3 (3.11 or newer) with venv, git and make.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed-dev
BASE   := $(VENV)/.installed
# Two workers: the tests start real processes and measure times, so more of them disturb each other.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -p no:cacheprovider

# How much of the full size `make soak` runs.
SCALE ?= 1

# Where `make install` puts the commands: $(PREFIX)/bin, with an environment of their own.
PREFIX ?= $(HOME)/.local
# Optional parts, such as EXTRAS=notify.
EXTRAS ?=

.PHONY: help demo install uninstall test check all soak fuzz bench bench-refs format clean

help:
	@echo "make demo    see hivectl at work with a stand-in for Claude, in under a minute"
	@echo "make install put the commands hivectl and mock_claude into ~/.local/bin (PREFIX=...)"
	@echo "make test    install, and run all tests"
	@echo "make check   format, lint, types, imports, generated documents"
	@echo "make all     both"
	@echo "make soak    every fault at full size (two hours; SCALE=0.01 for a hundredth, ARGS='-k row05' for one)"
	@echo "make fuzz    one minute for each fuzz target (ARGS='decoder --seconds 300')"
	@echo "make bench   the benchmarks; figures go to benchmarks/results/"
	@echo "make bench-refs  install what they compare with, into .references"
	@echo "make format  let ruff mend format and imports"
	@echo "make clean   remove the virtual environment and what tools left"

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "hivectl needs Python 3.11 or newer; give one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "python3 has no venv; on Debian and Ubuntu: apt install python3-venv"; exit 1; }

$(BASE): pyproject.toml hivectl/__init__.py | $(VENV)/bin/python
	@echo "installing hivectl into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(STAMP): pyproject.toml hivectl/__init__.py | $(VENV)/bin/python
	@echo "installing hivectl and its tools into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(BASE) $@

demo: $(BASE)
	@$(BIN)/python examples/demo/demo.py

install:
	@$(PYTHON) -m venv $(PREFIX)/share/hivectl
	@$(PREFIX)/share/hivectl/bin/python -m pip install --quiet --disable-pip-version-check '.$(if $(EXTRAS),[$(EXTRAS)])'
	@mkdir -p $(PREFIX)/bin
	@ln -sf $(PREFIX)/share/hivectl/bin/hivectl $(PREFIX)/share/hivectl/bin/mock_claude $(PREFIX)/bin/
	@echo "installed: $(PREFIX)/bin/hivectl, $(PREFIX)/bin/mock_claude"
	@case ":$$PATH:" in *":$(PREFIX)/bin:"*) ;; \
	  *) echo "$(PREFIX)/bin is not in your PATH; add it: export PATH=\"$(PREFIX)/bin:\$$PATH\"" ;; esac

uninstall:
	rm -rf $(PREFIX)/share/hivectl $(PREFIX)/bin/hivectl $(PREFIX)/bin/mock_claude

test: $(STAMP)
	$(PYTEST) -n $(WORKERS) --dist worksteal $(ARGS)

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python docs/generate.py --check

all: check test

soak: $(STAMP)
	$(BIN)/python -m tests.soak --scale $(SCALE) $(ARGS)

fuzz: $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	$(BIN)/python -m tests.fuzz $(ARGS)

bench: $(STAMP)
	$(BIN)/python -m benchmarks $(ARGS)

bench-refs: $(STAMP)
	@$(BIN)/python -m benchmarks.references --install $(ARGS)

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist *.egg-info
