# The whole life of the project: run `make` to see what there is.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# More arguments for pytest, and for the real-data run.
TEST_FLAGS ?=
REAL_FLAGS ?=
# What make bench runs: all but what has a target of its own.
BENCHMARKS ?= $(filter-out gpu_check,$(patsubst benchmarks/%.py,%,$(wildcard benchmarks/[!_]*.py)))

# Servers that the tests of gs:// and of Prism talk to; in a cache, since building them takes minutes.
CACHE := $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)
BEAM := $(shell sed -n 's/^apache-beam==//p' constraints.txt)
FAKE_GCS := v1.56.1
TOOLS := $(if $(DLTS_TOOLS),$(DLTS_TOOLS),$(CACHE)/dlts-beam/tools-$(BEAM))

.DEFAULT_GOAL := help
.PHONY: help venv tools demo test lint bench gpu-check image-check flex-templates flink-test real clean

help:
	@echo "make venv    make $(VENV) with everything pinned (PYTHON=python3.12 to choose the interpreter)"
	@echo "make demo    run the four steps on a synthetic scene and show how well it went"
	@echo "make tools   build the servers that some tests need, Prism and a stand-in for gs://, with Go"
	@echo "make test    run the whole test suite (TEST_FLAGS='-k storage' for some of it)"
	@echo "make lint    ruff and mypy"
	@echo "make bench   run every benchmark (BENCHMARKS='classify memory' for some of them)"
	@echo "make gpu-check  measure training and the serving models on a GPU, where there is one"
	@echo "make image-check  install and import what the images do, in clean environments (minutes)"
	@echo "make flex-templates  write deploy/dataflow/*.json anew from the commands' flags"
	@echo "make real    run the four steps on the real series in ../shared/data"
	@echo "make flink-test  run the steps on a real Flink on this machine, which needs Java 17"
	@echo "make clean   remove $(VENV), builds and caches"

venv: $(INSTALLED)

$(INSTALLED): setup.py constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "error: there is no $(PYTHON): install Python 3.11, 3.12 or 3.13, or name one with make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else "error: dlts-beam needs Python 3.11, 3.12 or 3.13, and $(PYTHON) is %d.%d: name another with make PYTHON=..." % v)'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "error: $(PYTHON) cannot make virtual environments: install its venv package (python3-venv on Debian and Ubuntu)" >&2; exit 1; }
	@echo "Installing dlts-beam and all it needs into $(VENV): a few minutes, once"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all]'
	@touch $@

tools: $(TOOLS)/prism $(TOOLS)/fake-gcs-server

$(TOOLS)/prism: MODULE = github.com/apache/beam/sdks/v2/go/cmd/prism@v$(BEAM)
$(TOOLS)/fake-gcs-server: MODULE = github.com/fsouza/fake-gcs-server@$(FAKE_GCS)
$(TOOLS)/%:
	@command -v go >/dev/null || { echo "error: there is no go: install Go 1.26 or newer, which builds $(@F)" >&2; exit 1; }
	@echo "Building $(@F) into $(TOOLS): a minute or two, once"
	@GOBIN=$(TOOLS) go install $(MODULE)

demo: venv
	@$(BIN)/dlts demo

test: venv
	$(BIN)/python -m pytest $(TEST_FLAGS)

lint: venv
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: venv
	@set -e; for name in $(BENCHMARKS); do echo "== $$name"; $(BIN)/python -m "benchmarks.$$name"; done

gpu-check: venv
	@$(BIN)/python -m benchmarks.gpu_check

image-check: venv
	@$(BIN)/python -m deploy.image_check

flex-templates: venv
	@$(BIN)/python -m pipelines.flex_template

real: venv
	@$(BIN)/python -m pipelines.real $(REAL_FLAGS)

flink-test: venv
	@$(BIN)/python -m tests.flink

clean:
	rm -rf $(VENV) .cache build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
