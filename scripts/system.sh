#!/usr/bin/env bash
# Install the system packages this project's tests and demo need, and only those that are missing.
#   scripts/system.sh              everything
#   scripts/system.sh PACKAGE...   these alone
# As root on Debian or Ubuntu they are installed; otherwise the command that would do it is printed. A machine that has
# them all needs neither root nor apt.
set -euo pipefail

missing=()
needs() { # PACKAGE COMMAND: the package is missing when the command is
  PATH=$PATH:/usr/sbin:/sbin command -v "$2" >/dev/null || missing+=("$1")
}

if [ $# -gt 0 ]; then
  missing=("$@")
else
  needs curl curl
  needs iproute2 ip
  needs nftables nft
  needs docker-registry docker-registry
  needs mmdebstrap mmdebstrap
  # Images are made of Debian's packages, whose signatures Ubuntu has no keys for.
  ! command -v apt-get >/dev/null || compgen -G '/usr/share/keyrings/debian-archive-keyring.*' >/dev/null ||
    missing+=(debian-archive-keyring)
  needs git git
  needs procps pgrep
  needs util-linux setpriv
  compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || needs postgresql initdb
  # An Engine that answers is enough, wherever it came from; docker.io brings the client along, or recommends it.
  if [ "$("$(dirname "$0")/engine.sh" status)" = none ]; then
    needs docker.io dockerd
    needs iptables iptables
  fi
  needs docker.io docker
fi
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "missing on this machine: ${missing[*]}" >&2
  if command -v apt-get >/dev/null; then
    echo "mend: sudo apt-get install --no-install-recommends ${missing[*]}" >&2
  else
    echo "mend: install the packages of your system that hold them (the names are Debian's)" >&2
  fi
  exit 1
fi

export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# Debian's postgresql would make and start a cluster of its own on port 5432; the tests make theirs.
quiet=/etc/postgresql-common/createcluster.d/wellhead-setup.conf
if [[ " ${missing[*]} " == *" postgresql "* ]]; then
  mkdir -p "$(dirname "$quiet")"
  echo "create_main_cluster = false" >"$quiet"
  trap 'rm -f "$quiet"' EXIT
fi
# From Debian 13 on the client is a package of its own.
if [[ " ${missing[*]} " == *" docker.io "* ]] && [ -n "$(apt-cache search --names-only '^docker-cli$')" ]; then
  missing+=(docker-cli)
fi
apt-get install -qq --no-install-recommends "${missing[@]}" </dev/null
