"""Say what a test suite left on the machine: `snapshot FILE` before it, `compare FILE` after it.

Looked at: containers, networks and volumes of the Docker Engine, processes the suite started (they inherit the
variable WELLHEAD_SUITE), folders and mounts under /run/wellhead, and temporary folders. `compare` exits 1 and names
each leftover.
Run it with any Python 3.11; it imports nothing of the project, so that it also judges a broken one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

MARK = "WELLHEAD_SUITE"


def _docker(*arguments: str) -> list[str]:
    answer = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False, timeout=60)
    if answer.returncode != 0:
        sys.exit(f"cannot ask the Docker Engine what is left: {answer.stderr.strip()}")
    return answer.stdout.splitlines()


def _own_ancestors() -> set[int]:
    found, pid = set(), os.getpid()
    while pid > 1:
        found.add(pid)
        # The fields after the last parenthesis: state, parent. A program's name may hold anything before it.
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return found


def _marked_processes(mark: str) -> list[str]:
    ours = _own_ancestors()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it ended meanwhile, or is another user's
        if f"{MARK}={mark}".encode() in environment and int(folder.name) not in ours and command:
            found.append(f"{folder.name} {command[:120]}")
    return found


def look() -> dict[str, list[str]]:
    """List everything a run of the suite may leave, by kind."""
    run_folder, temporary = Path("/run/wellhead"), Path(os.environ.get("TMPDIR", "/tmp"))
    return {
        "containers": _docker("ps", "--all", "--no-trunc", "--format", "{{.ID}} {{.Names}} ({{.Image}})"),
        "networks": _docker("network", "ls", "--no-trunc", "--format", "{{.ID}} {{.Name}}"),
        "volumes": _docker("volume", "ls", "--format", "{{.Name}}"),
        "processes": _marked_processes(os.environ[MARK]) if MARK in os.environ else [],
        "run folders": [str(path) for path in run_folder.glob("*")],
        "mounts": [
            line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if "wellhead" in line.split()[1]
        ],
        "temporary folders": [str(path) for path in temporary.glob("wellhead-*")],
    }


def main(verb: str, file: str) -> int:
    """Write what is there to ``file``, or name what is there beyond what ``file`` lists."""
    seen = look()
    if verb == "snapshot":
        Path(file).write_text(json.dumps(seen))
        return 0
    before = json.loads(Path(file).read_text())
    left = {kind: [item for item in items if item not in before[kind]] for kind, items in seen.items()}
    for kind, items in left.items():
        for item in items:
            print(f"left behind: {kind}: {item}", file=sys.stderr)
    return 1 if any(left.values()) else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
