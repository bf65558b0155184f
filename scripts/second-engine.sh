#!/usr/bin/env bash
# A second, newer Docker Engine (28 or later, from Debian sid) beside the machine's own, in network, mount and process
# namespaces of its own, so that neither sees the other's containers, rules, processes or sockets.
#
#   scripts/second-engine.sh up                start it (the root folder is made once, then cached)
#   scripts/second-engine.sh exec COMMAND...   run a command beside it, DOCKER_HOST set
#   scripts/second-engine.sh down              stop it, its containers and its networks, and forget its images
#
# There are two mount namespaces under one network and one process namespace:
#
#   the command's   the machine's own root; every folder that is not the system's is shared, and so is /run/wellhead
#   the daemon's    sid as its root, with nothing of the machine but those folders, under the same paths
#
# So a path given to the Engine means what it means to the command, and a process id or /proc does, too. The namespace
# has loopback and the Engine's bridges, and no way out of the machine.
set -euo pipefail
suite=sid
packages=docker.io,iptables,nftables,ca-certificates,mount
cache=${XDG_CACHE_HOME:-$HOME/.cache}/wellhead/second-engine
root=$cache/$suite-$(printf %s "$packages" | sha256sum | cut -c1-8)
data=$cache/data
state=/run/wellhead-second-engine
socket=$state/docker.sock

die() {
  echo "second engine: $1" >&2
  exit 1
}

[ "$(id -u)" = 0 ] || die "needs root (mount and network namespaces); mend: sudo make test-engines"

# Debian's mirror as this machine names it, so that no mirror is written down here.
mirror() {
  local found
  found=$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' | awk '$1 == "Debian" {print $2; exit}')
  [ -n "$found" ] || {
    apt-get update -qq >&2
    found=$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' | awk '$1 == "Debian" {print $2; exit}')
  }
  echo "${WELLHEAD_DEBIAN_MIRROR:-${found:?this machine has no Debian mirror among its apt sources; set WELLHEAD_DEBIAN_MIRROR}}"
}

make_root() {
  [ -x "$root/usr/sbin/dockerd" ] && return
  command -v mmdebstrap >/dev/null || die "mmdebstrap is not installed; mend: make setup, or apt-get install mmdebstrap"
  mkdir -p "$cache"
  rm -rf "$cache/$suite-"*
  # sid's stored Release file can be older than its own Valid-Until on a mirror that keeps snapshots.
  mmdebstrap --quiet --variant=apt --include="$packages" --aptopt='Acquire::Check-Valid-Until "false"' \
    "$suite" "$root.making" "$(mirror)"
  mv "$root.making" "$root"
}

# Runs as process 1 of the new namespaces: makes both views, starts the daemon in its own, and ends with it.
inside() {
  local folder name inner=$state/root
  mount --make-rprivate /
  mount -t proc proc /proc
  mkdir -p "$inner"
  mount --bind "$root" "$inner"
  mount -t proc proc "$inner/proc"
  mount -t sysfs sysfs "$inner/sys"
  mount --rbind /sys/fs/cgroup "$inner/sys/fs/cgroup"
  mount --rbind /dev "$inner/dev"
  mount -t tmpfs -o mode=755 tmpfs "$inner/run"
  mkdir -p "$inner$state" "$inner/var/lib/docker" /run/wellhead "$inner/run/wellhead"
  mount --bind "$state" "$inner$state"
  mount --bind "$data" "$inner/var/lib/docker"
  # A peer group of two: a tmpfs the command mounts for a run's socket is there for the daemon as well.
  mount -t tmpfs -o mode=755 tmpfs /run/wellhead
  mount --make-shared /run/wellhead
  mount --bind /run/wellhead "$inner/run/wellhead"
  for folder in /*; do
    name=${folder#/}
    case $name in bin | sbin | lib* | usr | etc | proc | sys | dev | run | var | boot | lost+found) continue ;; esac
    [ -d "$folder" ] && [ ! -L "$folder" ] || continue
    mkdir -p "$inner$folder"
    mount --rbind "$folder" "$folder"
    mount --make-shared "$folder"
    mount --rbind "$folder" "$inner$folder"
  done
  # Who forgets DOCKER_HOST must not test the machine's Engine instead and be green.
  if [ -S /run/docker.sock ]; then mount --bind /dev/null /run/docker.sock; fi
  ip link set lo up
  unshare --mount --propagation unchanged "$0" pivoted &
  # Process 1 ignores what it does not handle, and a signal ends the first wait.
  trap 'kill "$!"' TERM
  wait "$!" || wait "$!" || true
}

# Runs in the daemon's own mount namespace. Not by chroot: what enters the namespace by its number, as `docker exec`
# does, begins at the namespace's root, and that would still be the machine's.
pivoted() {
  cd "$state/root"
  pivot_root . .
  umount --lazy .
  cd /
  # An empty environment: settings of this machine's own client and proxy mean nothing in there.
  exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin dockerd --host "unix://$socket"
}

answers() { curl --silent --fail --max-time 5 --unix-socket "$socket" http://engine/version 2>/dev/null; }

# Process 1 of the namespaces by the id this machine knows it by; it is the only child of `unshare`.
first() {
  [ -f "$state/pid" ] || return 0
  pgrep --parent "$(cat "$state/pid")" || true
}

up() {
  [ -n "$(first)" ] && answers >/dev/null && return
  make_root
  rm -rf "$state"
  mkdir -p "$state" "$data"
  setsid --fork bash -c 'echo $$ >"$1/pid"; exec unshare --mount --net --pid --fork --kill-child "$2" inside' \
    second-engine "$state" "$0" >"$state/log" 2>&1 </dev/null
  local waited
  for waited in $(seq 300); do
    answers >/dev/null && break
    if [ "$waited" -gt 10 ] && [ -z "$(first)" ]; then break; fi
    sleep 0.2
  done
  answers | grep -q '"Version"' || {
    tail -n 20 "$state/log" >&2
    die "dockerd of $suite did not come up; its last lines are above"
  }
  echo "second engine: Docker $(answers | sed -E 's/.*"Version":"([0-9][^"]*)","ApiVersion".*/\1/') at unix://$socket" >&2
}

run_in() {
  local pid
  pid=$(first)
  [ -n "$pid" ] || die "is not up; mend: scripts/second-engine.sh up"
  exec nsenter --target "$pid" --mount --net --pid --wdns="$PWD" -- env DOCKER_HOST="unix://$socket" WELLHEAD_SECOND_ENGINE=1 "$@"
}

down() {
  local pid
  pid=$(first)
  if [ -n "$pid" ]; then
    kill "$pid"
    timeout 30 tail --pid="$pid" -f /dev/null || kill -KILL "$pid"
    timeout 30 tail --pid="$pid" -f /dev/null || die "process $pid does not end"
  fi
  rm -rf "$state" "$data"
}

case "${1:-}" in
  up | down | inside | pivoted) "$1" ;;
  exec)
    shift
    run_in "$@"
    ;;
  *)
    echo "usage: scripts/second-engine.sh up | exec COMMAND... | down" >&2
    exit 2
    ;;
esac
