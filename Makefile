# Every habit is one target; `make` alone prints them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c
PY := .venv/bin/python
PYTEST := .venv/bin/pytest
# Where it is set, every run would rewrite and compile all tests again, and every program they start itself.
unexport PYTHONDONTWRITEBYTECODE
export PATH := $(CURDIR)/.venv/bin:$(PATH):$(CURDIR)/.tools/uv/bin:/usr/sbin:/sbin

# The slices of the suite: every test is in exactly one (tests/architecture/test_suite.py proves it).
UNIT      := not slow and not real and not chaos and not e2e
SLOW      := slow and not real and not chaos and not e2e
REAL      := real and not chaos and not e2e
CHAOS     := chaos and not e2e
E2E       := e2e

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# ---- making the workspace

.PHONY: setup
setup: system venv ## Install all a developer needs: system packages, .venv, the workspace

.PHONY: system
system: ## Install the system packages that are missing (as root on Debian or Ubuntu)
	@scripts/system.sh

.PHONY: venv
venv: ## Make .venv from requirements.lock and install the workspace into it
	@scripts/setup.sh

.PHONY: lock
lock: ## Resolve the dependencies again, with hashes; UPGRADE=1 asks for newer ones
	@scripts/lock.sh

.PHONY: proto
proto: venv ## Generate the wire code from proto/
	@scripts/proto.sh

.PHONY: proto-freeze
proto-freeze: venv ## Remember today's protocol as the last release's
	@scripts/proto.sh --freeze

.PHONY: fmt
fmt: venv ## Mend what ruff can mend, and format
	@ruff check --quiet --fix .
	ruff format --quiet .

# ---- judging it without running it

.PHONY: check
check: lint types imports spell proto-check lock-check ## Everything that is judged without a test, in seconds

.PHONY: lint
lint: venv ## Style, docstrings and formatting
	@ruff check --quiet .
	ruff format --quiet --check .

.PHONY: types
types: venv ## mypy --strict on code and tests
	@scripts/types.sh

.PHONY: imports
imports: venv ## Which way imports may point
	@said=$$(lint-imports --no-logo 2>&1) || { echo "$$said"; exit 1; }

.PHONY: spell
spell: venv ## Misspelt words
	@git ls-files -z | xargs -0 codespell

.PHONY: proto-check
proto-check: venv ## Generated code fresh, protocol linted and compatible with its last release
	@scripts/proto.sh --check

.PHONY: lock-check
lock-check: ## Every lock made from today's dependency lists
	@scripts/lock.sh --check

# ---- trying it

.PHONY: test
test: venv ## Everything, on real parts; a missing part is a failure; what CI runs
	@scripts/test.sh

# Each of the two workers has a core: more threads in one of them only wait for each other.
test-unit test-slow: export POLARS_MAX_THREADS = 1
.PHONY: test-unit
test-unit: venv ## Unit, architecture and contract tests: parallel, no Docker, in seconds
	@scripts/in-memory.sh $(PYTEST) -n 2 --dist worksteal -m '$(UNIT)'

.PHONY: test-slow
test-slow: venv ## What starts programs, drives whole runs or tries thousands of cases: parallel, no Docker
	@scripts/in-memory.sh $(PYTEST) -n 2 --dist worksteal -m '$(SLOW)'

.PHONY: test-real
test-real: venv ## What talks to a real Docker Engine, OpenBao and PostgreSQL
	@$(PYTEST) -m '$(REAL)'

.PHONY: test-chaos
test-chaos: venv ## What kills processes at named points
	@$(PYTEST) -m '$(CHAOS)'

.PHONY: test-e2e
test-e2e: venv ## What drives the command line from a fresh project to Bronze
	@$(PYTEST) -m '$(E2E)'

.PHONY: test-engines
test-engines: venv ## The runner, egress and image tests on the machine's Engine and on a newer one
	@scripts/test-engines.sh

.PHONY: test-plain-user
test-plain-user: ## As root: the host's side as a plain user in the Engine's group, who exists for that long
	@scripts/plain-user.sh

.PHONY: guards
guards: venv ## Remove each guard in turn and require its test to turn red; FAST=1 for those without real parts
	@$(PY) scripts/guards.py $(if $(FAST),--fast)

.PHONY: cover
cover: venv ## Branch coverage of the unit tests; complete where a wrong branch loses or leaks
	@scripts/cover.sh

.PHONY: golden
golden: venv ## Rewrite the golden files; read the diff
	@$(PYTEST) -m '($(UNIT)) or ($(SLOW))' --golden=rewrite

.PHONY: bench
bench: venv ## Run the benchmarks; NAME=read for one
	@for script in bench/$(or $(NAME),[a-z]*).py; do $(PY) -m "bench.$$(basename "$$script" .py)"; done

.PHONY: demo
demo: ## A real table into Bronze through a sealed connector, start to end; FOLDER= says where its project stays
	@scripts/demo.sh "$(FOLDER)"

# ---- shipping it

.PHONY: image
image: venv ## Build one connector's image; NAME=postgres
	@wellhead build "connectors/$(NAME)"

.PHONY: release
release: venv ## Publish one connector and write its record under manifests/; NAME=csv-file, CONFIG=FILE where no wellhead.yaml is here
	@wellhead publish "connectors/$(or $(NAME),$(error which one? NAME=csv-file))" \
	  --record "$(or $(INTO),manifests)" $(if $(CONFIG),--config "$(CONFIG)")

.PHONY: conform
conform: venv ## Run the SDK's conformance suite against a connector in its built image; NAME=postgres
	@$(PYTEST) tests/conformance -k "$(or $(subst -,,$(NAME)),$(error which one? NAME=postgres, http-json, csv-file or generator))"

.PHONY: docs
docs: venv ## Write docs/reference/ from the program
	@$(PY) scripts/reference.py

.PHONY: changelog
changelog: ## Assemble changelog.d/ into CHANGELOG.md; VERSION=0.1.0
	@python3 scripts/changelog.py "$(VERSION)"

.PHONY: clean
clean: ## Remove containers, networks and files made here; .venv stays
	@if [ -x .venv/bin/wellhead ] && [ "$$(scripts/engine.sh status)" != none ]; then scripts/clean.sh; fi
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage* htmlcov build dist
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
