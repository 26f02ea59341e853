# Two commands for newcomers: `make demo` and `make test`. Both make the same environment first, once.
PYTHON ?= $(shell for p in python3.11 python3.10 python3; do $$p -c '' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
REQUIREMENTS := setup.py $(wildcard requirements/*.txt)

.PHONY: demo test env clean

env: $(STAMP)

$(STAMP): $(REQUIREMENTS)
	@PYTHON='$(PYTHON)' VENV='$(VENV)' sh tools/make_env.sh
	@touch $@

demo: env
	$(BIN)/python demo/quickstart.py

test: env
	$(BIN)/python -m pytest $(PYTEST_ARGS)

clean:
	rm -rf $(VENV) build *.egg-info
