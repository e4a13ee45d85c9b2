# make demo   installs what the product needs (no torch) and runs four jobs through the real daemon, in demo-home
# make test   installs what the tests need and runs them all, with coverage
# make lint   format, lint, types and file hygiene; puts right what it can, and fails if it had to
# make docs   builds the documentation site into site/; a broken link is a fault
# make docs-tables  writes .env.example and the README's table of back ends from what the code says
# make hooks  makes git do what lint does, for the files of each commit
# make audit  looks the pinned packages up in the known vulnerabilities; needs the network
# make up     web UI and daemon on 127.0.0.1
# make clean  removes what these made

PYTHON ?= python3.11
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
WORKERS ?= auto

.PHONY: help demo test lint docs docs-tables hooks audit up clean

help:
	@sed -n '/^#/!q; s/^# //p' Makefile

demo: .venv/installed-base
	$(BIN)/fc demo

test: .venv/installed-test
	$(BIN)/python -m pytest -n $(WORKERS) --cov --cov-report=term --cov-fail-under=85

lint: .venv/installed-test
	$(BIN)/pre-commit run --all-files --show-diff-on-failure

hooks: .venv/installed-test
	$(BIN)/pre-commit install

docs: .venv/installed-docs
	$(BIN)/zensical build --strict --clean

docs-tables: .venv/installed-base
	$(BIN)/python -m jobs.docs_tables

# In an environment of its own, for it is no part of the tests. --strict: a package that cannot be looked up is a fault.
audit:
	$(PYTHON) -m venv .audit
	.audit/bin/python -m pip --disable-pip-version-check install --quiet pip-audit
	.audit/bin/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt

up: .venv/installed-base
	$(BIN)/fc up

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed-base: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) --editable '.[demo]'
	touch $@

.venv/installed-test: .venv/installed-base
	$(PIP) --editable '.[test]'
	touch $@

.venv/installed-docs: .venv/installed-base
	$(PIP) --editable '.[docs]'
	touch $@

clean:
	rm -rf .venv .audit site .cache demo-home .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage* *.egg-info
