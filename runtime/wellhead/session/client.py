"""The session: which socket is trusted, how each RPC is asked, and what of its answer is believed.

A connector that planted a symlink in its folder must never be handed another run's secrets. So the socket is opened
without following links, judged by what was opened, and dialled through that very descriptor.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import grpc

from wellhead import failpoints, ids
from wellhead.clock import Clock
from wellhead.errors import Code, FatalError, RefusedError, TransientError, WellheadError, counted
from wellhead.session import failures
from wellhead.session.stream import UNDECODABLE, UnitStream
from wellhead_sdk.wire import codec, service
from wellhead_sdk.wire import messages as m

UNTRUSTED_SOCKET = Code("WH-SES-001", "What lies where the connector's socket should be is not that socket.")
NO_SOCKET = Code("WH-SES-004", "The connector's socket is gone.")
PROTOCOL = Code("WH-SES-006", "Host and connector speak no common version of the protocol.")
OTHER_RELEASE = Code("WH-SES-007", "The started connector is not the release that was asked for.")
BAD_DISCOVERY = Code("WH-SES-008", "What Discover answered cannot be used.")
BAD_PLAN = Code("WH-SES-009", "What Read answered cannot be used.")
CHECKPOINT_UNANSWERED = Code("WH-SES-028", "The connector did not take a Checkpoint in three tries.")

CHECKPOINT_TRIES = 3
MAX_STREAMS = 20_000
MAX_DISCOVERY_BYTES = 64 * 1024 * 1024
MAX_UNITS = 4096
_BLAME = "this breaks the protocol: report it to the connector's owner"


Asked = TypeVar("Asked")
Answered = TypeVar("Answered")


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long each answer may take, in seconds."""

    describe_s: float = 10.0
    authenticate_s: float = 60.0
    #: A rotation is answered once every open unit has come to a checkpoint.
    rotate_s: float = 300.0
    discover_s: float = 120.0
    read_s: float = 120.0
    checkpoint_s: float = 30.0
    silence_s: float = 60.0
    finish_s: float = 10.0


@dataclass(slots=True)
class _Socket:
    """The opened socket file and the channel through it."""

    descriptor: int
    channel: grpc.Channel

    def close(self) -> None:
        # The descriptor goes last: a number used again would lead a reconnecting channel to another run's connector.
        self.channel.close()
        os.close(self.descriptor)


@dataclass(slots=True)
class Session:
    """The conversation with one started connector; a context manager. Safe for threads, one unit each."""

    socket: _Socket
    clock: Clock
    deadlines: Deadlines
    on_log: Callable[[m.LogFrame], None]
    _orders: dict[str, m.ReadOrder] = field(default_factory=dict)
    _units: dict[tuple[str, str], UnitStream] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _is_closed: bool = False

    @classmethod
    def open(
        cls,
        socket_path: Path,
        *,
        owner_uid: int,
        clock: Clock,
        deadlines: Deadlines,
        on_log: Callable[[m.LogFrame], None],
    ) -> Session:
        """Dial the socket at ``socket_path``; nothing is said yet.

        Raises:
            RefusedError: WH-SES-001, it is a link, no socket, or not of ``owner_uid``.
            TransientError: WH-SES-004, nothing is there.
        """
        descriptor = _trusted(socket_path, owner_uid)
        channel = grpc.insecure_channel(
            f"unix:/proc/self/fd/{descriptor}",
            options=[
                ("grpc.max_receive_message_length", m.MAX_MESSAGE_BYTES),
                ("grpc.max_send_message_length", m.MAX_MESSAGE_BYTES),
                # Subchannels are shared by address text: a descriptor's number used again would answer from the
                # server it led to before.
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.enable_http_proxy", 0),
                ("grpc.initial_reconnect_backoff_ms", 20),
                ("grpc.min_reconnect_backoff_ms", 20),
                ("grpc.max_reconnect_backoff_ms", 200),
            ],
        )
        return cls(_Socket(descriptor, channel), clock, deadlines, on_log)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Cancel what is open and hang up; safe twice."""
        if not self._is_closed:
            self._is_closed = True
            self.socket.close()

    def describe(
        self, versions: tuple[int, ...] = m.PROTOCOL_VERSIONS, features: tuple[str, ...] = (), host_version: str = ""
    ) -> m.Description:
        """Shake hands; also the heartbeat.

        Raises:
            FatalError: WH-SES-006, the connector chose a version that was not offered, or none.
        """
        hello = m.Hello(versions, features, host_version)
        # Between bind and listen the socket exists and refuses; waiting covers that moment.
        description = self._ask(service.DESCRIBE, hello, self.deadlines.describe_s, wait_for_ready=True)
        if description.protocol_version not in versions:
            raise FatalError(
                f"the connector chose protocol version {description.protocol_version}, offered were {versions}",
                code=PROTOCOL,
                hint="publish a release built with an SDK of this host's protocol, or upgrade the host",
            )
        if description.max_parallel < 1:
            raise FatalError("the connector allows no unit to be open", code=PROTOCOL, hint=_BLAME)
        return description

    def authenticate(self, credentials: m.Credentials) -> m.Identity:
        """Deliver configuration and secrets; with ``rotation`` above 0, replace them in every open unit."""
        deadline_s = self.deadlines.rotate_s if credentials.rotation else self.deadlines.authenticate_s
        return self._ask(service.AUTHENTICATE, credentials, deadline_s)

    def discover(self, names: tuple[str, ...] = ()) -> list[m.OfferedStream]:
        """Return the offered streams, all or those named.

        Raises:
            FatalError: WH-SES-008, a stream twice, one that was not asked for, one missing, or too many.
        """
        streams: dict[str, m.OfferedStream] = {}
        size = 0
        for data in self._messages(service.DISCOVER, names, self.deadlines.discover_s):
            size += len(data)
            stream = _decoded(service.DISCOVER, data)
            if stream.name in streams or not stream.name or (names and stream.name not in names):
                raise FatalError(f"Discover answered {stream.name!r} unasked or twice", code=BAD_DISCOVERY, hint=_BLAME)
            if len(streams) >= MAX_STREAMS or size > MAX_DISCOVERY_BYTES:
                raise FatalError(
                    f"Discover answers more than {MAX_STREAMS} streams or {MAX_DISCOVERY_BYTES >> 20} MiB",
                    code=BAD_DISCOVERY,
                    hint="name the streams you want in the connection's file",
                )
            _check_columns(stream)
            streams[stream.name] = stream
        if names and (missing := [name for name in names if name not in streams]):
            raise FatalError(f"Discover left out {', '.join(missing)}", code=BAD_DISCOVERY, hint=_BLAME)
        return list(streams.values())

    def read(self, order: m.ReadOrder) -> m.ReadPlan:
        """Open a read.

        Raises:
            FatalError: WH-SES-009, the plan names units badly, or is not the one that was sent.
            ConfigurationError: WH-SES-046, the sent plan can no longer be served.
        """
        plan = self._ask(service.READ, order, self.deadlines.read_s)
        _check_plan(order, plan)
        with self._lock:
            self._orders[order.read_id] = order
        return plan

    @contextmanager
    def emit(self, read_id: str, unit: str, credit: int) -> Iterator[UnitStream]:
        """Open one unit of an opened read; leaving cancels it unless it was finished."""
        with self._lock:
            order = self._orders[read_id]
        stream = UnitStream(
            service.stub(self.socket.channel, service.EMIT),
            m.Open(read_id, unit, credit),
            order.stream,
            clock=self.clock,
            silence_s=self.deadlines.silence_s,
            finish_s=self.deadlines.finish_s,
            on_log=self.on_log,
        )
        with stream:
            with self._lock:
                self._units[read_id, unit] = stream
            try:
                yield stream
            finally:
                with self._lock:
                    del self._units[read_id, unit]

    def checkpoint(self, committed: m.Committed) -> None:
        """Say that everything up to there is committed; the commit stands whatever comes of it.

        Raises:
            TransientError: WH-SES-028, it was not answered in three tries.
        """
        with self._lock:
            stream = self._units.get((committed.read_id, committed.unit))
        if stream is not None:
            stream.asking(1)
        try:
            self._checkpoint(committed)
        finally:
            if stream is not None:
                stream.asking(-1)

    def _checkpoint(self, committed: m.Committed) -> None:
        last: WellheadError | None = None
        call = service.stub(self.socket.channel, service.CHECKPOINT)
        for _ in range(CHECKPOINT_TRIES):
            try:
                asked = call.future(service.CHECKPOINT.encode_request(committed), timeout=self.deadlines.checkpoint_s)
                failpoints.reach("checkpoint_sent")
                _decoded(service.CHECKPOINT, asked.result())
            except grpc.RpcError as exc:
                last = failures.error_of_rpc(exc, service.CHECKPOINT.name, self.clock)
            except WellheadError as exc:
                last = exc
            else:
                return
        raise TransientError(
            f"commit {committed.commit_no} of unit {committed.unit} stands, but the connector did not take it: {last}",
            code=CHECKPOINT_UNANSWERED,
        ) from last

    def _ask(
        self, method: service.Method[Asked, Answered], value: Asked, deadline_s: float, **options: Any
    ) -> Answered:
        call = service.stub(self.socket.channel, method)
        try:
            answer = call(method.encode_request(value), timeout=deadline_s, **options)
        except grpc.RpcError as exc:
            raise failures.error_of_rpc(exc, method.name, self.clock) from exc
        return _decoded(method, answer)

    def _messages(self, method: service.Method[Asked, Answered], value: Asked, deadline_s: float) -> Iterator[bytes]:
        call = service.stub(self.socket.channel, method)(method.encode_request(value), timeout=deadline_s)
        try:
            yield from call
        except grpc.RpcError as exc:
            raise failures.error_of_rpc(exc, method.name, self.clock) from exc
        finally:
            call.cancel()


def require_release(description: m.Description, *, connector_id: str, version: str, manifest_sha256: str) -> None:
    """Refuse a started connector that is not the signed release.

    Raises:
        RefusedError: WH-SES-007, naming what differs.
    """
    asked = {"connector": connector_id, "version": version, "manifest sha256": manifest_sha256}
    said = (description.connector_id, description.version, description.manifest_sha256)
    differs = [
        f"{what}: started {is_}, signed {should}"
        for (what, should), is_ in zip(asked.items(), said, strict=True)
        if is_ != should
    ]
    if differs:
        raise RefusedError(
            "the started connector is not the signed release",
            code=OTHER_RELEASE,
            hint="build and publish the release again from one source tree",
            details=tuple(differs),
        )


def _trusted(path: Path, owner_uid: int) -> int:
    """Return a descriptor of the socket file itself, to be dialled through."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError as exc:
        raise TransientError(f"{path} is not there", code=NO_SOCKET) from exc
    except OSError as exc:
        raise RefusedError(f"{path}: {exc.strerror}", code=UNTRUSTED_SOCKET, hint=_PLANTED) from exc
    found = os.fstat(descriptor)
    if stat.S_ISSOCK(found.st_mode) and found.st_uid == owner_uid:
        return descriptor
    os.close(descriptor)
    kind = stat.filemode(found.st_mode)
    raise RefusedError(
        f"{path} is {kind} of uid {found.st_uid}, not a socket of uid {owner_uid}",
        code=UNTRUSTED_SOCKET,
        hint=_PLANTED,
    )


_PLANTED = "the connector put something else where its socket belongs; do not run this release"


def _decoded(method: service.Method[Asked, Answered], data: bytes) -> Answered:
    try:
        return method.decode_response(data)
    except codec.DecodeError as exc:
        raise FatalError(f"{method.name}: {exc}", code=UNDECODABLE, hint=_BLAME) from exc


def _check_columns(stream: m.OfferedStream) -> None:
    named = (
        *stream.primary_key,
        *stream.cursor_fields,
        *((stream.event_time_field,) if stream.event_time_field else ()),
    )
    missing = sorted(set(named) - set(stream.schema.names))
    if missing:
        raise FatalError(
            f"stream {stream.name!r} names columns its schema lacks: {', '.join(missing)}",
            code=BAD_DISCOVERY,
            hint=_BLAME,
        )


def _check_plan(order: m.ReadOrder, plan: m.ReadPlan) -> None:
    keys = [unit.key for unit in plan.units]
    problem = None
    if not keys or len(keys) > MAX_UNITS or len(set(keys)) != len(keys):
        problem = f"{counted(len(keys), 'unit')}, of them {len(set(keys))} different"
    elif any(not ids.is_unit_key(key) for key in keys):
        problem = f"a unit is named {next(key for key in keys if not ids.is_unit_key(key))!r}"
    elif ids.WHOLE_STREAM in keys and len(keys) > 1:
        problem = f"the unit {ids.WHOLE_STREAM!r} stands beside others"
    elif any(index >= len(order.filters) for index in plan.filters_pushed_down):
        problem = "a filter was pushed down that was not asked for"
    elif len(plan.final_state) > m.MAX_STATE_BYTES or any(
        len(unit.descriptor) > m.MAX_STATE_BYTES for unit in plan.units
    ):
        problem = "a descriptor or the final state is larger than 1 MiB"
    elif order.units and {(each.key, each.descriptor) for each in order.units} != {
        (each.key, each.descriptor) for each in plan.units
    }:
        problem = "the units are not those that were sent"
    if problem is not None:
        raise FatalError(f"the plan for {order.stream!r} cannot be used: {problem}", code=BAD_PLAN, hint=_BLAME)
