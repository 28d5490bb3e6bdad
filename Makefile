# make demo   sets up a virtual environment and runs the main job (needs Python 3.11+, pip, make)
# make test   sets up the same with the test tools and runs the tests

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test lint claims clean

demo: $(VENV)/.demo
	$(BIN)/lexivox demo --out runs/demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright

claims: $(VENV)/.demo
	$(BIN)/python benchmarks/pop3d_claims.py

$(VENV)/.demo: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e ".[demo]"
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e ".[dev]"
	touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) runs
