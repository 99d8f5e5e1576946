# PYTHON=  the interpreter .venv is made from (default: the first of CANDIDATES that fits)
# HASHES=  no: make venv resolves the ranges of pyproject.toml, and what is downloaded is not compared with known hashes
# ARGS=    further arguments, e.g. make train ARGS="--trainer.max_epochs 2", make test ARGS="-k samplers"
PYTHON ?=
HASHES = yes
ARGS =

CANDIDATES = python3 python3.11 python3.12 python3.13 python3.14
# A name on PATH may be a shim that does not start, or a Python without venv: ask each one itself.
FITS = -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))'
BIN = .venv/bin
PIP = $(BIN)/python -m pip
# Written last, so that its presence means a complete install.
STAMP = .venv/.complete

.DEFAULT_GOAL := help
.PHONY: help venv train study bench test test-slow docs lint format clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

venv: $(STAMP)  ## make or update .venv (PYTHON= chooses the interpreter)

# A complete .venv is updated in place. One without its stamp was interrupted: start again from nothing.
# Every file that is downloaded has its SHA-256 in requirements-dev.txt, for all systems and versions of Python, or in
# requirements-cpu.txt; the build needs nothing that is not in them. They are whole, so nothing is resolved (--no-deps).
# A torch of the pinned version for CPUs or another CUDA (its version has a +) stays, without torch's CUDA packages of the
# list. These hashes are for this environment only: users of the package install from the ranges of pyproject.toml.
# Where torchvision does not import by itself, its import is mended for every program of .venv: the order of imports is
# then free, and `import lightning` alone works too.
$(STAMP): pyproject.toml constraints.txt requirements-dev.txt requirements-cpu.txt
	@test -e $@ && $(BIN)/python -c '' || { \
	    for python in $(or $(PYTHON),$(CANDIDATES)); do \
	        if "$$python" $(FITS) 2>/dev/null; then exec "$$python" -m venv --clear .venv; fi; \
	    done; \
	    echo "thermoebm needs Python 3.11 or newer with its venv module: none of" \
	        "$(or $(PYTHON),$(CANDIDATES)) is one; name yours with make venv PYTHON=/path/to/python." >&2; \
	    exit 1; }
	@rm -f $@
ifeq ($(HASHES),no)
	$(PIP) install -q -c constraints.txt -e ".[dev]"
else
	@$(PIP) install -q --no-deps --require-hashes -r requirements-cpu.txt 2>/dev/null || true
	@without='^$$'; \
	    if $(PIP) list --format=freeze | grep -qF "$$(grep '^torch==' constraints.txt)+"; then \
	        without='^(cuda|nvidia|triton)'; \
	    fi; \
	    awk -v without="$$without" '/^[a-z]/ { left_out = $$0 ~ without } !left_out' requirements-dev.txt \
	        > .venv/requirements.txt
	$(PIP) install -q --no-deps --require-hashes -r .venv/requirements.txt || { \
	    echo "What requirements-dev.txt lists cannot be installed here: it is for Python 3.11 to 3.14 and for an index" \
	        "with the files of PyPI; make venv HASHES=no installs what fits, without comparing hashes." >&2; \
	    exit 1; }
	$(PIP) install -q --no-deps --no-build-isolation -e .
endif
	@$(BIN)/python -c "import torchvision" 2>/dev/null || $(BIN)/python -c \
	    "from thermoebm.runtime import torchvision; torchvision.install_in_environment()"
	@touch $@

train: $(STAMP)  ## train on the digits (ARGS= goes to train.py)
	$(BIN)/python train.py fit --config configs/digits.yaml $(ARGS)

study: $(STAMP)  ## run the study of the digits and make its page (ARGS= goes to python -m thermoebm.study run)
	$(BIN)/python -m thermoebm.study run configs/study/digits.yaml $(ARGS)

test: $(STAMP)  ## run the tests but those that take minutes, a process on each core (ARGS= goes to pytest)
	$(BIN)/python -m pytest -n logical --dist worksteal -m "not slow" $(ARGS)

test-slow: $(STAMP)  ## run the tests that take minutes: trainings to their end (ARGS= goes to pytest)
	$(BIN)/python -m pytest -n logical --dist loadfile -m slow $(ARGS)

bench: $(STAMP)  ## measure speed, precision and loading (ARGS= goes to python -m benchmarks)
	$(BIN)/python -m benchmarks $(ARGS)
	$(BIN)/python -m benchmarks.precision
	$(BIN)/python benchmarks/extrapolation_cost.py
	$(BIN)/python benchmarks/data_loading.py

docs: $(STAMP)  ## build the site into site/, every warning an error (open site/index.html)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

lint: $(STAMP)  ## check style, formatting and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy thermoebm

format: $(STAMP)  ## apply the fixes and the formatting of ruff
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:  ## remove .venv, caches and build products; runs/, studies/ and data/ stay
	rm -rf .venv build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . \( -path ./.git -o -path ./runs -o -path ./studies -o -path ./data \) -prune \
	    -o -type d -name __pycache__ -prune -exec rm -rf {} +
