"""Ends that are no lie: every class of the error table, and a process that is suddenly gone."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from wellhead_hostile.frames import Said, Talk
from wellhead_sdk.wire import messages as m


def fails(kind: str, reason: str, *, retry_after_s: float | None = None) -> Callable[[Talk], Iterator[Said]]:
    """Return a read that ends with this failure after a committed page."""

    def emit(talk: Talk) -> Iterator[Said]:
        yield from talk.pages(1)
        yield m.Failure(kind, reason, "so it was ordered", retry_after_s, talk.stream)

    return emit


def reports_local_state(talk: Talk) -> Iterator[Said]:
    """Report what the honest SDK reports when its connector tries to write to the disk."""
    yield from talk.pages(1)
    yield m.ViolationFrame("local_state", "/var/lib/connector.state", "read-only file system")
    yield from talk.end()


def reports_no_space(talk: Talk) -> Iterator[Said]:
    """Report what the honest SDK reports when its connector fills its scratch space."""
    yield from talk.pages(1)
    yield m.ViolationFrame("no_space", "/tmp/cache", "no space left on device")
    yield from talk.end()


def exits_before_serving(socket: Path) -> None:
    """End well, without ever having listened."""
    os._exit(0)


def exits_3_before_serving(socket: Path) -> None:
    """End with a status and a last word."""
    os.write(2, b"cannot find libsource.so.4\n")
    os._exit(3)


def exits_0_in_read(talk: Talk) -> Iterator[Said]:
    """End well, in the middle of a read."""
    yield from talk.pages(1)
    os._exit(0)


def crashes(talk: Talk) -> Iterator[Said]:
    """Die of a segmentation fault in the middle of a read."""
    yield from talk.pages(1)
    # To this thread: sent to the process, another one may take it, and the call would end well before the process does.
    signal.pthread_kill(threading.get_ident(), signal.SIGSEGV)
