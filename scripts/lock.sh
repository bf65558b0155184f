#!/usr/bin/env bash
# Resolve every dependency of the workspace into requirements.lock, with hashes and without naming a registry.
set -euo pipefail
shopt -s nullglob
cd "$(dirname "$0")/.."
members=(--no-emit-package wellhead --no-emit-package wellhead-sdk)
for project in connectors/*/pyproject.toml; do
  members+=(--no-emit-package "wellhead-connector-$(basename "$(dirname "$project")")")
done
uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
  "${members[@]}" runtime/pyproject.toml sdk/pyproject.toml connectors/*/pyproject.toml --group pyproject.toml:dev \
  --output-file "${1:-requirements.lock}"
