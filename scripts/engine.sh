#!/usr/bin/env bash
# The machine's Docker Engine: `start` it where none answers, `stop` it only if this script started it, say its `status`.
# No systemd is needed. What dockerd writes goes to a log whose last lines are shown when it does not come up.
set -euo pipefail
state=/run/wellhead-engine
socket=${DOCKER_HOST:-unix:///var/run/docker.sock}

answers() {
  case $socket in
    unix://*)
      # The client's own `version` waits long for an Engine that is starting; curl is not on every machine.
      command -v curl >/dev/null || { docker --host "$socket" version >/dev/null 2>&1; return; }
      curl --silent --fail --max-time 5 --unix-socket "${socket#unix://}" http://engine/_ping >/dev/null 2>&1
      ;;
    *) docker --host "$socket" version >/dev/null 2>&1 ;;
  esac
}

explain() {
  echo "no Docker Engine answers on $socket, and this script cannot start one: $1" >&2
  echo "mend: install and start Docker Engine 20.10 or newer, and put yourself into the group docker" >&2
  echo "      (sudo apt-get install docker.io && sudo systemctl start docker && sudo usermod -aG docker \$USER)" >&2
  exit 1
}

# dockerd wants one mount for each cgroup controller; minimal machines have none.
mount_cgroups() {
  mountpoint -q /sys/fs/cgroup || mount -t tmpfs -o mode=755,nosuid,nodev,noexec cgroup /sys/fs/cgroup
  [ -e /sys/fs/cgroup/cgroup.controllers ] && return
  local controller
  for controller in $(awk '$4 == 1 && !/^#/ {print $1}' /proc/cgroups); do
    mkdir -p "/sys/fs/cgroup/$controller"
    mountpoint -q "/sys/fs/cgroup/$controller" ||
      mount -t cgroup -o "$controller,nosuid,nodev,noexec" cgroup "/sys/fs/cgroup/$controller" || rmdir "/sys/fs/cgroup/$controller"
  done
}

start() {
  answers && return
  [ "$socket" = unix:///var/run/docker.sock ] || explain "DOCKER_HOST points elsewhere"
  [ -S /var/run/docker.sock ] && [ "$(id -u)" != 0 ] && explain "the socket is there, but not for you"
  [ "$(id -u)" = 0 ] || explain "only root can"
  command -v dockerd >/dev/null || explain "dockerd is not installed (make setup installs it on Debian and Ubuntu)"
  mkdir -p "$state"
  mount_cgroups
  # A daemon that was killed leaves its pid file, and the next one refuses to start over a recycled pid.
  if [ -f /var/run/docker.pid ] && ! grep -qs dockerd "/proc/$(cat /var/run/docker.pid)/comm"; then rm -f /var/run/docker.pid; fi
  setsid --fork bash -c 'echo $$ >"$1/pid"; exec dockerd' engine "$state" >"$state/log" 2>&1 </dev/null
  local waited
  for waited in $(seq 300); do
    answers && return
    # Give the process its first second to exist before its absence means anything.
    if [ "$waited" -gt 10 ] && ! [ -d "/proc/$(cat "$state/pid")" ]; then break; fi
    sleep 0.2
  done
  tail -n 20 "$state/log" >&2
  rm -rf "$state"
  echo "dockerd did not come up; its last lines are above" >&2
  exit 1
}

stop() {
  [ -f "$state/pid" ] || return 0
  local pid waited
  pid=$(cat "$state/pid")
  if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = dockerd ]; then
    kill "$pid"
    for waited in $(seq 150); do
      [ -d "/proc/$pid" ] || break
      sleep 0.2
    done
    if [ -d "/proc/$pid" ]; then
      echo "dockerd (pid $pid) did not stop within $((waited / 5)) s of SIGTERM" >&2
      exit 1
    fi
  fi
  rm -rf "$state"
}

status() {
  if ! answers; then
    echo "none"
  elif [ -f "$state/pid" ]; then
    echo "started by this project (pid $(cat "$state/pid"))"
  else
    echo "running"
  fi
}

case "${1:-}" in
  start | stop | status) "$1" ;;
  *)
    echo "usage: scripts/engine.sh start|stop|status" >&2
    exit 2
    ;;
esac
