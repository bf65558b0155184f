#!/usr/bin/env bash
# Resolve the workspace's dependencies into requirements.lock, and each connector's into its own, with hashes and
# without naming a registry. With `--check`, say whether every lock was made from today's dependency lists; that needs no
# network, because each lock's first line holds the digest of the lists it was made from.
set -euo pipefail
shopt -s nullglob
cd "$(dirname "$0")/.."
# A company's own authority is in the machine's trust store and not in uv's.
export UV_SYSTEM_CERTS=${UV_SYSTEM_CERTS:-true}
# Fixture images that do without the SDK have nothing to lock.
mapfile -t connectors < <(grep -l wellhead-sdk connectors/*/pyproject.toml tests/images/*/pyproject.toml)

digest() { # PROJECT...: of the dependency lists alone, so that a new version of a package locks nothing anew
  python3 - "$@" <<'PYTHON'
import hashlib, json, sys, tomllib
lists = []
for path in sys.argv[1:]:
    document = tomllib.load(open(path, "rb"))
    project = document.get("project", {})
    lists.append([path, project.get("dependencies"), project.get("optional-dependencies"), document.get("dependency-groups")])
print(hashlib.sha256(json.dumps(lists, sort_keys=True).encode()).hexdigest()[:32])
PYTHON
}

lock() { # OUTPUT DIGEST ARGUMENT...
  local output=$1 inputs=$2 made
  shift 2
  made=$(mktemp)
  # What is locked today stays, unless the lists ask for something else; `make lock UPGRADE=1` asks for news.
  [ -f "$output" ] && cp "$output" "$made"
  "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
    ${UPGRADE:+--upgrade} --output-file "$made" "$@"
  { echo "# made by scripts/lock.sh from dependency lists $inputs" && cat "$made"; } >"$output"
  rm -f "$made"
}

workspace=(runtime/pyproject.toml sdk/pyproject.toml "${connectors[@]}")
stale=0
fresh() { # OUTPUT DIGEST
  if ! head -n 1 "$1" 2>/dev/null | grep -qF "dependency lists $2"; then
    echo "$1 was not made from today's dependency lists; mend: make lock" >&2
    stale=1
  fi
}

sdk=$(mktemp --suffix .txt)
trap 'rm -f "$sdk"' EXIT
echo "-e ./sdk" >"$sdk" # fixture images are no members of the workspace, and the SDK comes from nowhere else

members=(--no-emit-package wellhead --no-emit-package wellhead-sdk)
for project in "${connectors[@]}"; do
  members+=(--no-emit-package "$(sed -n 's/^name = "\(.*\)"/\1/p' "$project" | head -n 1)")
done
if [ "${1:-}" = --check ]; then act=fresh; else act=lock uv=$(scripts/uv.sh); fi
"$act" requirements.lock "$(digest "${workspace[@]}" pyproject.toml)" \
  "${members[@]}" "${workspace[@]}" "$sdk" --group pyproject.toml:dev
for project in "${connectors[@]}"; do
  folder=$(dirname "$project")
  # An image carries the SDK's dependencies and the connector's, at the versions the workspace was tested with.
  "$act" "$folder/requirements.lock" "$(digest "$project" sdk/pyproject.toml)" \
    "${members[@]}" "$project" sdk/pyproject.toml "$sdk" --constraints requirements.lock
done
exit "$stale"
