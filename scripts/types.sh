#!/usr/bin/env bash
# mypy --strict over code and tests, in one run, so that everything is analysed once.
set -euo pipefail
shopt -s nullglob
cd "$(dirname "$0")/.."
named=.mypy_cache/named
rm -rf "$named"
mkdir -p "$named"
targets=(runtime sdk conftest.py)
bases=$named
rename=()

holds_python() { [ -d "$1" ] && [ -n "$(find "$1" -name '*.py' -print -quit)" ]; }

for folder in scripts bench examples tests/*/; do
  folder=${folder%/}
  if [ "$folder" != tests/images ] && holds_python "$folder"; then targets+=("$folder"); fi
done

# Connectors live in folders that are no Python names (csv-file), and each keeps its tests in a folder `tests`. mypy
# wants every module under a name of its own, so it sees those folders through links that have one.
for folder in connectors/*/ tests/images/*/; do
  folder=${folder%/}
  bases+=:$folder
  for package in "$folder"/*/__init__.py; do targets+=("$(dirname "$package")"); done
  if [ -d "$folder/tests" ] && holds_python "$folder/tests"; then
    name=$(basename "$folder" | tr -- '-.' '__')_tests
    ln -s "$PWD/$folder/tests" "$named/$name"
    targets+=("$named/$name")
    rename+=(-e "s#^$named/$name/#$folder/tests/#")
  fi
done

MYPYPATH=$bases .venv/bin/mypy --num-workers 2 "${targets[@]}" tests/*.py | sed -e '' "${rename[@]}"
