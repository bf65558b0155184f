#!/usr/bin/env bash
# Remove everything of Wellhead from this machine's Engine, from a project made for that: those of the suite are gone, and
# with them what their registries knew, so --force judges by label alone.
set -euo pipefail
cd "$(dirname "$0")/.."
project=$(mktemp -d)
trap 'rm -rf "$project"' EXIT
.venv/bin/wellhead init "$project" >/dev/null
.venv/bin/wellhead clean --force --config "$project/wellhead.yaml"
