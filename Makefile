# Everything runs in this checkout's own .venv, made on first use. Start afresh with: rm -rf .venv
VENV := .venv
BIN := $(VENV)/bin
CANDIDATES := $(or $(PYTHON),python3.13 python3.12 python3.11 python3)
RIGHT_VERSION := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
EXECUTE := import sys, jupytext, nbclient; nbclient.NotebookClient(jupytext.read(sys.argv[1]), timeout=600, \
	kernel_name="python3", resources={"metadata": {"path": "notebooks"}}).execute()
JOBS ?= 2

.DEFAULT_GOAL := help
.PHONY: help run test test-slow torture lint format notebooks wheel clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.data ## reproduce the mode-seeking figure and print where it is
	$(BIN)/fgan reproduce modes

test: $(VENV)/.dev ## all tests but the slow ones, and the examples in docstrings
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -rs -m "not slow" --doctest-modules tests estimators fgan

test-slow: $(VENV)/.dev ## the tests that take minutes (none is no failure: pytest's exit code 5)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m slow tests || [ $$? -eq 5 ]

torture: $(VENV)/.dev ## faults in great number: kills, damage, bad input, crowds, two hosts; hours, resumable
	$(BIN)/python -m benchmarks.torture

lint: $(VENV)/.dev ## ruff, mypy, and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

notebooks: $(VENV)/.dev ## execute each notebook, keeping no output
	@for notebook in notebooks/*.py; do \
	  [ -e "$$notebook" ] || continue; \
	  echo "$$notebook"; \
	  $(BIN)/python -c '$(EXECUTE)' "$$notebook" || exit 1; \
	done

wheel: $(VENV)/.dev ## build dist/*.whl
	rm -rf dist
	$(BIN)/python -m build --wheel --no-isolation --outdir dist .

clean: ## remove builds and caches; keeps .venv and runs
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find estimators fgan tests notebooks -name __pycache__ -type d -prune -exec rm -rf {} +

# A name on PATH may be a shim that fails, or lack ensurepip: take the first that really makes a working environment.
$(VENV)/.python:
	@if ! $(BIN)/python -c 'import pip; $(RIGHT_VERSION)' >/dev/null 2>&1; then \
	  for python in $(CANDIDATES); do \
	    "$$python" -c 'import ensurepip, venv; $(RIGHT_VERSION)' >/dev/null 2>&1 || continue; \
	    echo "making $(VENV) with $$("$$python" --version)"; \
	    "$$python" -m venv --clear $(VENV) && break; \
	  done; \
	  $(BIN)/python -c 'import pip' 2>/dev/null || { \
	    echo "no Python 3.11, 3.12 or 3.13 with venv among: $(CANDIDATES). Name one: make PYTHON=/path/to/python" >&2; exit 1; }; \
	fi
	@touch $@

$(VENV)/.data: pyproject.toml constraints.txt $(VENV)/.python
	@echo "installing what fgan needs into $(VENV) (minutes the first time)"
	@$(PIP_INSTALL) --editable ".[data]"
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt $(VENV)/.python
	@echo "installing fgan and the developer's tools into $(VENV) (minutes the first time)"
	@$(PIP_INSTALL) --editable ".[dev]"
	@touch $@ $(VENV)/.data
