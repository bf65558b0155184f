"""A connector that says exactly what a test wants, and a clock that stands still."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pytest

from wellhead.session.client import Deadlines, Session
from wellhead.session.stream import UnitStream
from wellhead_sdk.wire import arrow, codec, service, status
from wellhead_sdk.wire import messages as m

SCHEMA = pa.schema([("id", pa.int64()), ("name", pa.string())])
DESCRIPTION = m.Description(1, (), "dev/liar", "1.0.0", "0" * 64, 4, "sdk")
CREDIT = 16 * 1024 * 1024


class StillClock:
    """Time that passes only when told."""

    def __init__(self) -> None:
        self.at = datetime(2026, 1, 1, tzinfo=UTC)
        self.monotonic_s = 1000.0

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.monotonic_s

    def advance(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)
        self.monotonic_s += seconds


def schema_frame(schema: pa.Schema = SCHEMA, stream: str = "s") -> m.SchemaFrame:
    return m.SchemaFrame(stream, schema, arrow.fingerprint(arrow.schema_bytes(schema)))


def batch_frame(number: int = 1, rows: int = 2, stream: str = "s", **changes: Any) -> m.BatchFrame:
    data = arrow.to_ipc(pa.record_batch([list(range(rows)), ["x"] * rows], schema=SCHEMA))
    values: dict[str, Any] = {
        "batch_no": number,
        "stream": stream,
        "rows": rows,
        "crc32c": arrow.crc32c(data),
        "arrow_ipc": data,
    }
    return m.BatchFrame(**(values | changes))


def checkpoint_frame(through: int = 1, rows: int = 2, rejected: int = 0, state: bytes = b"{}") -> m.CheckpointFrame:
    return m.CheckpointFrame(state, 1, through, rows, rejected)


def done_frame(rows: int = 2, rejected: int = 0, batches: int = 1, stream: str = "s") -> m.DoneFrame:
    return m.DoneFrame(m.DoneReason.COMPLETE, (m.StreamTotals(stream, rows, rejected, batches),))


HONEST = (schema_frame(), batch_frame(), checkpoint_frame(), done_frame())

Talk = Callable[[Iterator[m.Control]], Iterator[m.Frame | bytes]]


def refuse(context: grpc.ServicerContext, failure: m.Failure) -> None:
    number = status.grpc_code_of(failure)
    context.set_trailing_metadata(((service.STATUS_KEY, status.encode(failure)),))
    context.abort(next(code for code in grpc.StatusCode if code.value[0] == number), failure.message)


@dataclass
class Liar:
    """What each RPC answers; a Failure is raised, bytes go out as they are."""

    description: m.Description | bytes | m.Failure = DESCRIPTION
    identity: m.Identity | bytes | m.Failure = field(default_factory=m.Identity)
    offered: Sequence[m.OfferedStream | bytes | m.Failure] = ()
    plan: m.ReadPlan | bytes | m.Failure = field(default_factory=lambda: m.ReadPlan((m.Unit("all"),)))
    frames: Sequence[m.Frame | bytes] = HONEST
    talk: Talk | None = None
    committed: Callable[[m.Committed], m.Failure | None] = lambda committed: None

    def behaviours(self) -> dict[str, service.Behaviour]:
        def unary(method: service.Method[Any, Any], answer: Callable[[Any], Any]) -> service.Behaviour:
            def call(data: bytes, context: grpc.ServicerContext) -> bytes:
                value = answer(method.decode_request(data))
                if isinstance(value, m.Failure):
                    refuse(context, value)
                return value if isinstance(value, bytes) else method.encode_response(value)

            return call

        def discover(data: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            for value in self.offered:
                if isinstance(value, m.Failure):
                    refuse(context, value)
                else:
                    yield value if isinstance(value, bytes) else codec.encode_offered(value)

        def emit(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            talk = self.talk or self._say_frames
            for frame in talk(codec.decode_control(data) for data in requests):
                yield frame if isinstance(frame, bytes) else codec.encode_frame(frame)

        return {
            "Describe": unary(service.DESCRIBE, lambda _: self.description),
            "Authenticate": unary(service.AUTHENTICATE, lambda _: self.identity),
            "Discover": discover,
            "Read": unary(service.READ, lambda _: self.plan),
            "Emit": emit,
            "Checkpoint": unary(service.CHECKPOINT, self.committed),
        }

    def _say_frames(self, controls: Iterator[m.Control]) -> Iterator[m.Frame | bytes]:
        yield from self.frames
        for _ in controls:
            pass


@contextmanager
def serving(behaviours: dict[str, service.Behaviour]) -> Iterator[Path]:
    """Serve on a socket with a short path and yield it."""
    with tempfile.TemporaryDirectory(prefix="wh") as folder:
        server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.max_send_message_length", -1)])
        server.add_generic_rpc_handlers((service.handlers(behaviours),))
        server.add_insecure_port(f"unix:{folder}/c.sock")
        server.start()
        try:
            yield Path(folder) / "c.sock"
        finally:
            server.stop(0).wait()


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
def logged() -> list[m.LogFrame]:
    return []


Dial = Callable[[Liar], Session]


@pytest.fixture
def dial(clock: StillClock, logged: list[m.LogFrame]) -> Iterator[Dial]:
    """Return a function that starts a liar and opens a session with it."""
    with ExitStack() as stack:

        def start(liar: Liar) -> Session:
            path = stack.enter_context(serving(liar.behaviours()))
            return stack.enter_context(
                Session.open(path, owner_uid=os.getuid(), clock=clock, deadlines=Deadlines(), on_log=logged.append)
            )

        yield start


@pytest.fixture
def emitting(dial: Dial) -> Callable[[Liar], Any]:
    """Return a function that starts a liar and opens one unit with it."""

    @contextmanager
    def start(liar: Liar, credit: int = CREDIT) -> Iterator[UnitStream]:
        session = dial(liar)
        session.read(m.ReadOrder("r", "s", m.SyncMode.FULL_REFRESH))
        with session.emit("r", "all", credit) as unit:
            yield unit

    return start
