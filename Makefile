# make demo | test | bench | lint | venv     Arguments go through ARGS, for example: make demo ARGS="frames:=90"
PYTHON ?= python3
ARGS ?=
# More arguments for pip, for example --extra-index-url with PyTorch's index of CPU wheels.
PIP_ARGS ?=
EXTRAS := embedded,hands,onnx,viewer,sim,smplx,scale,lerobot,hdf5,retarget,build-hand,lint,test

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Processes that share the tests. Each file stays in one of them.
JOBS ?= 2
# Tests and benchmarks count on one thread per process: torch and numba would take the cores from each other.
ONE_THREAD := OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=2

.DEFAULT_GOAL := help
.PHONY: help demo test bench lint venv models packages clean

help:
	@sed -n '1p' Makefile | cut -c3-

demo: venv models
	@$(BIN)/grasp-nodes demo $(ARGS)

test: venv models
	@.ci/debian_packages.sh test || true
	@$(ONE_THREAD) $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --cov --cov-report=term --durations=25 $(ARGS)

bench: venv models
	@for name in $$($(BIN)/python -c 'from benchmarks.__main__ import names; print(*names())'); do $(BIN)/python -m benchmarks $$name $(ARGS) || exit 1; done

lint: venv
	@status=0; for check in "ruff check ." "ruff format --check ." mypy "lint-imports --no-cache --no-logo"; do \
		$(BIN)/$$check || status=1; done; exit $$status

venv: packages $(INSTALLED)

packages:
	@.ci/debian_packages.sh demo || true

# Made again when the list of packages changes. Without an NVIDIA driver the pinned torch is taken first: the newest one
# of the index may bring gigabytes of CUDA libraries.
$(INSTALLED): pyproject.toml setup.py
	@test -x $(BIN)/python || $(PYTHON) -c 'import ensurepip' 2>/dev/null || .ci/debian_packages.sh venv
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing Python packages into $(VENV): some minutes, and silent"
	@command -v nvidia-smi >/dev/null 2>&1 || $(PIP) install --quiet $(PIP_ARGS) torch==2.13.0
	@$(PIP) install --quiet $(PIP_ARGS) --editable '.[$(EXTRAS)]'
	@touch $@

# The two hand-landmark models, checked by their SHA-256 and kept in the user's cache.
models: venv
	@$(BIN)/python -c 'from grasp_nodes.perception.model_files import fetch_hand_models as fetch; fetch()'

clean:
	rm -rf build dist *.egg-info ros2_ws/build ros2_ws/install ros2_ws/log .pytest_cache .mypy_cache .ruff_cache .coverage
