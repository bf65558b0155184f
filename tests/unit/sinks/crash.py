"""A host that replaces a table and is killed: run by test_crash.py, which judges what it prints.

For each n, a child does the work and dies by SIGKILL just before its n-th durable step (each rename, fsync and unlink
counts, and the registry's commits between them); then the table is looked at as a reader would; then children do the
same work again, the first of them killed half as far. The registry is a file that changes at once.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from wellhead.ids import WHOLE_STREAM
from wellhead.sinks import segments
from wellhead.sinks.base import Segment, SegmentKey
from wellhead.sinks.parquet import Parquet
from wellhead.testing.sinks import STREAM, stage

_write = os.replace


class Registry:
    """What the registry would hold, in one file that changes at once."""

    def __init__(self, file: Path) -> None:
        self.file = file
        known = json.loads(file.read_text()) if file.exists() else {}
        self.committed: list[Segment] = [
            Segment(SegmentKey(STREAM, WHOLE_STREAM, **row.pop("key")), **row) for row in known.get("committed", [])
        ]
        self.published: set[str] = set(known.get("published", []))
        self.complete: bool = known.get("complete", False)
        self.swapped: bool = known.get("swapped", False)

    def save(self) -> None:
        step()
        rows = []
        for segment in self.committed:
            key = {name: getattr(segment.key, name) for name in ("generation", "epoch", "commit_no", "write")}
            rows.append({**asdict(segment), "key": key})
        content = {
            "committed": rows,
            "published": sorted(self.published),
            "complete": self.complete,
            "swapped": self.swapped,
        }
        fresh = self.file.with_suffix(".new")
        fresh.write_text(json.dumps(content))
        _write(fresh, self.file)


_steps = [0, -1]


def step() -> None:
    """Count a step; die before the one that was chosen."""
    if _steps[0] == _steps[1]:
        os.kill(os.getpid(), signal.SIGKILL)
    _steps[0] += 1


def counted(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a call a step."""

    def wrapper(*arguments: Any, **named: Any) -> Any:
        step()
        return function(*arguments, **named)

    return wrapper


def work(folder: Path, generation: int) -> None:
    """Do what a run does for a replaced table: finish what is committed, read the rest, exchange."""
    sink, registry = Parquet(folder / "bronze"), Registry(folder / f"registry-{generation}.json")
    while True:
        for segment in registry.committed:
            if segment.name not in registry.published:
                sink.publish(segment)
                registry.published.add(segment.name)
                registry.save()
        done = len(registry.committed)
        if done == 2:
            break
        segment = stage(sink, SegmentKey(STREAM, WHOLE_STREAM, generation, 1, done + 1, "replace"), [generation, done])
        registry.committed.append(segment)
        registry.save()
    if not registry.complete:
        registry.complete = True
        registry.save()
    if not registry.swapped:
        sink.swap(STREAM, generation, keep=1)
        registry.swapped = True
        registry.save()


def in_child(kill_at: int, action: Callable[[], None]) -> int:
    """Run ``action`` in a child that dies at a step; return how it ended: 0, 1 or minus the signal."""
    child = os.fork()
    if child == 0:
        _steps[:] = [0, kill_at]
        code = 1
        try:
            action()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def names(folder: Path) -> list[str]:
    """Return the generations readers see, one a file."""
    table = folder / "bronze" / "acme" / "main" / "flights" / "public.flights"
    return sorted(path.name.split("-")[2] for path in table.glob("*"))


def main(root: Path) -> None:
    """Kill at every step there is."""
    # Arrow looks for pandas at its first value, and its files are a slow import: once here, not in every child.
    pa.scalar(1)
    importlib.import_module("wellhead.sinks.parquet_file")
    os.fsync = counted(os.fsync)
    os.unlink = counted(os.unlink)
    segments.rename = counted(segments.rename)
    kill_at, ended = 0, -signal.SIGKILL
    while ended == -signal.SIGKILL:
        with tempfile.TemporaryDirectory(dir=root) as name:
            folder = Path(name)
            first = in_child(-1, partial(work, folder, 1))
            ended = in_child(kill_at, partial(work, folder, 2))
            seen = [names(folder)]
            again = in_child(kill_at // 2, partial(work, folder, 2))
            seen.append(names(folder))
            last = in_child(-1, partial(work, folder, 2))
            staging = folder / "bronze.staging"
            left = sorted(path.name for path in (staging / "acme/main/flights/public.flights").iterdir())
            result = {
                "kill_at": kill_at,
                "ends": [first, ended, again, last],
                "seen": seen,
                "table": names(folder),
                "left": left,
                "repeated": in_child(-1, partial(work, folder, 2)),
            }
        sys.stdout.write(json.dumps(result) + "\n")
        kill_at += 1


if __name__ == "__main__":
    main(Path(sys.argv[1]))
