#!/usr/bin/env bash
# Make .venv hold exactly requirements.lock and the workspace's own packages; quick when nothing changed.
set -euo pipefail
shopt -s nullglob
cd "$(dirname "$0")/.."
# A company's own authority is in the machine's trust store and not in uv's.
export UV_SYSTEM_CERTS=${UV_SYSTEM_CERTS:-true}
projects=(sdk/pyproject.toml runtime/pyproject.toml connectors/*/pyproject.toml tests/images/*/pyproject.toml)
stamp=.venv/.setup-$(cat requirements.lock "${projects[@]}" | sha256sum | cut -c1-16)
[ -e "$stamp" ] && exit 0
uv=$(scripts/uv.sh)
# A folder that was moved or copied holds an interpreter that no longer starts.
.venv/bin/python -c '' 2>/dev/null || "$uv" venv --quiet --clear --python '>=3.11' .venv
# Compiled here: a machine that sets PYTHONDONTWRITEBYTECODE would compile all of it again in every run, for two seconds.
"$uv" pip sync --quiet --python .venv/bin/python --compile-bytecode --require-hashes requirements.lock
members=()
for project in "${projects[@]}"; do members+=(-e "$(dirname "$project")"); done
"$uv" pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation "${members[@]}"
rm -f .venv/.setup-*
touch "$stamp"
