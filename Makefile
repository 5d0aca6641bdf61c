# Each target makes .venv and installs what it needs; nothing else has to be set up.
PYTHON ?= python3
PIP = .venv/bin/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test bench docs clean

demo: .venv/installed
	.venv/bin/inflate3d demo

test: .venv/installed-dev
	scripts/check
	CHECK_SHAPES=0 .venv/bin/pytest --numprocesses auto --dist loadfile -m 'slow and not long'

bench: .venv/installed-dev
	.venv/bin/python benchmarks

docs: .venv/installed-docs
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict
	@echo "open site/index.html"

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "inflate3d needs Python 3.11 or newer; name one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	@echo "installing inflate3d and what it needs (some GB, minutes) ..."
	$(PIP) install --constraint constraints.txt --editable .
	touch $@

.venv/installed-dev: .venv/installed
	$(PIP) install --constraint constraints.txt --editable '.[dev]'
	@# the client of 3D Slicer's extension, for tests/server, without the server that it comes with and its dependencies
	rm -rf .venv/monailabel
	$(PIP) install --no-deps --target .venv/monailabel monailabel==0.8.5
	touch $@

.venv/installed-docs: .venv/installed
	$(PIP) install --constraint constraints.txt --editable '.[docs]'
	touch $@

clean:
	rm -rf .venv site
