#!/usr/bin/env bash
# Print the path of uv, installing it into .tools/ where the machine has none.
set -euo pipefail
cd "$(dirname "$0")/.."
version=0.13.8

# A version manager's shim can be on PATH for a tool that the chosen Python does not have, so it is asked to run.
if command -v uv >/dev/null && uv --version >/dev/null 2>&1; then
  command -v uv
  exit
fi
if [ ! -x .tools/uv/bin/uv ]; then
  rm -rf .tools/uv
  # Debian and Ubuntu ship Python without venv's own pip.
  if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    scripts/system.sh python3-venv
  fi
  python3 -m venv .tools/uv
  .tools/uv/bin/python -m pip install --quiet --disable-pip-version-check "uv==$version" >&2
fi
echo "$PWD/.tools/uv/bin/uv"
