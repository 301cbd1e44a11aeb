# Every target makes the virtual environment by plain pip when it is missing or out of date.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# One thread for each worker, none of which spins while it waits.
ONE_THREAD := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE
# Each worker begins with half of the files, so that what a file shares is made once.
TWO := -n 2 --dist worksteal

.PHONY: demo test check fast clean

demo: $(STAMP)
	$(BIN)/fewstep demo

test: $(STAMP)
	$(ONE_THREAD) $(BIN)/python -m pytest $(TWO)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(MAKE) fast

fast: $(STAMP)
	$(ONE_THREAD) $(BIN)/python -m pytest $(TWO) -m "not slow"

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .import_linter_cache src/*.egg-info
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -e '.[dev]'
	touch $(STAMP)
