# make setup        the environment in .venv (about three minutes; a second call is instant)
# make test         lint, types, tests and documentation, as CI runs them; each says how long it took
# make demo         street scenes, a teacher, a plain and a distilled student, and a report: TASK=detection,
#                   segmentation or depth; again goes on where it stopped
# make docs         the documentation in site/, without a warning
# make test-legacy  the tests again with the oldest PyTorch that is supported, in .venv-legacy
# make test-forks   the tests again with the maintained forks of OpenMMLab, in .venv-forks
# make test-zero    the tests of training under DeepSpeed, in .venv-zero: .venv and DeepSpeed, which every process would import
# make test-gpu     the tests that need a GPU: streams, CUDA graphs, waiting; in .venv
PYTHON ?= python3
VENV := .venv
LEGACY := .venv-legacy
FORKS := .venv-forks
ZERO := .venv-zero
# Tiny models gain nothing from threads, and two test processes share the machine better without. Python keeps what it
# has compiled, also where the environment says otherwise: the tests start some hundred processes.
TEST_ENV := OMP_NUM_THREADS=1 KMP_BLOCKTIME=0 PYTHONDONTWRITEBYTECODE=
# Tests that share trained runs stay in one process (tests/conftest.py); the parts with the longest tests come first.
IN_TWO := --numprocesses 2 --dist loadscope --no-loadscope-reorder
TEST_OPTIONS ?=
TASK ?= detection
SHELL := bash
TIMED = TIMEFORMAT='$@: %0R seconds' && time

.PHONY: setup demo test lint types unit docs test-legacy test-forks test-zero test-gpu format clean

setup: $(VENV)/.done

$(VENV)/.done: setup.cfg setup.py pyproject.toml requirements/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --constraint requirements/constraints.txt setuptools wheel
	$(VENV)/bin/pip install --quiet --constraint requirements/constraints.txt --no-build-isolation \
	    --editable '.[detection,segmentation,lite,weights,foundation,onnx,search,test,lint,docs]'
	$(VENV)/bin/python -m kddense.compat install
	touch $@

demo: setup
	$(VENV)/bin/python tools/demo.py --task $(TASK)

test: lint types unit docs

lint: setup
	$(TIMED) ($(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .)

types: setup
	$(TIMED) $(VENV)/bin/mypy

unit: setup
	$(TIMED) env $(TEST_ENV) $(VENV)/bin/pytest $(IN_TWO) $(TEST_OPTIONS)

docs: setup
	$(TIMED) env NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --quiet --strict

test-legacy: $(LEGACY)/.done
	$(TIMED) env $(TEST_ENV) $(LEGACY)/bin/pytest $(IN_TWO) $(TEST_OPTIONS)

$(LEGACY)/.done: setup.cfg setup.py pyproject.toml requirements/constraints-legacy.txt
	$(PYTHON) -m venv $(LEGACY)
	$(LEGACY)/bin/pip install --quiet --constraint requirements/constraints-legacy.txt setuptools wheel
	$(LEGACY)/bin/pip install --quiet --constraint requirements/constraints-legacy.txt --no-build-isolation \
	    --editable '.[detection,segmentation,lite,weights,foundation,onnx,test,docs]'
	$(LEGACY)/bin/python -m kddense.compat install
	touch $@

test-forks: $(FORKS)/.done
	$(TIMED) env $(TEST_ENV) $(FORKS)/bin/pytest $(IN_TWO) $(TEST_OPTIONS)

# mmcv-lite alone: it requires stock mmengine, which would be written over the fork's.
$(FORKS)/.done: setup.cfg setup.py pyproject.toml requirements/constraints-forks.txt
	$(PYTHON) -m venv $(FORKS)
	$(FORKS)/bin/pip install --quiet --constraint requirements/constraints-forks.txt setuptools wheel
	$(FORKS)/bin/pip install --quiet --constraint requirements/constraints-forks.txt --no-build-isolation \
	    --editable '.[forks,weights,foundation,onnx,search,test,docs]'
	$(FORKS)/bin/pip install --quiet --constraint requirements/constraints-forks.txt --no-deps mmcv-lite
	$(FORKS)/bin/python -m kddense.compat install
	touch $@

test-zero: $(ZERO)/.done
	$(TIMED) env $(TEST_ENV) $(ZERO)/bin/python -m pytest -p no:xdist tests/contracts/test_sharded.py tests/training/test_zero.py $(TEST_OPTIONS)

# Built without its kernels; what .venv has is not installed again, kddense itself included, whose folder a .pth file names there.
$(ZERO)/.done: $(VENV)/.done
	$(VENV)/bin/python -m venv $(ZERO)
	$(VENV)/bin/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
	    > "$$($(ZERO)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/of_venv.pth"
	DS_BUILD_OPS=0 DS_ACCELERATOR=cpu $(ZERO)/bin/pip install --quiet --constraint requirements/constraints.txt \
	    --no-build-isolation deepspeed
	touch $@

test-gpu: setup
	$(TIMED) $(VENV)/bin/pytest -p no:xdist tests/gpu $(TEST_OPTIONS)

format: setup
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:
	rm -rf $(VENV) $(LEGACY) $(FORKS) $(ZERO) .mypy_cache .pytest_cache .ruff_cache .hypothesis build site *.egg-info
