#!/usr/bin/env bash
# Run pytest with its temporary files in memory, where this machine has room for them; they are gone when it ends.
#
#   scripts/in-memory.sh .venv/bin/pytest -n 2
#
# What many tests wait for is a disk that is told to keep a file nobody will read again. A file outlives the process
# that wrote it on either, so tests that kill processes judge the same.
set -euo pipefail
memory=/dev/shm
needed_mib=1024

# A container has 64 MiB here if nobody asked for more. Programs are started from these files, too.
if [ ! -w "$memory" ] || [ "$(df --output=fstype "$memory" | tail -1)" != tmpfs ] ||
  [ "$(df --block-size=1M --output=avail "$memory" | tail -1)" -lt "$needed_mib" ] ||
  findmnt --noheadings --output OPTIONS --target "$memory" | grep --quiet --word-regexp noexec; then
  exec "$@"
fi

folder=$(mktemp --directory "$memory/wh.XXXX")
trap 'rm -rf "$folder"' EXIT
# A folder of pytest's own choice would be too long for the sockets in it.
TMPDIR=$folder "$@" --basetemp "$folder/t"
# What was not made in a folder of pytest's is what somebody forgot: scripts/leftovers.py looks on the disk alone.
left=$(find "$folder" -mindepth 1 -maxdepth 1 -not -name t)
if [ -n "$left" ]; then
  echo "tests left behind:" "$left" >&2
  exit 1
fi
