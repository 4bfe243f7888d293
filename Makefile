# `make` prints this help.

SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(shell command -v uv 2>/dev/null)
ARGS ?=
STORM_S ?= 60
WORKERS ?= 3

.DEFAULT_GOAL := help
.PHONY: help run observe test coverage storm check format lint types bench bench-smoke lock docs site recording images cluster load deploy logs undeploy \
	dev chart-docs rendered dashboards pictures clean

help: ## Print this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo '  Options go in ARGS: make run ARGS="--replicas 4 --rate 5000 --duration 20"'
	@echo
	@echo '  On Kubernetes, with their defaults:'
	@awk -F ' [?]= |  *## ' '/^[A-Z_]+ [?]= .*## / { printf "  %-14s %-10s %s\n", $$1, $$2, $$3 }' $(MAKEFILE_LIST)

run: $(VENV)/runs ## Run the whole pipeline here, with its own Redis, and prove that nothing is missing
	@$(BIN)/python -m services.ops run $(ARGS)

observe: $(VENV)/ready ## See what `make run` does: Grafana and the rest with Docker, else Prometheus, until Ctrl-C
	@exec $(BIN)/python -m charts.observe $(ARGS)

# A file stays with one worker: its tests share their servers. What runs whole pipelines has more of the machine, and
# what runs dozens of them at once has all of it.
PIPELINES = tests/acceptance
CROWDS = tests/alerts
TOGETHER = -n $(strip $(WORKERS)) --dist loadfile $(patsubst %,--ignore=%,$(PIPELINES) $(CROWDS))

test: $(VENV)/ready ## Run all tests; WORKERS (3) files at a time where that is safe
	@$(BIN)/pytest $(or $(strip $(ARGS)),$(TOGETHER))
	@$(if $(strip $(ARGS)),,$(BIN)/pytest -n 2 --dist loadfile $(PIPELINES))
	@$(if $(strip $(ARGS)),,$(BIN)/pytest $(CROWDS))

# Lines are counted by night: it makes the tests half as long again. The pipelines are left out; the other tests reach
# nearly all of it.
coverage: $(VENV)/ready ## Run the tests but for whole pipelines, and print the lines that none of them reaches
	@rm -f .coverage .coverage.*
	@$(BIN)/coverage run -m pytest $(TOGETHER)
	@$(BIN)/coverage combine -q
	@$(BIN)/coverage report --fail-under=90

storm: $(VENV)/ready ## Run the long storms and rare faults, STORM_S seconds each
	@STORM_S=$(strip $(STORM_S)) $(BIN)/pytest -m storm tests/acceptance $(ARGS)

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
	@PYTHONPATH=tests $(BIN)/python -m bench $(ARGS)

bench-smoke: $(VENV)/ready ## See that every benchmark still runs (a minute)
	@PYTHONPATH=tests $(BIN)/python -m bench --smoke $(ARGS)

docs: $(VENV)/ready ## Write what is made from the code: settings, metrics, log messages, alerts, users, .env.example
	@$(BIN)/python -m services.ops settings --into docs/settings.md
	@$(BIN)/python -m services.ops settings --env-example > .env.example
	@$(BIN)/python -m services.ops metrics --markdown > docs/metrics.md
	@$(BIN)/python -m services.ops messages --into docs/logs.md
	@$(BIN)/python -m charts.alerts > docs/alerts.md
	@$(BIN)/python -m charts.users

site: $(VENV)/ready ## Make the site of the docs in build/site; a broken link is an error
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --config-file website/mkdocs.yml $(ARGS)
	@echo 'made; to read it: python3 -m http.server --bind 127.0.0.1 --directory build/site'

recording: $(VENV)/ready ## Record a run in a terminal as docs/recording.svg
	@$(BIN)/python -m website.recording $(ARGS)

# No index address and no machine's path gets into a lock: it installs from wherever pip is set up to.
COMPILE = $(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command 'make lock' pyproject.toml

lock: ## Lock the dependencies again (needs uv): one file for each image, one for `make run`, one for development
	@test -n "$(UV)" || { echo "make lock needs uv: https://docs.astral.sh/uv"; exit 1; }
	@$(COMPILE) --extra http --extra mqtt -o requirements/producer.txt
	@$(COMPILE) --extra ops --extra postgres -o requirements/consumer.txt
	@$(COMPILE) --all-extras -o requirements/dev.txt
	@$(COMPILE) --extra ops --extra embedded --extra postgres --extra http --extra mqtt --extra editable -o requirements/run.txt

VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"$$/\1/p' services/__init__.py)
REVISION = $(shell git describe --always --dirty --abbrev=40 --exclude='*' 2>/dev/null || echo unknown)
# Nothing that holds a password, nor a folder of this machine.
SOURCE = $(shell git config --get remote.origin.url 2>/dev/null | grep -E '^https://[^@]*$$')
SERVICES = producer consumer
CHART = charts/telemetry-pipeline

IMAGE_TAG ?= dev           ## Tag that images are built with; they get the version as well
TAG ?=                     ## Tag that is loaded and deployed; empty: the version, as in the chart
CLUSTER ?= kind            ## kind, minikube, or registry: where images are loaded to
REGISTRY ?=                ## Registry before the names of our images: registry.example.com/me
LOAD ?=                    ## Command that loads the image after it, for any other cluster
RELEASE ?= demo            ## Name of the release
NAMESPACE ?= default       ## Namespace of the release
VALUES ?=                  ## Values files
TIMEOUT ?= 5m              ## How long a deployment may take
TAIL ?= 20                 ## Lines of each pod that logs begin with

PREFIX = $(if $(strip $(REGISTRY)),$(strip $(REGISTRY))/)telemetry-
LOAD_kind = kind load docker-image --name telemetry
LOAD_minikube = minikube image load
LOAD_registry = docker push
LOADER = $(or $(strip $(LOAD)),$(LOAD_$(strip $(CLUSTER))))

images: ## Build both container images (needs Docker)
	@for service in $(SERVICES); do \
		docker build --quiet --file Dockerfile.$$service \
			--tag $(PREFIX)$$service:$(strip $(IMAGE_TAG)) --tag $(PREFIX)$$service:$(VERSION) \
			--build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) --build-arg SOURCE=$(SOURCE) $(ARGS) . || exit 1; \
	done

cluster: ## Make a cluster with kind, unless it is there
	@kind get clusters 2>/dev/null | grep -qx telemetry || kind create cluster --config k8s/kind.yaml

load: ## Load both images into the cluster
	@test -n "$(LOADER)" || { echo 'CLUSTER is kind, minikube or registry; for any other: make load LOAD="command"'; exit 1; }
	@for service in $(SERVICES); do \
		$(LOADER) $(PREFIX)$$service:$(or $(strip $(TAG)),$(VERSION)) || exit 1; \
	done

# Helm 4 refuses to change what others have set, such as the replicas that `kubectl scale` set; Helm 3 changes it.
FORCE = $(shell helm upgrade --help 2>/dev/null | grep -q force-conflicts && echo --server-side=true --force-conflicts)

deploy: ## Install the chart, or upgrade it, and wait until all is ready
	@helm upgrade --install $(RELEASE) $(CHART) --namespace $(NAMESPACE) --create-namespace \
		$(VALUES:%=--values %) \
		$(foreach service,$(SERVICES),$(if $(strip $(TAG)),--set-string $(service).image.tag=$(strip $(TAG)))) \
		$(foreach service,$(SERVICES),$(if $(strip $(REGISTRY)),--set-string $(service).image.registry=$(strip $(REGISTRY)))) \
		--wait --timeout $(TIMEOUT) $(FORCE) $(ARGS)

logs: ## Follow the logs of all pods
	@kubectl logs --namespace $(NAMESPACE) --selector app.kubernetes.io/instance=$(strip $(RELEASE)) \
		--all-containers --prefix --follow --max-log-requests 50 --tail $(TAIL) $(ARGS)

undeploy: ## Uninstall the chart; its volumes stay
	@helm uninstall $(RELEASE) --namespace $(NAMESPACE) --ignore-not-found --wait --timeout $(TIMEOUT) $(ARGS)

dev: ## Build, load, deploy and follow the logs, again at each change
	@k8s/dev.sh

dashboards: $(VENV)/ready ## Write the dashboards of the chart from their code
	@$(BIN)/python -m charts.dashboards

pictures: $(VENV)/ready ## Draw the dashboards from what a Prometheus answers, into docs/dashboards
	@$(BIN)/python -m charts.dashboards.picture $(ARGS)

HELM_DOCS = $(or $(shell command -v helm-docs),$(error make chart-docs needs helm-docs: go install github.com/norwoodj/helm-docs/cmd/helm-docs@v1.14.2))

chart-docs: $(VENV)/ready ## Write the chart's README from its values (needs helm-docs), and its files/defaults.yaml
	@$(BIN)/python -m charts.defaults
	@$(HELM_DOCS) --chart-search-root=$(CHART) --chart-to-generate=$(CHART) --sort-values-order=file --log-level=warning

# Fixed where the result would follow the client's: the Kubernetes version is the oldest that is supported.
rendered: ## Write the manifests in k8s/ from the chart
	@for set in k8s/*/values.yaml; do \
		folder=$${set%/*}; \
		helm template telemetry $(CHART) --namespace telemetry --values $$set --skip-tests --kube-version 1.30.0 \
			> $$folder/rendered.tmp && mv $$folder/rendered.tmp $$folder/rendered.yaml || exit 1; \
	done

clean: ## Remove what was made here, but for the data
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.* \
		build *.egg-info

# The stamps are newer than all that decides what is in the environment: a second `make run` installs nothing. `runs` is
# all that a pipeline needs; `ready` has the tools of developers as well.
$(VENV)/runs: requirements/run.txt pyproject.toml
	@$(INSTALL) run $(VENV) $(UV)
	@touch $@

$(VENV)/ready: requirements/dev.txt pyproject.toml
	@$(INSTALL) dev $(VENV) $(UV)
	@touch $(VENV)/runs $@

ifdef UV
INSTALL = $(UV) run -q --no-project --python '>=3.11' python -m services.dev.install
else
OLD = Python 3.11 or newer is needed: make PYTHON=python3.11
INSTALL = $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "$(OLD)")' && $(PYTHON) -m services.dev.install
endif
