# Trimaran. Needs python3 >= 3.11 and make; everything else is set up in .venv.
#
#   make cluster     three nodes on ports 7001-7003, in the foreground, until Ctrl-C
#   make test        the tests (some minutes; those marked `stress` are left out)
#   make test-all    all tests
#   make check       what CI runs beside them: format, lint, types, architecture
#   make docs        the documents as HTML, in build/docs; a broken link is an error
#   make clean       remove .venv and what tools left behind; the data stays
#
#   make cluster ARGS="--config configs/fast.toml --fresh"     more words for the command
#   make test PYTEST="tests/node -k config"                    other words for pytest
#   make PYTHON=python3.13 ...                                 another interpreter

# An active virtual environment or a PYTHONPATH of the shell is none of our business.
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP VIRTUAL_ENV
# Nor is where pip of this user usually installs to.
unexport PIP_TARGET PIP_PREFIX PIP_USER

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
PYTEST ?= tests

.PHONY: cluster test test-all check docs setup clean
.DEFAULT_GOAL := test

cluster: $(VENV)/.ready
	@$(BIN)/trimaran cluster $(ARGS)

test: $(VENV)/.ready
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not stress" $(PYTEST)

test-all: $(VENV)/.ready
	$(BIN)/python -m pytest $(PYTEST)

check: $(VENV)/.ready-dev
	PATH="$(CURDIR)/$(BIN):$$PATH" scripts/check

docs: $(VENV)/.ready-docs
	$(BIN)/python scripts/docs_configuration --check
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs build/docs

setup: $(VENV)/.ready

# Made again when pyproject.toml changes: packages and entry points come from there.
$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "trimaran needs python3 >= 3.11; found: $$($(PYTHON) --version 2>&1)." \
	         "Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	    echo "python3 has no venv module. On Debian or Ubuntu: apt-get install python3-venv" >&2; \
	    exit 2; }
	@echo "setting up $(VENV) (once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

$(VENV)/.ready-docs: $(VENV)/.ready
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
