# Every habit is one target; `make` alone prints them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.ONESHELL:
.SHELLFLAGS := -euo pipefail -c
PY := .venv/bin/python
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.PHONY: setup
setup: ## Make .venv from requirements.lock and install the workspace into it
	@scripts/setup.sh

.PHONY: lock
lock: ## Resolve the dependencies again, with hashes
	@scripts/lock.sh

.PHONY: proto
proto: ## Generate the wire code from proto/
	@scripts/proto.sh sdk
