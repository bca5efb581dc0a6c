PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: demo test test-faults lint format docs results tables-small clean

demo: $(INSTALLED)   ## train and score the ten digits, write runs/digits/report.html
	$(BIN)/itae run experiments/digits.py --out runs/digits

test: $(INSTALLED)   ## the whole test suite
	$(BIN)/python -m pytest

test-faults: $(INSTALLED)   ## kills, stops and spoils a sweep at random moments, and compares the results
	$(BIN)/python tests/faults.py $(FAULTS)

lint: $(INSTALLED)   ## what CI checks besides the tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(INSTALLED)   ## the documents and the API reference, into site/
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-docs.txt
	$(BIN)/mkdocs build --strict

results: $(INSTALLED)   ## docs/results.md and the table in README.md, from experiments/results/
	$(BIN)/python experiments/publish.py

# make tables-small TABLES="table4 table5" DATA=~/data CIFAR10=~/cifar10 MORE="--classes 0,1"
REDUCED := $(strip $(TABLES) $(if $(DATA),--data "$(DATA)") $(if $(CIFAR10),--cifar10 "$(CIFAR10)") \
  $(if $(IMAGENET),--imagenet "$(IMAGENET)") $(if $(MVTEC),--mvtec "$(MVTEC)") \
  $(if $(SHANGHAITECH),--shanghaitech "$(SHANGHAITECH)") $(MORE))

tables-small: $(INSTALLED)   ## the paper's tables and figures in a form that a CPU can do, into runs/reduced/
	$(BIN)/python experiments/reduced.py $(REDUCED)

clean:
	rm -rf .venv

$(INSTALLED): requirements.txt setup.py
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else f"Python 3.11 to 3.13 is needed, {sys.executable} is {v[0]}.{v[1]}; use make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@
