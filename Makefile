# make tables    from nothing to the report of the mini scale        make test      the tests, pip only
# make test-all  also lint, slow, slurm, browser and latex tests (apt)      make lock      resolve requirements.in anew
# make install   the locked packages into .venv and nothing else, as for a cluster; CUDA=12 for nodes with older drivers
# make test-slurm  of these, the tests on a SLURM of their own (root, apt)
PYTHON ?= python3
BIN := .venv/bin
CUDA ?= $(if $(wildcard .venv/.installed-cuda12),12,13)# of torch: what is installed stays
ifeq ($(filter 12 13,$(CUDA)),)
$(error CUDA: expected 12 or 13, found $(CUDA); lct doctor says which one the driver needs)
endif
VARIANT := $(if $(filter 12,$(CUDA)),-cuda12)
LOCK := requirements$(VARIANT).lock
INSTALLED := .venv/.installed$(VARIANT)
SCALE ?= mini
PYTEST := $(BIN)/python -m pytest
PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder# two tests at a time, those of a file one after another
UV := $(BIN)/uv pip compile --universal --python-version 3.11 --fork-strategy fewest --generate-hashes --no-header

.PHONY: install tables test test-all test-slurm lint lock schemas bench clean system-packages

install: $(INSTALLED)
	@echo "Installed in $(CURDIR)/.venv; what a cluster needs next: docs/cluster.md"

tables: $(INSTALLED)
	@$(BIN)/snakemake --config scale=$(SCALE)
	@echo "Report: file://$(CURDIR)/reports/$(SCALE)/index.html"

test: $(INSTALLED)
	@$(PYTEST) $(PARALLEL) -m "not slow and not slurm and not browser and not latex"

test-all: $(INSTALLED) system-packages lint
	@LCT_NO_SKIP=1 $(PYTEST) $(PARALLEL) -m "not slurm"
	@LCT_NO_SKIP=1 $(PYTEST) -m slurm

test-slurm: $(INSTALLED)
	@LCT_NO_SKIP=1 $(PYTEST) -m slurm

lint: $(INSTALLED)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/snakefmt --check Snakefile workflow
	@$(BIN)/snakemake --lint
	@$(BIN)/lint-imports
	@$(BIN)/python workflow/schemas/render.py --check
	@$(BIN)/python workflow/envs/render.py --check
	@$(BIN)/python tests/lint/names.py
	@! grep -rnE "^(from|import) tests\.(unit|workflow|browser|slurm)" tests # helpers live in tests/helpers

$(INSTALLED): $(LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON): expected Python 3.11 or newer, found $$($(PYTHON) --version 2>&1); set PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON): expected the venv module, found none; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing the locked packages into .venv (about 6 GB, a few minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(LOCK)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@rm -f .venv/.installed*
	@touch $@

system-packages:
	@sh tests/system-packages.sh

lock: $(INSTALLED)
	@$(UV) --quiet requirements.in -o requirements.lock
	@$(UV) --quiet requirements.in --constraint requirements-cuda12.in -o requirements-cuda12.lock
	@$(BIN)/python workflow/envs/render.py

schemas: $(INSTALLED)
	@$(BIN)/python workflow/schemas/render.py

clean:
	rm -rf results work logs reports/mini reports/smoke .snakemake

bench: $(INSTALLED)
	@$(BIN)/python benchmarks/speed.py
	@$(BIN)/python benchmarks/startup.py --scale $(SCALE)
	@$(BIN)/python benchmarks/pipeline.py --scale $(SCALE)
	@$(BIN)/python benchmarks/training.py
	@$(BIN)/python benchmarks/audit.py
	@$(BIN)/python benchmarks/lineage.py
	@$(BIN)/python benchmarks/images.py
