#!/usr/bin/env bash
# Generate the wire code under $1 (the sdk folder, or a scratch folder to compare with).
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p "$1"
# Mapping the path makes protoc write `wellhead_sdk.wire` into the imports by itself.
.venv/bin/python -m grpc_tools.protoc -I wellhead_sdk/wire=proto/wellhead/connector/v1 \
  -I "$(.venv/bin/python -c 'import google.rpc; print(list(google.rpc.__path__)[0].removesuffix("/google/rpc"))')" \
  --python_out="$1" --pyi_out="$1" wellhead_sdk/wire/connector.proto
