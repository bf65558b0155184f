"""A host in small: it talks to a connector over a real socket, checks what must agree, and hands out tables.

It commits nothing and resumes from whatever state it is told, so that a test can stop a read anywhere and go on.
"""

from __future__ import annotations

import json
import queue
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa

from wellhead_sdk.connector import Connector
from wellhead_sdk.server import Release, Server
from wellhead_sdk.wire import arrow, codec, service, status
from wellhead_sdk.wire import messages as m

#: The release a connector under test says it is.
RELEASE = Release("test/connector", "0.0.0", "0" * 64)
CREDIT = 16 * 1024 * 1024
TIMEOUT_S = 60.0


class Broken(AssertionError):  # noqa: N818 - read as `raise Broken(...)`
    """The connector broke the protocol, or did what a well-behaved one does not."""


class Failed(Exception):  # noqa: N818
    """The connector reported a failure."""

    def __init__(self, failure: m.Failure) -> None:
        super().__init__(f"{failure.kind}/{failure.reason}: {failure.message}")
        self.failure = failure


@dataclass(slots=True)
class Reading:
    """What one unit sent, up to its end or to where it was stopped."""

    unit: m.Unit
    schema: pa.Schema | None = None
    batches: list[pa.RecordBatch] = field(default_factory=list)
    checkpoints: list[m.CheckpointFrame] = field(default_factory=list)
    rejected: list[m.RejectedFrame] = field(default_factory=list)
    waits: list[m.WaitFrame] = field(default_factory=list)
    logs: list[m.LogFrame] = field(default_factory=list)
    violations: list[m.ViolationFrame] = field(default_factory=list)
    progress: m.ProgressFrame = field(default_factory=m.ProgressFrame)
    done: m.DoneFrame | None = None
    covered_rows: int = 0
    """Rows that the last checkpoint covers; what follows is read again by whoever goes on from it."""

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Every record, in order."""
        return [row for batch in self.batches for row in batch.to_pylist()]

    @property
    def covered(self) -> list[dict[str, Any]]:
        """The records up to the last checkpoint."""
        return self.rows[: self.covered_rows]

    @property
    def state(self) -> bytes:
        """The state last offered; empty where there was none."""
        return self.checkpoints[-1].state if self.checkpoints else b""

    @property
    def rest(self) -> m.Unit:
        """The unit as a later read goes on with it."""
        version = self.checkpoints[-1].state_version if self.checkpoints else 0
        return replace(self.unit, state=self.state, state_version=version)

    @property
    def cursor(self) -> Any:
        """The state last offered, as JSON."""
        return json.loads(self.state)


class Conversation:
    """The host's half, on one channel."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._channel = channel
        self._reads = 0

    def describe(self, versions: Sequence[int] = m.PROTOCOL_VERSIONS) -> m.Description:
        """Shake hands."""
        description: m.Description = self._ask(service.DESCRIBE, m.Hello(tuple(versions)), wait_for_ready=True)
        return description

    def authenticate(
        self,
        config: Mapping[str, Any] | None = None,
        secrets: Mapping[str, str] | None = None,
        *,
        hosts: Sequence[m.OpenedHost] = (),
        rotation: int = 0,
    ) -> m.Identity:
        """Deliver configuration and secrets.

        Raises:
            Failed: the connector refuses.
        """
        lent = tuple(m.Secret(name, value) for name, value in (secrets or {}).items())
        credentials = m.Credentials(json.dumps(dict(config or {})), lent, tuple(hosts), rotation=rotation)
        identity: m.Identity = self._ask(service.AUTHENTICATE, credentials)
        return identity

    def discover(self, *names: str) -> dict[str, m.OfferedStream]:
        """Return the offered streams by name."""
        call = service.stub(self._channel, service.DISCOVER)(codec.encode_discover(names), timeout=TIMEOUT_S)
        try:
            streams = [codec.decode_offered(data) for data in call]
        except grpc.RpcError as exc:
            raise Failed(_failure(exc)) from exc
        return {stream.name: stream for stream in streams}

    def plan(self, order: m.ReadOrder) -> m.ReadPlan:
        """Open a read; its id is ours to choose."""
        self._reads += 1
        plan: m.ReadPlan = self._ask(service.READ, replace(order, read_id=self._read_id))
        return plan

    @property
    def _read_id(self) -> str:
        return f"read-{self._reads}"

    def read(
        self,
        stream: str,
        mode: m.SyncMode = m.SyncMode.FULL_REFRESH,
        *,
        cut_after: int | None = None,
        drain_after: int | None = None,
        **order: Any,
    ) -> dict[str, Reading]:
        """Read every unit of ``stream``, one after the other, and return each by its key.

        Args:
            stream: the stream.
            mode: how to read it.
            cut_after: hang up on each unit at exactly so many checkpoints, as a host that dies does; ``done`` stays
                None.
            drain_after: ask each unit to drain after so many checkpoints; a short one may end before it hears.
            order: further fields of the order, such as ``columns``, or ``units`` to go on with.

        Raises:
            Failed: the connector reports a failure.
            Broken: it breaks the protocol.
        """
        plan = self.plan(m.ReadOrder("", stream, mode, **order))
        return {unit.key: self.emit(stream, unit, cut_after=cut_after, drain_after=drain_after) for unit in plan.units}

    def emit(
        self,
        stream: str,
        unit: m.Unit,
        *,
        cut_after: int | None = None,
        drain_after: int | None = None,
        credit: int = CREDIT,
    ) -> Reading:
        """Read one unit of the read last planned."""
        requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        requests.put(codec.encode_control(m.Open(self._read_id, unit.key, credit)))
        call = service.stub(self._channel, service.EMIT)(iter(requests.get, None), timeout=TIMEOUT_S)
        taking = _Taking(stream, Reading(unit))
        try:
            for data in call:
                frame = codec.decode_frame(data)
                taking.take(frame)
                if cost := m.cost_of(frame):
                    requests.put(codec.encode_control(m.Credit(cost)))
                offers = len(taking.reading.checkpoints)
                if isinstance(frame, m.CheckpointFrame) and offers == cut_after:
                    return taking.reading
                if isinstance(frame, m.CheckpointFrame) and offers == drain_after:
                    requests.put(codec.encode_control(m.Stop(m.StopMode.DRAIN, TIMEOUT_S)))
                if isinstance(frame, m.DoneFrame):
                    requests.put(None)
        except grpc.RpcError as exc:
            raise Failed(_failure(exc)) from exc
        finally:
            requests.put(None)
            call.cancel()
        if taking.reading.done is None:
            raise Broken(f"unit {unit.key!r} ended without done")
        return taking.reading

    def commit(self, reading: Reading, commit_no: int = 1) -> None:
        """Say that what ``reading`` last offered is committed."""
        offer = reading.checkpoints[-1]
        self._ask(
            service.CHECKPOINT,
            m.Committed(
                self._read_id, reading.unit.key, offer.through_batch, commit_no, offer.state, offer.state_version
            ),
        )

    def _ask(self, method: service.Method[Any, Any], value: Any, **options: Any) -> Any:
        try:
            answer = service.stub(self._channel, method)(method.encode_request(value), timeout=TIMEOUT_S, **options)
        except grpc.RpcError as exc:
            raise Failed(_failure(exc)) from exc
        return method.decode_response(answer)


class _Taking:
    """Follows one unit's frames and holds them against each other."""

    def __init__(self, stream: str, reading: Reading) -> None:
        self.reading = reading
        self._stream = stream
        self._rows = self._rows_since = self._rejected_since = 0

    def take(self, frame: m.Frame) -> None:
        reading = self.reading
        _require(reading.done is None or isinstance(frame, m.LogFrame), f"{type(frame).__name__} after done")
        match frame:
            case m.SchemaFrame():
                _require(not self._rows_since and not self._rejected_since, "a schema stands amid records")
                reading.schema = frame.schema
            case m.BatchFrame():
                self._batch(frame)
            case m.RejectedFrame():
                reading.rejected.append(frame)
                self._rejected_since += 1
            case m.CheckpointFrame():
                said = (frame.through_batch, frame.rows_since_last, frame.rejected_since_last)
                sent = (len(reading.batches), self._rows_since, self._rejected_since)
                _require(said == sent, f"a checkpoint says {said}, sent were {sent}")
                _require(len(frame.state) <= m.MAX_STATE_BYTES, "a state is larger than 1 MiB")
                reading.checkpoints.append(frame)
                reading.covered_rows = self._rows
                self._rows_since = self._rejected_since = 0
            case m.WaitFrame():
                reading.waits.append(frame)
            case m.ProgressFrame():
                reading.progress = frame
            case m.LogFrame():
                reading.logs.append(frame)
            case m.ViolationFrame():
                reading.violations.append(frame)
            case m.Failure():
                raise Failed(frame)
            case m.DoneFrame():
                totals = m.StreamTotals(self._stream, self._rows, len(reading.rejected), len(reading.batches))
                _require(frame.totals == (totals,), f"done says {frame.totals}, sent were {totals}")
                reading.done = frame

    def _batch(self, frame: m.BatchFrame) -> None:
        reading = self.reading
        _require(frame.batch_no == len(reading.batches) + 1, f"batch {frame.batch_no} out of turn")
        _require(arrow.crc32c(frame.arrow_ipc) == frame.crc32c, "a checksum is wrong")
        batch = arrow.from_ipc(frame.arrow_ipc)
        _require(batch.num_rows == frame.rows, "a row count is wrong")
        _require(
            reading.schema is not None and batch.schema.equals(reading.schema, check_metadata=True),
            "a batch has another schema than announced",
        )
        reading.batches.append(batch)
        self._rows += frame.rows
        self._rows_since += frame.rows


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Broken(otherwise)


def _failure(error: grpc.RpcError) -> m.Failure:
    metadata: Any = error.trailing_metadata() or ()
    for key, value in metadata:
        if key == service.STATUS_KEY and (failure := status.decode(value)) is not None:
            return failure
    return m.Failure(status.kind_of(error.code().value[0]), error.code().name.lower(), error.details() or "")


@contextmanager
def at_socket(path: Path) -> Iterator[Conversation]:
    """Talk to the connector that serves at ``path``, in a container or not."""
    options = [("grpc.max_receive_message_length", m.MAX_MESSAGE_BYTES), ("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"unix:{path}", options=options) as channel:
        yield Conversation(channel)


@contextmanager
def running(
    connector: Connector, config: Mapping[str, Any] | None = None, secrets: Mapping[str, str] | None = None
) -> Iterator[Conversation]:
    """Serve ``connector`` in this process, authenticate, and talk to it.

    Raises:
        Failed: it does not accept ``config`` and ``secrets``.
    """
    with tempfile.TemporaryDirectory(prefix="wh") as folder:
        path = Path(folder) / "c.sock"
        with Server(connector, RELEASE, path), at_socket(path) as conversation:
            conversation.describe()
            conversation.authenticate(config, secrets)
            yield conversation
