# make demo | test | test-slow | lint | docs | linkcheck | dist. The virtual environment is made on first use; another one: make test VENV=/path/to/it
# Versions: make constraints | test-newest | test-lowest (CONTRIBUTING.md); make test PINS= leaves versions to pip.
PYTHON ?= python3
VENV ?= .venv
PINS ?= -c constraints.txt
STAMP := $(VENV)/.tcs-installed
PIP := -m pip --disable-pip-version-check install
EVERYTHING := .[docs,test,lint]

# One release behind the newest: not every machine that mirrors packages has the newest yet.
HELD := torch==2.14.1 torchvision==0.29.1

.PHONY: constraints demo dist docs linkcheck lint test test-lowest test-newest test-slow venv

demo: venv
	$(VENV)/bin/tcs demo

# `test` is what to run at every change; `test-slow` has the tests that kill, launch, compile or read all sources (SLOW in tests/conftest.py).
# Compiled files are kept, whatever the environment says: tests are rewritten by pytest, which takes seconds a worker.
PYTEST = PYTHONDONTWRITEBYTECODE= $(VENV)/bin/python -m pytest -n auto --dist worksteal $(PYTEST_ARGS)

test: venv
	$(PYTEST) -m "not slow"

test-slow: venv
	$(PYTEST) -m slow

lint: venv
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# Into docs/_build/html. A warning is an error: a link to nothing, a docstring that is no markup, a page that no list has.
docs: venv
	$(VENV)/bin/python -m sphinx -W --keep-going -q -b html -d docs/_build/doctrees docs docs/_build/html

# Links to other sites; `docs` and the tests look at those within. It needs a network, so CI does not run it (RELEASING.md).
linkcheck: venv
	$(VENV)/bin/python -m sphinx -q -b linkcheck -d docs/_build/doctrees docs docs/_build/linkcheck

# What is released (RELEASING.md): the sdist, and the wheel that is built from it.
dist: venv
	rm -rf dist build
	$(VENV)/bin/python -c "from setuptools import build_meta; build_meta.build_sdist('dist')"
	$(VENV)/bin/python -m pip --disable-pip-version-check wheel --no-deps --no-build-isolation --wheel-dir dist dist/*.tar.gz

venv: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python $(PIP) $(PINS) -e "$(EVERYTHING)"
	touch $@

# What `make venv` installs, resolved anew in an empty environment; nothing but metadata is installed.
constraints:
	rm -rf .venv-constraints
	$(PYTHON) -m venv .venv-constraints
	.venv-constraints/bin/python $(PIP) --quiet --dry-run --ignore-installed --report .venv-constraints/report.json "$(EVERYTHING)" $(HELD)
	.venv-constraints/bin/python scripts/pins.py resolved .venv-constraints/report.json > .venv-constraints/pins.txt
	mv .venv-constraints/pins.txt constraints.txt
	rm -rf .venv-constraints

# The newest releases that pip finds, and the lowest that pyproject.toml allows: each in its own environment, neither in CI.
test-newest:
	rm -f .venv-newest/.tcs-installed
	$(MAKE) test test-slow VENV=.venv-newest PINS="--upgrade --upgrade-strategy eager"

test-lowest:
	test -x .venv-lowest/bin/python || $(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python scripts/pins.py lowest pyproject.toml > .venv-lowest/pins.txt
	rm -f .venv-lowest/.tcs-installed
	$(MAKE) test test-slow VENV=.venv-lowest PINS="-c .venv-lowest/pins.txt"
