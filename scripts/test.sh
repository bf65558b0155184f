#!/usr/bin/env bash
# Run the whole suite as CI does, on a machine where nothing runs: install what is missing, start the Docker Engine if
# none answers, run every slice, and require that nothing is skipped and nothing is left behind.
# A slice that fails does not keep the later ones from running.
set -euo pipefail
cd "$(dirname "$0")/.."
failed=()
scripts/system.sh
before=$(scripts/engine.sh status)
scripts/engine.sh start
snapshot=$(mktemp)

finish() {
  rm -f "$snapshot"
  if [ "$before" = none ]; then scripts/engine.sh stop; fi
}
trap finish EXIT

# Whatever the suite starts inherits this mark; the Engine, started above, does not.
export WELLHEAD_SUITE=suite-$$
python=.venv/bin/python
"$python" scripts/leftovers.py snapshot "$snapshot"

for slice in check test-unit test-slow test-real test-chaos test-e2e; do
  echo "== make $slice"
  make --no-print-directory "$slice" || failed+=("$slice")
done
echo "== cleaning"
scripts/clean.sh || failed+=("clean")
"$python" scripts/leftovers.py compare "$snapshot" || failed+=("leftovers")

if [ ${#failed[@]} -gt 0 ]; then
  echo "FAILED: ${failed[*]}" >&2
  exit 1
fi
echo "everything passed, nothing was skipped, nothing is left behind"
