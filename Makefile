# romosaic: the commands of the workflow. `make` lists them.

PYTHON = python3
CORES = 2
ARGS =
BENCHMARK = pixel_steps

# The environment of another Python than the usual one stands beside the usual one.
ifeq ($(PYTHON),python3)
VENV = .venv
else
VENV := .venv-$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
endif
RUN = $(VENV)/bin/python -m

.PHONY: help venv demo test slurm benchmark lint format config lock clean

help: ## list the commands
	@echo "usage: make COMMAND [CORES=2] [PYTHON=python3] [ARGS=...]"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1|\2/p' Makefile | awk -F'|' '{printf "%-12s%s\n", $$1, $$2}'

venv: ## make .venv from envs/requirements.txt if it does not follow it yet
	@command -v $(PYTHON) >/dev/null || \
	  { echo "romosaic: no $(PYTHON) found -> name one, as in: make test PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) envs/make_venv.py $(VENV)

demo: venv ## simulate Roman exposures and mosaic them (CORES=2); results in results/demo/
	@$(RUN) snakemake --cores $(CORES) --configfile config/demo.yaml $(ARGS)

test: venv ## run the tests, on CORES=2 (ARGS="-k flux -x")
	@$(RUN) pytest -n $(CORES) --dist loadfile --no-loadscope-reorder $(ARGS)

slurm: venv ## run on a real Slurm of one node, made for it (root on Debian or Ubuntu; 4 minutes)
	@$(RUN) pytest tests/slurm $(ARGS)

benchmark: venv ## costs and quality beside romancal (ARGS="--only cell", BENCHMARK=source_catalog); writes docs/
	@PYTHONPATH=scripts:tests $(VENV)/bin/python tests/benchmarks/$(BENCHMARK).py \
	  $(if $(filter pixel_steps,$(BENCHMARK)),--cores $(CORES)) $(ARGS)

lint: venv ## check style, format, docstrings and the workflow
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) snakefmt --check Snakefile rules
	$(RUN) numpydoc lint scripts/romosaic/*.py
	$(RUN) snakemake --lint --configfile config/demo.yaml

format: venv ## format Python, Snakefile and rules
	$(RUN) ruff check --fix --select I .
	$(RUN) ruff format .
	$(RUN) snakefmt Snakefile rules

config: venv ## write config.schema.json and the reference table from romosaic.config
	@PYTHONPATH=scripts $(RUN) romosaic.config_docs

# Resolving needs uv, installing does not: uv lives in a throw-away environment. Pins are kept where they
# still fit; ARGS=--upgrade takes the newest versions.
lock: ## resolve envs/requirements.in (ARGS=--upgrade, or ARGS="--upgrade-package numpy")
	@echo "romosaic: resolving envs/requirements.in for Python 3.11 to 3.14"
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && \
	$(PYTHON) -m venv "$$tmp" && \
	"$$tmp/bin/python" -m pip install --quiet --disable-pip-version-check uv packaging && \
	"$$tmp/bin/uv" pip compile --quiet envs/requirements.in --output-file envs/requirements.txt \
	  --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --custom-compile-command "make lock" $(ARGS) && \
	"$$tmp/bin/python" envs/make_environment.py && \
	for version in 3.11 3.12 3.13 3.14; do \
	  if [ $$version = 3.14 ]; then sources="--no-binary immutables"; else sources=; fi; \
	  "$$tmp/bin/uv" pip install --quiet --dry-run --require-hashes --target "$$tmp/none" \
	    --python-version $$version --python-platform x86_64-manylinux_2_28 \
	    --only-binary :all: --no-binary connection-pool $$sources -r envs/requirements.txt && \
	  echo "romosaic: Python $$version: wheels for all but connection-pool $${sources#--no-binary}" || exit 1; \
	done

clean: ## remove environments, caches and results/demo (no other results)
	rm -rf .venv .venv-* results/demo .pytest_cache .ruff_cache .hypothesis
	find scripts tests envs -name __pycache__ -type d -prune -exec rm -rf {} +
