# make demo: the whole road on a trained model and real photos, results in demo-output/
# make test: every test that this machine can run; says what it skips and why
# make docs: the docs as a site in build/site, which opens from the folder; a warning is an error

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
BUILD  := build/native

.PHONY: demo test test-python test-native test-runtimes lint format generate docs clean

demo: $(STAMP)
	$(BIN)/pagdeploy demo -o demo-output

test: test-native test-python

test-python: $(STAMP)
	$(BIN)/python -m pytest -n auto

# The native parts are optional: without a compiler everything else still works.
test-native: $(STAMP)
	@if ! command -v c++ >/dev/null; then \
	    echo "skipped the native tests: no C++ compiler (c++) on the PATH"; \
	else \
	    $(BIN)/cmake -S . -B $(BUILD) -DCMAKE_BUILD_TYPE=Debug -DPAGDEPLOY_BUILD_TESTS=ON \
	        -DPython3_EXECUTABLE=$(abspath $(BIN))/python && \
	    $(BIN)/cmake --build $(BUILD) --parallel && \
	    $(BIN)/ctest --test-dir $(BUILD) --output-on-failure --no-tests=error; \
	fi

# Portable and lowered models in stock onnxruntime of other versions, with no pagdeploy beside it.
test-runtimes: $(STAMP)
	$(BIN)/python tests/portable/run_versions.py 1.16.3 1.20.1 1.31.1
	$(BIN)/python tests/portable/run_lowered.py 1.16.3 1.20.1 1.31.1

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest tests/house

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

generate: $(STAMP)
	$(BIN)/python -m pagdeploy.ops

docs: $(STAMP)
	@[ -x $(BIN)/mkdocs ] || { echo "the site needs Python 3.11 or later; set PYTHON=python3.12, say"; exit 1; }
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 10) <= v <= (3, 13) else \
	    "pagdeploy needs Python 3.10 to 3.13, and $(PYTHON) is %d.%d; set PYTHON=python3.12, say" % v)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $(STAMP)

clean:
	rm -rf build dist demo-output $(VENV)
