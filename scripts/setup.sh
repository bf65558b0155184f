#!/usr/bin/env bash
# Make .venv hold exactly requirements.lock and the workspace's own packages; quick when nothing changed.
set -euo pipefail
shopt -s nullglob
cd "$(dirname "$0")/.."
uv=$(scripts/uv.sh)
stamp=.venv/.setup-$(cat requirements.lock runtime/pyproject.toml sdk/pyproject.toml connectors/*/pyproject.toml | sha256sum | cut -c1-16)
[ -e "$stamp" ] && exit 0
[ -x .venv/bin/python ] || "$uv" venv --quiet --python 3.11 .venv
"$uv" pip sync --quiet --require-hashes requirements.lock
members=(-e sdk -e runtime)
for project in connectors/*/pyproject.toml; do members+=(-e "$(dirname "$project")"); done
"$uv" pip install --quiet --no-deps --no-build-isolation "${members[@]}"
rm -f .venv/.setup-*
touch "$stamp"
