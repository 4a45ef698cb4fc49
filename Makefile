# make demo | test | lint. The virtual environment is made on first use; another one: make test VENV=/path/to/it
PYTHON ?= python3
VENV ?= .venv
STAMP := $(VENV)/.tcs-installed

.PHONY: demo test lint venv

demo: venv
	$(VENV)/bin/tcs demo

test: venv
	$(VENV)/bin/python -m pytest -n auto --dist worksteal $(PYTEST_ARGS)

lint: venv
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

venv: $(STAMP)

$(STAMP): pyproject.toml
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --disable-pip-version-check -e ".[test,lint,plots]"
	touch $@
