#!/usr/bin/env bash
# Run the tests marked `engines` on the machine's Docker Engine and on the second, newer one.
# What they need from the network (base image packages) is cached by the first round: the second has no way out.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/system.sh
before=$(scripts/engine.sh status)
scripts/engine.sh start
finish() {
  scripts/second-engine.sh down
  if [ "$before" = none ]; then scripts/engine.sh stop; fi
}
trap finish EXIT

echo "== Docker Engine $(docker version --format '{{.Server.Version}}')"
.venv/bin/pytest -m engines
scripts/second-engine.sh up
echo "== Docker Engine $(scripts/second-engine.sh exec docker version --format '{{.Server.Version}}')"
scripts/second-engine.sh exec .venv/bin/pytest -m engines
