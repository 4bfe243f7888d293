# `make` prints this help.

SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null)
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help run test check format lint types bench bench-smoke lock docs images clean

help: ## Print this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo '  Options go in ARGS: make run ARGS="--replicas 4 --rate 5000 --duration 20"'

run: $(VENV)/ready ## Run the whole pipeline here, with its own Redis, and prove that nothing is missing
	@$(BIN)/python -m services.ops run $(ARGS)

test: $(VENV)/ready ## Run all tests, and print the coverage
	@rm -f .coverage .coverage.*
	@$(BIN)/coverage run -m pytest $(ARGS)
	@$(BIN)/coverage combine -q
	@$(BIN)/coverage report

check: lint types test ## What CI checks: format, lint, layers, types, tests

format: $(VENV)/ready ## Format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lint: $(VENV)/ready ## Check format, lint and layers
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports

types: $(VENV)/ready ## Check the types
	@$(BIN)/mypy

bench: $(VENV)/ready ## Measure, and write docs/benchmarks.md (half an hour)
	@$(BIN)/python -m services.ops bench $(ARGS)

bench-smoke: $(VENV)/ready ## See that every benchmark still runs (a minute)
	@$(BIN)/python -m services.ops bench --smoke $(ARGS)

docs: $(VENV)/ready ## Write what is made from the code: settings, metrics, .env.example
	@$(BIN)/python -m services.ops settings --into docs/settings.md
	@$(BIN)/python -m services.ops settings --into README.md
	@$(BIN)/python -m services.ops settings --env-example > .env.example
	@$(BIN)/python -m services.ops metrics --markdown > docs/metrics.md

# No index address and no machine's path gets into a lock: it installs from wherever pip is set up to.
COMPILE = $(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command 'make lock' pyproject.toml

lock: ## Lock the dependencies again (needs uv): one file for each image, one for development
	@test -n "$(UV)" || { echo "make lock needs uv: https://docs.astral.sh/uv"; exit 1; }
	@$(COMPILE) -o requirements/producer.txt
	@$(COMPILE) --extra ops -o requirements/consumer.txt
	@$(COMPILE) --all-extras -o requirements/dev.txt

IMAGE_TAG ?= dev
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"$$/\1/p' services/__init__.py)
REVISION = $(shell git describe --always --dirty --abbrev=40 --exclude='*' 2>/dev/null || echo unknown)

images: ## Build both container images (needs Docker)
	@for service in producer consumer; do \
		docker build --quiet --file Dockerfile.$$service --tag telemetry-$$service:$(IMAGE_TAG) \
			--build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) $(ARGS) . || exit 1; \
	done

clean: ## Remove what was made here, but for the data
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.* \
		build *.egg-info

# The stamp is newer than all that decides what is in the environment: a second `make run` installs nothing.
$(VENV)/ready: requirements/dev.txt pyproject.toml
ifdef UV
	@$(UV) venv -q --allow-existing $(VENV)
	@VIRTUAL_ENV=$(VENV) $(UV) pip sync -q --require-hashes requirements/dev.txt
	@VIRTUAL_ENV=$(VENV) $(UV) pip install -q --no-deps --no-build-isolation -e .
else
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	@$(PYTHON) -m venv $(VENV)
	@echo "installing what is needed into $(VENV), once"
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes --only-binary :all: -r requirements/dev.txt
	@$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
endif
	@touch $@
