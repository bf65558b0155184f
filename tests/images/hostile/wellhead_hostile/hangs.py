"""Silence, or noise that only looks like life, at every place where a host waits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from wellhead_hostile import frames
from wellhead_hostile.frames import Said, Talk
from wellhead_sdk.wire import messages as m


def before_serving(socket: Path) -> None:
    """Start, and never listen."""
    frames.forever()


def in_describe(answer: m.Description) -> m.Description:
    """Take the first call and never answer."""
    frames.forever()
    return answer


def in_authenticate(credentials: m.Credentials) -> m.Identity:
    """Take the secrets and never answer."""
    frames.forever()
    return m.Identity()


def in_discover() -> Iterator[m.OfferedStream]:
    """Begin to offer, and stop."""
    frames.forever()
    yield m.OfferedStream("records", frames.RECORDS)


def in_plan(plan: m.ReadPlan) -> m.ReadPlan:
    """Never answer Read."""
    frames.forever()
    return plan


def in_emit(talk: Talk) -> Iterator[Said]:
    """Send a page, and then nothing although there is credit."""
    yield from talk.pages(1)
    frames.forever()


def in_checkpoint(committed: m.Committed) -> None:
    """Never say that the commit was heard."""
    frames.forever()


def drip(talk: Talk) -> Iterator[Said]:
    """Look alive for ever without bringing a row."""
    yield from talk.pages(1)
    while True:
        yield m.ProgressFrame(requests_total=1)
        time.sleep(0.2)


def endless_wait(talk: Talk) -> Iterator[Said]:
    """Ask to be waited for until next year."""
    yield from talk.pages(1)
    yield m.WaitFrame(datetime.now(UTC) + timedelta(days=365), "the source is at lunch")
    frames.forever()


def without_end(talk: Talk) -> Iterator[Said]:
    """Send rows for ever, and do not listen when asked to stop."""
    yield talk.schema()
    while True:
        yield talk.batch()
        yield talk.checkpoint()
        time.sleep(0.05)


def on_sigterm() -> None:
    """Do not end."""
