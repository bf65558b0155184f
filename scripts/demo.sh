#!/usr/bin/env bash
# A real PostgreSQL table into Bronze through a sealed connector, start to end; see docs/start/first-run.md.
#   scripts/demo.sh [FOLDER]      FOLDER keeps the project and its tables; default: demo-state in the workspace
# Installs what is missing, then hands over to scripts/demo/, which stops whatever it starts, however it ends.
set -euo pipefail
folder=$(realpath --canonicalize-missing "${1:-$(dirname "$0")/../demo-state}")
cd "$(dirname "$0")/.."
scripts/system.sh
scripts/setup.sh
exec .venv/bin/python -m scripts.demo "$folder"
