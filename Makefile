# make demo   set up, then tune, build, run and report a transformer block on the device found
# make test   set up, then run every test that needs no GPU, in TESTERS processes side by side
PYTHON  ?= python3
VENV    ?= .venv
TESTERS ?= 2
RUN      = $(VENV)/bin/python

# Processes that tests start find the package compiled.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo test lint types clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt scripts/setup.sh
	@PYTHON="$(PYTHON)" VENV="$(VENV)" bash scripts/setup.sh

demo: setup
	@PYTHON="$(RUN)" bash examples/demo.sh

test: setup
	$(RUN) -m pytest --numprocesses $(TESTERS) --dist worksteal

lint: setup
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

types: setup
	$(RUN) -m mypy

clean:
	rm -rf $(VENV) build dist *.egg-info runs
