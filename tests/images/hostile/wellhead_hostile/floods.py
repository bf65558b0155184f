"""Too much of everything a host or a machine has to hold."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from wellhead_hostile.frames import RECORDS, Said, Talk
from wellhead_sdk.wire import messages as m

_MIB = 1024 * 1024


def logs(talk: Talk) -> Iterator[Said]:
    """Send fifty megabytes of log frames, which cost no credit."""
    line = m.LogFrame(m.LogLevel.ERROR, "x" * 1000, (("field", "y" * 20),))
    yield talk.schema()
    for _ in range(50_000):
        yield line
    yield talk.batch()
    yield from talk.end()


def log_fields(talk: Talk) -> Iterator[Said]:
    """Log fields that are named like the host's own, or like nothing at all."""
    yield talk.schema()
    for name in ("source", "level", "message", "self", "run", "run_id", "connection", "time", "", "a b=c", "\n", "\0"):
        yield m.LogFrame(m.LogLevel.INFO, f"named {name!r}", ((name, "forged\nlevel=error msg=forged"),))
    yield m.LogFrame(m.LogLevel.INFO, "a line\nand a forged one")
    yield talk.batch()
    yield from talk.end()


def stdout(talk: Talk) -> Iterator[Said]:
    """Write a hundred megabytes to stdout, without a line's end for long stretches."""
    yield talk.schema()
    for _ in range(100):
        os.write(1, b"x" * (_MIB - 1) + b"\n")
    yield talk.batch()
    yield from talk.end()


def progress(talk: Talk) -> Iterator[Said]:
    """Send frames that carry nothing, as fast as they go."""
    yield talk.schema()
    for number in range(50_000):
        yield m.ProgressFrame(requests_total=number)
    yield talk.batch()
    yield from talk.end()


def offers(talk: Talk) -> Iterator[Said]:
    """Offer five thousand checkpoints of 64 KiB for nothing at all."""
    yield talk.schema()
    state = b"s" * 65_536
    for _ in range(5_000):
        yield talk.checkpoint(state)
    yield talk.batch()
    yield from talk.end()


def empty_batches(talk: Talk) -> Iterator[Said]:
    """Send ten thousand batches without a row."""
    yield talk.schema()
    nothing = pa.RecordBatch.from_pylist([], schema=RECORDS)
    for _ in range(10_000):
        yield talk.batch_of(nothing)
    yield from talk.end()


def schemas(talk: Talk) -> Iterator[Said]:
    """Change the schema after every checkpoint, a thousand times."""
    for number in range(1_000):
        schema = pa.schema([*RECORDS, pa.field(f"column_{number}", pa.int64())])
        yield talk.schema(schema)
        yield talk.checkpoint()
    yield talk.done()


def rejected(talk: Talk) -> Iterator[Said]:
    """Set aside ten times as many records as are sent."""
    yield talk.schema()
    yield talk.batch()
    for number in range(2_000):
        yield talk.rejected(b"not a record" * 100, key=f'{{"id": {number}}}')
    yield from talk.end()


def memory(talk: Talk) -> Iterator[Said]:
    """Take memory until the kernel ends us."""
    yield from talk.pages(1)
    taken = []
    while True:
        taken.append(bytearray(os.urandom(4096) * (4 * _MIB // 4096)))


def processes(talk: Talk) -> Iterator[Said]:
    """Fork until nothing forks any more, then say how far it went."""
    yield talk.schema()
    bomb = subprocess.run(
        [sys.executable, "-m", "wellhead_hostile.floods"], capture_output=True, text=True, check=False, timeout=60
    )
    yield talk.batch((f"forks: {bomb.stdout.strip() or bomb.returncode}",))
    yield from talk.end()


def temporary_files(talk: Talk) -> Iterator[Said]:
    """Fill every place that takes a byte, and say how much each took."""
    yield talk.schema()
    yield talk.batch(tuple(f"{folder}: {fill(Path(folder), 64 * 1024 * _MIB)}" for folder in ("/tmp", "/dev/shm")))
    yield from talk.end()


def fill(folder: Path, limit: int) -> int:
    """Write into ``folder`` until it takes no more, or ``limit`` bytes are there; return how many it took."""
    taken = 0
    with contextlib.suppress(OSError), (folder / "flood").open("wb", buffering=0) as file:
        while taken < limit:
            taken += file.write(b"x" * 65_536)
    return taken


def _fork_until_refused() -> None:
    """Fork children that do nothing; on refusal tell their number and end with them."""
    children: list[int] = []
    while len(children) < 100_000:
        try:
            child = os.fork()
        except OSError:
            break
        if child == 0:
            time.sleep(600)
            os._exit(0)
        children.append(child)
    sys.stdout.write(f"{len(children)}\n")
    sys.stdout.flush()
    for child in children:
        os.kill(child, 9)


if __name__ == "__main__":
    _fork_until_refused()
