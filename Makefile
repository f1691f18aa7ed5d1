# `make demo` and `make test` need make and python3 >= 3.11; each builds its own virtual environment.
#
#   make demo     train, prune three ways, print the table, write the report
#   make test     all checks: lint, types, layers, documentation, tests   (the same as make check)
#   make lint | types | layers | docs | unit     one check
#   make fuzz     files made wrong, by the thousand, at every reader; a few of them are in make test
#   make format   write the formatting that lint asks for
#   make clean    remove the environments and what the checks have built
#
# PYTHON=…      another interpreter
# PIP_FLAGS=…   passed to pip, e.g. "--extra-index-url https://download.pytorch.org/whl/cpu" where the
#               index has the CUDA build of torch alone
# JOBS=…        test processes (two, one thread each)

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
PIP_FLAGS ?=
JOBS ?= 2
OUT ?= runs/demo

DEMO := .venv-demo
TEST := .venv-test
BUILD := build

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
export PYTHONUTF8 := 1
export NO_MKDOCS_2_WARNING := 1
export MPLBACKEND := agg
export MPLCONFIGDIR := $(CURDIR)/$(BUILD)/matplotlib
# One thread a process: two test processes share two cores, and sums keep their order.
export OMP_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1

.PHONY: help demo test check lint types layers docs unit fuzz format clean

help:
	@sed -n 's/^# \{0,1\}//; 1,/^$$/p' Makefile

# ---- environments -------------------------------------------------------------------------------
# torch is asked for by itself and first: an open requirement would fetch another release, and on
# Linux gigabytes of CUDA with it. The constraints hold it there for whatever comes after.

define environment
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
  echo "make: needs Python >= 3.11; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || true)." \
       "Install one, or say which: make PYTHON=python3.12 …" >&2; exit 2; }
@rm -rf $(1)
@$(PYTHON) -m venv $(1) || { rm -rf $(1); \
  echo "make: '$(PYTHON) -m venv' failed; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 2; }
@echo "installing into $(1) …"
@$(1)/bin/python -m pip install -qq 'pip>=25.1'
@$(1)/bin/python -m pip install -qq $(PIP_FLAGS) -c constraints.txt "$$(grep '^torch==' constraints.txt)"
@$(1)/bin/python -m pip install -qq $(PIP_FLAGS) -c constraints.txt $(2)
@touch $(1)/.complete
endef

$(DEMO)/.complete: pyproject.toml constraints.txt
	$(call environment,$(DEMO),-e '.[demo$(comma)report]')

$(TEST)/.complete: pyproject.toml constraints.txt
	$(call environment,$(TEST),-e '.[all]' --group dev --group docs)

comma := ,

# ---- demo ---------------------------------------------------------------------------------------

demo: $(DEMO)/.complete
	@mkdir -p $(BUILD)/matplotlib
	$(DEMO)/bin/espalier compare recipes/digits-demo.yaml --out $(OUT)

# ---- checks -------------------------------------------------------------------------------------

test: lint types layers docs unit
	@echo "all checks passed"

check: test

lint: $(TEST)/.complete
	$(TEST)/bin/ruff format --check .
	$(TEST)/bin/ruff check .

types: $(TEST)/.complete
	$(TEST)/bin/mypy

layers: $(TEST)/.complete
	$(TEST)/bin/lint-imports --no-cache

docs: $(TEST)/.complete
	$(TEST)/bin/mkdocs -q build --strict --site-dir $(BUILD)/site

unit: $(TEST)/.complete
	@mkdir -p $(BUILD)/matplotlib
	HF_HUB_OFFLINE=1 $(TEST)/bin/python -m pytest -n $(JOBS) --durations=15 $(PYTEST_FLAGS)

# FUZZ_FLAGS="--seed 1": other cases. What fails is kept in build/fuzz, with the command that reads it again.
fuzz: $(TEST)/.complete
	cd tests && ../$(TEST)/bin/python -m fuzz.campaign --out ../$(BUILD)/fuzz $(FUZZ_FLAGS)

format: $(TEST)/.complete
	$(TEST)/bin/ruff check --fix-only .
	$(TEST)/bin/ruff format .

clean:
	rm -rf $(DEMO) $(TEST) $(BUILD) .mypy_cache .pytest_cache .ruff_cache .hypothesis
