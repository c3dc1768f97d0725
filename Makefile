# Works on a fresh machine with only Python (3.11 or newer) and git:
#   make demo     the whole way, in minutes: speech, store, model, report
#   make test     the test suite
#   make check    format, lint, types, import contracts
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH := 2.13.0
READY := $(VENV)/.ready

.PHONY: demo test test-slow test-gpu check format clean

demo: $(READY)
	$(BIN)/sodakit demo $(ARGS)

test: $(READY)
	$(BIN)/python -m pytest -n auto --maxprocesses=8 --dist=loadfile $(ARGS)

test-slow: $(READY)
	$(BIN)/python -m pip install -q -e ".[ray]"
	$(BIN)/python -m pytest -m slow $(ARGS)

test-gpu: $(READY)
	$(BIN)/python -m pytest -m gpu $(ARGS)

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# torch first, and its CPU build where there is no GPU: asked for later, it would bring gigabytes of CUDA along.
$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	if command -v nvidia-smi >/dev/null; then \
	  $(BIN)/python -m pip install -q "torch==$(TORCH)"; \
	else \
	  $(BIN)/python -m pip install -q "torch==$(TORCH)+cpu" 2>/dev/null \
	  || $(BIN)/python -m pip install -q "torch==$(TORCH)" --index-url https://download.pytorch.org/whl/cpu 2>/dev/null \
	  || $(BIN)/python -m pip install -q "torch==$(TORCH)"; \
	fi
	$(BIN)/python -m pip install -q -e ".[voices,serve,dev]"
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .import_linter_cache
