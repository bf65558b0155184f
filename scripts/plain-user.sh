#!/usr/bin/env bash
# Run the suite's host side as a plain user in the Engine's group, in a fresh copy of the tree with a .venv of its own.
#
#   scripts/plain-user.sh              unit tests, tests on real parts, and a slice of those of the command line
#   scripts/plain-user.sh COMMAND...   a command instead, in the copy
#
# The user exists in one mount namespace alone, whose /etc/passwd names him: nothing of him can be left on the machine
# but what he has in /tmp, which is removed.
set -euo pipefail
cd "$(dirname "$0")/.."
uid=64322
# Short, as it stands in the folders of tests: a socket's path has at most 107 bytes.
name=plain

if [ "$(id -u)" != 0 ]; then
  echo "needs root, to become another user; as a plain user in the group docker, run: make test-unit test-slow test-real test-e2e" >&2
  exit 1
fi
if getent passwd "$uid" >/dev/null; then
  echo "uid $uid belongs to somebody on this machine" >&2
  exit 1
fi

before=$(scripts/engine.sh status)
scripts/engine.sh start
group=$(stat --format %g /var/run/docker.sock)
home=$(mktemp -d /tmp/wh-plain.XXXX)
finish() {
  find /tmp -mindepth 1 -maxdepth 1 -uid "$uid" -exec rm -rf {} +
  if [ "$before" = none ]; then scripts/engine.sh stop; fi
}
trap finish EXIT

mkdir "$home/tree"
git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
  if [ -e "$file" ]; then printf '%s\0' "$file"; fi
done | tar --create --null --files-from - | tar --extract --no-same-owner --directory "$home/tree"
{
  cat /etc/passwd
  echo "$name:x:$uid:$uid::$home:/bin/sh"
} >"$home/passwd"
# Base filesystems take minutes to make, and whoever makes them makes the same bytes.
for base in "${XDG_CACHE_HOME:-$HOME/.cache}"/wellhead/base-*.tar "${XDG_CACHE_HOME:-$HOME/.cache}"/wellhead/images/base-*.tar; do
  [ -e "$base" ] || continue
  copy=$home/.cache/wellhead${base##*/wellhead}
  mkdir -p "$(dirname "$copy")"
  cp "$base" "$copy"
done
chown -R "$uid:$uid" "$home"

if [ $# = 0 ]; then
  # Only root can mount the file system around the socket that one of the deselected tests asks for (SECURITY.md), and
  # change into the other Debian from which the rest of them take cosign and skopeo.
  set -- bash -euc '
    make --no-print-directory test-unit test-slow
    .venv/bin/pytest -m "real and not chaos and not e2e" --deselect \
      tests/integration/engine/test_runner.py::test_the_sockets_folder_cannot_fill_the_hosts_disk --deselect \
      tests/integration/stores/test_verifiers.py
    .venv/bin/pytest -m e2e tests/e2e/test_files_and_http.py tests/e2e/test_postgres_incremental.py'
fi
# The search path of root may lead through folders that are closed to others.
unshare --mount --propagation private bash -euc '
  mount --bind "$1/passwd" /etc/passwd
  uid=$2 group=$3 home=$1 name=$4
  cd "$home/tree"
  shift 4
  exec setpriv --reuid "$uid" --regid "$uid" --groups "$uid,$group" --no-new-privs \
    env -u XDG_RUNTIME_DIR -u XDG_CACHE_HOME -u TMPDIR HOME="$home" USER="$name" LOGNAME="$name" \
    PATH="$home/tree/.venv/bin:/usr/local/bin:/usr/bin:/bin:$home/tree/.tools/uv/bin:/usr/sbin:/sbin" \
    bash -euc "git init -q . && git add --all . && exec \"\$@\"" plain "$@"
' plain-user "$home" "$uid" "$group" "$name" "$@"
