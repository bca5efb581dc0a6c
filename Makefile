PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: install demo test test-faults lint format docs results clean

install: $(INSTALLED)   ## the packages, into .venv

demo: install   ## train and score the ten digits, write runs/digits/report.html
	$(BIN)/itae run digits --out runs/digits

test: install   ## the whole test suite; later runs find their programs compiled
	$(BIN)/python -m pytest

test-faults: $(INSTALLED)   ## kill, stop and damage a sweep at random moments, and compare the results
	$(BIN)/python tests/faults.py $(FAULTS)

lint: $(INSTALLED)   ## style, layers of imports, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(INSTALLED)   ## the documents and the API reference, into site/
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-docs.txt
	$(BIN)/mkdocs build --strict

results: $(INSTALLED)   ## docs/results.md, docs/speed.md and the table in README.md, from experiments/results/
	$(BIN)/python experiments/scripts/publish.py

clean:
	rm -rf .venv

$(INSTALLED): requirements.txt requirements-dev.txt setup.py
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 14) else f"Python 3.11 to 3.14 is needed, {sys.executable} is {v[0]}.{v[1]}; use make PYTHON=python3.11")'
	@echo "installing the packages into .venv, a minute or two"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-dev.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@
