"""Both halves of the protocol in one process: an author's connector on a real socket, and a host's session with it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from wellhead.clock import SystemClock
from wellhead.session.client import Deadlines, Session
from wellhead_sdk.connector import Connector
from wellhead_sdk.server import Release, Server
from wellhead_sdk.wire import messages as m

RELEASE = Release("dev/test", "1.2.3", "a" * 64)
DEADLINES = Deadlines(describe_s=5, authenticate_s=5, rotate_s=5, discover_s=5, read_s=5, checkpoint_s=5, finish_s=5)


@contextmanager
def talking(
    connector: Connector, on_log: Callable[[m.LogFrame], None] = lambda _: None, deadlines: Deadlines = DEADLINES
) -> Iterator[Session]:
    """Serve ``connector`` and yield a session with it; nothing is said yet."""
    with tempfile.TemporaryDirectory(prefix="wh") as folder:
        path = Path(folder) / "c.sock"
        with (
            Server(connector, RELEASE, path),
            Session.open(
                path, owner_uid=os.getuid(), clock=SystemClock(), deadlines=deadlines, on_log=on_log
            ) as session,
        ):
            yield session


Start = Callable[..., Session]


@pytest.fixture
def start() -> Iterator[Start]:
    """Return a function that serves a connector and authenticates."""
    with ExitStack() as stack:

        def begin(connector: Connector, on_log: Callable[[m.LogFrame], None] = lambda _: None) -> Session:
            session = stack.enter_context(talking(connector, on_log))
            session.describe()
            session.authenticate(m.Credentials("{}", (m.Secret("password", "canary-secret"),)))
            return session

        yield begin
