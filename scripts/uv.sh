#!/usr/bin/env bash
# Print the path of uv, installing it into .tools/ where the machine has none.
set -euo pipefail
cd "$(dirname "$0")/.."
if command -v uv; then exit 0; fi
if [ ! -x .tools/uv/bin/uv ]; then
  python3 -m venv .tools/uv
  .tools/uv/bin/pip install --quiet --disable-pip-version-check uv==0.13.8
fi
echo "$PWD/.tools/uv/bin/uv"
