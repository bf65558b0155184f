#!/usr/bin/env bash
# Branch coverage of the tests without real parts. Complete coverage is asked of the modules where a branch that nobody
# tried loses rows, leaks secrets or opens a door; the rest is reported.
set -euo pipefail
cd "$(dirname "$0")/.."
complete='*/wellhead/catalog/resolve.py,*/wellhead/egress/address.py,*/wellhead/egress/policy.py,*/wellhead/manifest/*.py,*/wellhead/session/*.py,*/wellhead/lifecycle/commit.py,*/wellhead_sdk/wire/codec.py'
.venv/bin/coverage erase
scripts/in-memory.sh .venv/bin/coverage run -m pytest -n 2 --dist worksteal -m 'not real and not chaos and not e2e'
.venv/bin/coverage combine --quiet
.venv/bin/coverage report --skip-covered --skip-empty --omit '*_pb2.py'
echo "== complete:"
.venv/bin/coverage report --include "$complete" --fail-under 100
