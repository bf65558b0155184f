#!/usr/bin/env bash
# Generate the wire code from proto/.
#   scripts/proto.sh                 into sdk/
#   scripts/proto.sh --check         aside, and compare; lint the proto; refuse what would break the last release
#   scripts/proto.sh --freeze        remember today's proto as the last release's
set -euo pipefail
cd "$(dirname "$0")/.."
released=proto/released.binpb
googleapis=$(.venv/bin/python -c 'import google.rpc; print(list(google.rpc.__path__)[0].removesuffix("/google/rpc"))')

# Mapping the path makes protoc write `wellhead_sdk.wire` into the imports by itself.
generate() {
  mkdir -p "$1"
  .venv/bin/python -m grpc_tools.protoc -I wellhead_sdk/wire=proto/wellhead/connector/v1 -I "$googleapis" \
    --python_out="$1" --pyi_out="$1" wellhead_sdk/wire/connector.proto
}

# Under the path the package asks for, which is what buf judges.
describe() {
  .venv/bin/python -m grpc_tools.protoc -I proto -I "$googleapis" --include_imports "${@:2}" \
    --descriptor_set_out="$1" wellhead/connector/v1/connector.proto
}

case "${1:-}" in
  "") generate sdk ;;
  --freeze) describe "$released" ;;
  --check)
    aside=$(mktemp -d)
    trap 'rm -rf "$aside"' EXIT
    generate "$aside"
    for made in connector_pb2.py connector_pb2.pyi; do
      if ! cmp -s "$aside/wellhead_sdk/wire/$made" "sdk/wellhead_sdk/wire/$made"; then
        echo "sdk/wellhead_sdk/wire/$made is not what proto/ generates; mend: make proto" >&2
        exit 1
      fi
    done
    describe "$aside/today.binpb" --include_source_info
    .venv/bin/buf lint "$aside/today.binpb" --config proto/buf.yaml --path wellhead
    .venv/bin/buf breaking "$aside/today.binpb" --config proto/buf.yaml --against "$released" --path wellhead
    ;;
  *)
    echo "usage: scripts/proto.sh [--check | --freeze]" >&2
    exit 2
    ;;
esac
