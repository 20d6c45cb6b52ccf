# The commands of everyday work; `make` lists them. Use an environment with `pip install -e '.[test]'`.

PYTHON ?= python3
SUDO ?= sudo
export PYTHONDONTWRITEBYTECODE = 1

.PHONY: help
help: ## list these commands
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1	\2/p' Makefile

.PHONY: fmt
fmt: ## format the code, and fix what ruff can fix
	$(PYTHON) -m ruff check --fix
	$(PYTHON) -m ruff format

.PHONY: lint
lint: ## check style, types and import layers; needs no root
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy
	$(PYTHON) -c 'from importlinter.cli import lint_imports_command as run; run()'

.PHONY: site
site: ## make the site of the docs in build/site; needs `pip install -e '.[site]'`
	$(PYTHON) -m tools.site

.PHONY: unit
unit: ## run the unit tests; needs no root
	$(PYTHON) -m pytest tests/unit

.PHONY: test
test: ## run all tests, as CI does: installs Debian packages, runs containers, needs root
	$(SUDO) tools/test

.PHONY: dist
dist: ## build wheel and sdist in dist/, the same bytes each time; needs PyPI if setuptools is older than 77
	$(PYTHON) -m tools.dist

.PHONY: deb
deb: ## build the package for Debian 12 and later in dist/, the same bytes each time
	$(PYTHON) -m tools.deb

.PHONY: bench
bench: ## measure beside runc and crun; needs root
	$(SUDO) $(PYTHON) -m bench
