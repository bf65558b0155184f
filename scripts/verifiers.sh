#!/usr/bin/env bash
# cosign and skopeo of Debian sid: verifiers that know nothing of this project, for the tests that ask them.
#
#   scripts/verifiers.sh up                 make their root folder, once; it is cached
#   scripts/verifiers.sh exec COMMAND...    run one of them; /tmp is the machine's, and so is the network
set -euo pipefail
suite=sid
packages=cosign,skopeo,ca-certificates
cache=${XDG_CACHE_HOME:-$HOME/.cache}/wellhead/verifiers
root=$cache/$suite-$(printf %s "$packages" | sha256sum | cut -c1-8)

die() {
  echo "verifiers: $1" >&2
  exit 1
}

[ "$(id -u)" = 0 ] || die "needs root (chroot); mend: sudo make test-real"

# Debian's mirror as this machine names it, so that no mirror is written down here; nothing where it has none, as on
# Ubuntu: then mmdebstrap knows one.
mirror() {
  local found
  found=$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' | awk '$1 == "Debian" {print $2; exit}')
  echo "${WELLHEAD_DEBIAN_MIRROR:-$found}"
}

up() {
  [ -x "$root/usr/bin/cosign" ] && return
  command -v mmdebstrap >/dev/null || die "mmdebstrap is not installed; mend: make setup, or apt-get install mmdebstrap"
  mkdir -p "$cache"
  exec 9>"$cache/lock"
  flock 9
  [ -x "$root/usr/bin/cosign" ] && return
  rm -rf "$cache/$suite-"*
  local from
  from=$(mirror)
  # sid's stored Release file can be older than its own Valid-Until on a mirror that keeps snapshots.
  mmdebstrap --quiet --variant=apt --include="$packages" --aptopt='Acquire::Check-Valid-Until "false"' \
    "$suite" "$root.making" ${from:+"$from"}
  mv "$root.making" "$root"
}

# Runs in a mount namespace of its own, which ends with the command.
inside() {
  mount --make-rprivate /
  mount --bind /tmp "$root/tmp"
  mount -t proc proc "$root/proc"
  exec env -i PATH=/usr/bin:/bin HOME=/tmp SSL_CERT_FILE="${SSL_CERT_FILE:-}" \
    HTTPS_PROXY="${HTTPS_PROXY:-}" NO_PROXY="${NO_PROXY:-}" "$(command -v chroot)" "$root" "$@"
}

case "${1:-}" in
  up) up ;;
  exec)
    shift
    up
    exec unshare --mount "$0" inside "$@"
    ;;
  inside)
    shift
    PATH=$PATH:/usr/sbin:/sbin inside "$@"
    ;;
  *)
    echo "usage: scripts/verifiers.sh up | exec COMMAND..." >&2
    exit 2
    ;;
esac
