# Two commands for newcomers: `make demo` and `make test`. Both make the same environment first, once.
PYTHON ?= $(shell for p in python3.11 python3.10 python3; do $$p -c '' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
REQUIREMENTS := setup.py $(wildcard requirements/*.txt)
JOBS ?= 2

.PHONY: demo test lint zoo env clean

env: $(STAMP)

$(STAMP): $(REQUIREMENTS)
	@PYTHON='$(PYTHON)' VENV='$(VENV)' sh tools/make_env.sh
	@touch $@

demo: env
	$(BIN)/python demo/quickstart.py

# The last step builds the wheel and tries it in an environment of its own.
test: env
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m wheel

# Style, format and types of the whole package: as of Python 3.10, but not for the numpy of 3.12 and later, which has no
# types for it.
lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $$($(BIN)/python -c 'import sys; print("--python-version=3.10" * (sys.version_info < (3, 12)))')

# The models that ship, from nothing: hours, may be interrupted. BACKGROUNDS: a folder of photographs without people.
zoo: env
	@test -d "$${BACKGROUNDS:-}" || { echo "error: BACKGROUNDS=$$BACKGROUNDS is no folder" >&2; exit 2; }
	PYTHON=$(BIN)/python tools/zoo/render.sh
	PYTHON=$(BIN)/python tools/zoo/train.sh
	PYTHON=$(BIN)/python tools/zoo/detector.sh

clean:
	rm -rf $(VENV) build *.egg-info
