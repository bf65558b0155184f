"""The connector's half of the protocol: turns RPCs into calls of the author's methods and their outcome into answers.

Each Emit has two threads beside gRPC's own: one runs the author's `read`, one takes what the host says. The servicer's
edge is the one place that catches every exception, because whatever an author raises has to reach the host as a status.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import grpc
import pyarrow as pa
from pydantic import ValidationError

from wellhead_sdk.connector import (
    Connector,
    Plan,
    ReadRequest,
    Secrets,
    State,
    Stream,
    Unit,
    decode_state,
    encode_state,
)
from wellhead_sdk.errors import Configuration, ConnectorError, Fatal
from wellhead_sdk.out import Link, Out, Unwind, Why
from wellhead_sdk.wire import codec, service, status
from wellhead_sdk.wire import messages as m

#: Threads beyond one per unit: every other RPC may be open meanwhile. Fewer deadlock.
SPARE_THREADS = 8
#: How long a cancelled Emit waits for the author's `read` to notice.
JOIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Release:
    """What the manifest inside the image says it is."""

    connector_id: str
    version: str
    manifest_sha256: str


@dataclass(frozen=True, slots=True)
class _Read:
    """An opened Read: its order, what it emits, and its units by key."""

    order: m.ReadOrder
    schema: pa.Schema
    units: Mapping[str, m.Unit]


class _Unit:
    """One open Emit."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.session_no = 0


class Server:
    """One connector object on one Unix socket; a context manager that serves while it is open."""

    def __init__(self, connector: Connector, release: Release, socket: Path) -> None:
        self._connector = connector
        self._release = release
        self._reads: dict[str, _Read] = {}
        self._streams: dict[str, Stream] = {}
        self._hidden: frozenset[str] = frozenset()
        # Sessions: `_session_no` counts the deliveries; open units say which one they read with.
        self._changed = threading.Condition()
        self._session: Any = None
        self._session_no = 0
        self._open: set[_Unit] = set()
        self._calls = 0
        self._last_call_at = time.monotonic()
        pool = futures.ThreadPoolExecutor(connector.max_parallel + SPARE_THREADS, thread_name_prefix="rpc")
        self._grpc = grpc.server(
            pool,
            options=[
                ("grpc.max_receive_message_length", m.MAX_MESSAGE_BYTES),
                ("grpc.max_send_message_length", m.MAX_MESSAGE_BYTES),
            ],
        )
        self._pool = pool
        self._grpc.add_generic_rpc_handlers(
            (
                service.handlers(
                    {
                        "Describe": self._unary(service.DESCRIBE, self._describe),
                        "Authenticate": self._unary(service.AUTHENTICATE, self._authenticate),
                        "Discover": self._streaming(service.DISCOVER, self._discover),
                        "Read": self._unary(service.READ, self._read),
                        "Emit": self._counted_stream(self._emit),
                        "Checkpoint": self._unary(service.CHECKPOINT, self._committed),
                    }
                ),
            )
        )
        self._grpc.add_insecure_port(f"unix:{socket}")

    def __enter__(self) -> Server:
        self._grpc.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop(0)

    def stop(self, grace_s: float) -> None:
        """End every call, the gentle way for ``grace_s``, and close the author's session."""
        with self._changed:
            units = list(self._open)
        for unit in units:
            unit.link.control(m.Stop(m.StopMode.DRAIN if grace_s else m.StopMode.NOW, grace_s))
        self._grpc.stop(grace_s).wait()
        self._pool.shutdown(wait=False)
        with self._changed:
            session, self._session = self._session, None
        if session is not None:
            self._connector.close(session)

    def idle_s(self) -> float:
        """Return for how long no RPC has been open."""
        with self._changed:
            return 0.0 if self._calls else time.monotonic() - self._last_call_at

    # RPCs

    def _describe(self, hello: m.Hello, _context: grpc.ServicerContext) -> m.Description:
        common = set(hello.protocol_versions) & set(m.PROTOCOL_VERSIONS)
        return m.Description(
            protocol_version=max(common, default=0),
            features=(),
            connector_id=self._release.connector_id,
            version=self._release.version,
            manifest_sha256=self._release.manifest_sha256,
            max_parallel=self._connector.max_parallel,
            sdk=f"wellhead-sdk {version('wellhead-sdk')}",
        )

    def _authenticate(self, credentials: m.Credentials, context: grpc.ServicerContext) -> m.Identity:
        config = _validated(self._connector, credentials.config_json)
        secrets = Secrets({secret.name: secret.value for secret in credentials.secrets})
        with self._changed:
            self._hidden |= {each.value for each in credentials.secrets if not each.plain and len(each.value) >= 4}
        self._connector.hosts = credentials.hosts
        session = self._connector.authenticate(config, secrets)
        self._replace_session(session, context)
        identity = self._connector.identify(session)
        return m.Identity(
            identity=identity.name,
            scopes=tuple(identity.scopes),
            expires_at=identity.expires_at,
            probes=self._probes(session, credentials),
        )

    def _replace_session(self, session: Any, context: grpc.ServicerContext) -> None:
        """Make ``session`` the one in use, wait until no unit reads with an older one, and close that."""
        with self._changed:
            old, self._session = self._session, session
            self._session_no += 1
            number = self._session_no
            for unit in self._open:
                unit.link.rotate()
            while any(unit.session_no < number for unit in self._open):
                if not context.is_active():
                    return  # the old session stays open for the units that still use it
                self._changed.wait(0.2)
        if old is not None:
            self._connector.close(old)

    def _probes(self, session: Any, credentials: m.Credentials) -> tuple[m.Probe, ...]:
        offered = self._connector.probes(session)
        unknown = [name for name in credentials.probes if name not in offered]
        if unknown:
            raise Configuration(
                f"there is no probe {unknown[0]!r}", reason="not_found", hint=f"known: {', '.join(offered) or 'none'}"
            )
        if credentials.rotation and not credentials.probes:
            return ()
        return tuple(self._probe(name, offered[name]) for name in credentials.probes or offered)

    def _probe(self, name: str, probe: Callable[[], str]) -> m.Probe:
        began = time.monotonic()
        try:
            ok, detail = True, probe()
        except ConnectorError as exc:
            ok, detail = False, self._without_secrets(exc.message)
        return m.Probe(name, ok, detail, round((time.monotonic() - began) * 1000))

    def _discover(self, names: tuple[str, ...], _context: grpc.ServicerContext) -> Iterator[m.OfferedStream]:
        session = self._in_use()
        if names:
            streams: Iterable[Stream] = [self._stream(session, name) for name in names]
        else:
            streams = self._connector.discover(session)
        for stream in streams:
            self._streams[stream.name] = stream
            yield _offered(stream)

    def _read(self, order: m.ReadOrder, _context: grpc.ServicerContext) -> m.ReadPlan:
        session = self._in_use()
        stream = self._streams.get(order.stream) or self._stream(session, order.stream)
        schema = _narrowed(stream, order)
        request = _request(order, schema, stream, m.Unit("all"))
        if order.units:
            self._connector.check_plan(session, request, [_authors_unit(unit) for unit in order.units])
            units, final_state = order.units, b""
        else:
            plan = self._connector.plan(session, request)
            units, final_state = _planned(plan)
        pushed = self._connector.pushdown(session, request)
        self._reads[order.read_id] = _Read(order, schema, {unit.key: unit for unit in units})
        return m.ReadPlan(
            units=units,
            final_state=final_state,
            final_state_version=self._connector.state_version,
            columns_pushed_down=pushed.columns,
            filters_pushed_down=tuple(pushed.filters),
        )

    def _committed(self, committed: m.Committed, _context: grpc.ServicerContext) -> None:
        self._connector.on_committed(self._in_use(), decode_state(committed.state))

    # Emit

    def _emit(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        try:
            opened = codec.decode_control(next(requests))
            if not isinstance(opened, m.Open):
                raise codec.DecodeError(f"an Emit begins with open, not with {type(opened).__name__}")
            read, unit = self._opened(opened)
        except Exception as exc:  # noqa: BLE001 - the servicer's edge
            self._refuse(exc, context)
        link = Link(opened.credit)
        if not context.add_callback(link.abort):
            return
        open_unit = _Unit(link)
        with self._changed:
            self._open.add(open_unit)
            open_unit.session_no = self._session_no
        threads = [
            threading.Thread(target=_listen, args=(requests, link), name="control", daemon=True),
            threading.Thread(target=self._run, args=(read, unit, open_unit), name=f"read-{unit.key}", daemon=True),
        ]
        for thread in threads:
            thread.start()
        try:
            for frame in link.frames():
                yield codec.encode_frame(frame)
        finally:
            link.abort()
            # An author stuck in his source cannot be joined; the process is about to be killed then.
            threads[1].join(JOIN_S)

    def _opened(self, opened: m.Open) -> tuple[_Read, m.Unit]:
        read = self._reads.get(opened.read_id)
        if read is None:
            raise Configuration(f"no Read has the id {opened.read_id!r}", reason="not_found")
        unit = read.units.get(opened.unit)
        if unit is None:
            raise Configuration(f"the Read planned no unit {opened.unit!r}", reason="not_found")
        return read, unit

    def _run(self, read: _Read, unit: m.Unit, open_unit: _Unit) -> None:
        """Run the author's `read` of one unit to its end, over as many sessions as it takes."""
        link = open_unit.link
        try:
            self._pump(read, unit, open_unit)
        except Unwind:
            pass  # the call is over: nobody is left to hear why
        except Exception as exc:  # noqa: BLE001 - the servicer's edge
            try:
                for frame in self._last_words(exc, read.order.stream):
                    link.send(frame)
            except Unwind:
                pass
        finally:
            link.close()
            with self._changed:
                self._open.discard(open_unit)
                self._changed.notify_all()

    def _pump(self, read: _Read, unit: m.Unit, open_unit: _Unit) -> None:
        link = open_unit.link
        stream = self._streams[read.order.stream]
        out = Out(link, _request(read.order, read.schema, stream, unit), self._connector.state_version)
        lingering = threading.Thread(target=out.linger, name="linger", daemon=True)
        lingering.start()
        why: Why | None = Why.ROTATED
        while why is Why.ROTATED:
            with self._changed:
                session, open_unit.session_no = self._session, self._session_no
                link.rotated()
                self._changed.notify_all()
            state = unit.state if out.offered is None else out.offered
            request = _request(read.order, read.schema, stream, replace(unit, state=state))
            why = self._read_once(session, request, out)
            if why is not None:
                out.discard()
        out.finish(m.DoneReason.COMPLETE if why is None else m.DoneReason.STOPPED, unit.state)

    def _read_once(self, session: Any, request: ReadRequest, out: Out) -> Why | None:
        """Return None when the unit was read to its end, else what the author's `read` was unwound for."""
        try:
            self._connector.read(session, request, out)
        except Unwind as unwind:
            if unwind.why is Why.ABORTED:
                raise
        return out.take_unwound()

    # errors

    def _last_words(self, exc: Exception, stream: str) -> Iterator[m.Frame]:
        if isinstance(exc, OSError) and exc.errno in (errno.EROFS, errno.ENOSPC):
            kind = "local_state" if exc.errno == errno.EROFS else "no_space"
            said = self._without_secrets(str(exc.strerror))
            yield m.ViolationFrame(kind, self._without_secrets(str(exc.filename or "")), said)
        failure = self._failure(exc)
        yield replace(failure, stream=failure.stream or stream)

    def _failure(self, exc: Exception) -> m.Failure:
        match exc:
            case ConnectorError():
                failure = exc.failure()
            case codec.DecodeError():
                failure = m.Failure("internal", "undecodable", str(exc))
            case _:
                failure = m.Failure("internal", type(exc).__name__, f"{type(exc).__name__}: {exc}")
        return replace(
            failure,
            message=self._without_secrets(failure.message),
            hint=self._without_secrets(failure.hint),
            fields=tuple((field, self._without_secrets(problem)) for field, problem in failure.fields),
        )

    def _without_secrets(self, text: str) -> str:
        for value in self._hidden:
            text = text.replace(value, "•••")
        return text

    def _refuse(self, exc: Exception, context: grpc.ServicerContext) -> NoReturn:
        failure = self._failure(exc)
        number = status.grpc_code_of(failure)
        code = next(each for each in grpc.StatusCode if each.value[0] == number)
        context.set_trailing_metadata(((service.STATUS_KEY, status.encode(failure)),))
        context.abort(code, failure.message)

    # plumbing

    def _in_use(self) -> Any:
        with self._changed:
            if self._session_no == 0:
                raise Configuration("Authenticate comes first", reason="not_authenticated")
            return self._session

    def _stream(self, session: Any, name: str) -> Stream:
        stream = self._connector.describe(session, name)
        if stream is None:
            raise Configuration(
                f"the source offers no stream {name!r}",
                reason="not_found",
                hint="list what it offers with `wellhead streams`",
                stream=name,
            )
        self._streams[name] = stream
        return stream

    def _unary(self, method: service.Method[Any, Any], behaviour: Callable[..., Any]) -> service.Behaviour:
        def call(data: bytes, context: grpc.ServicerContext) -> bytes:
            with self._counted():
                try:
                    return method.encode_response(behaviour(method.decode_request(data), context))
                except Exception as exc:  # noqa: BLE001 - the servicer's edge
                    self._refuse(exc, context)

        return call

    def _streaming(self, method: service.Method[Any, Any], behaviour: Callable[..., Any]) -> service.Behaviour:
        def call(data: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            with self._counted():
                try:
                    for value in behaviour(method.decode_request(data), context):
                        yield method.encode_response(value)
                except Exception as exc:  # noqa: BLE001 - the servicer's edge
                    self._refuse(exc, context)

        return call

    def _counted_stream(self, behaviour: service.Behaviour) -> service.Behaviour:
        def call(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            with self._counted():
                yield from behaviour(requests, context)

        return call

    def _counted(self) -> _Call:
        return _Call(self)

    def count_call(self, change: int) -> None:
        """Note that an RPC began or ended."""
        with self._changed:
            self._calls += change
            self._last_call_at = time.monotonic()


class _Call:
    """Counts one RPC while it is open."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def __enter__(self) -> None:
        self._server.count_call(1)

    def __exit__(self, *exc: object) -> None:
        self._server.count_call(-1)


def _listen(requests: Iterator[bytes], link: Link) -> None:
    """Take what the host says until it half-closes or the call is over."""
    try:
        for data in requests:
            control = codec.decode_control(data)
            if isinstance(control, m.Open):
                raise codec.DecodeError("open comes once")
            link.control(control)
    except Exception:  # noqa: BLE001 - gRPC raises a bare Exception when the call is cancelled
        link.abort()
    else:
        link.half_close()


def _validated(connector: Connector, config_json: str) -> Any:
    """Return the author's Config.

    Raises:
        Configuration: with every field that is wrong; values are not repeated.
    """
    try:
        return type(connector).Config.model_validate_json(config_json or "{}")
    except ValidationError as exc:
        mistakes = [(".".join(map(str, each["loc"])), each) for each in exc.errors(include_input=False)]
        lacking = ", ".join(name for name, each in mistakes if each["type"] == "missing")
        wrong = ", ".join(dict.fromkeys(name or "its whole" for name, each in mistakes if each["type"] != "missing"))
        said = [f"lacks {lacking}"] * bool(lacking) + [f"is wrong in {wrong}"] * bool(wrong)
        raise Configuration(
            f"the connection's config {', and '.join(said)}",
            fields={name or "config": each["msg"] for name, each in mistakes},
            reason="invalid_config",
            hint="correct the connection's config",
        ) from None


def _offered(stream: Stream) -> m.OfferedStream:
    names = set(stream.schema.names)
    for column in (*stream.primary_key, *stream.cursor_fields, *filter(None, (stream.event_time,))):
        if column not in names:
            raise Fatal(f"stream {stream.name!r} names a column {column!r} that its schema lacks", stream=stream.name)
    return m.OfferedStream(
        name=stream.name,
        schema=stream.schema,
        primary_key=tuple(stream.primary_key),
        cursor_fields=stream.cursor_fields,
        sync_modes=stream.modes,
        replay=m.Replay(stream.replay),
        estimated_rows=stream.estimated_rows,
        estimated_bytes=stream.estimated_bytes,
        event_time_field=stream.event_time,
        has_position=stream.has_position,
    )


def _narrowed(stream: Stream, order: m.ReadOrder) -> pa.Schema:
    """Return the schema of what the order wants.

    Raises:
        Configuration: the stream cannot be read so, with each field that is wrong.
    """
    if order.mode not in stream.modes:
        raise Configuration(
            f"{stream.name!r} cannot be read in mode {order.mode.value}",
            reason="unsupported",
            hint=f"it offers {', '.join(mode.value for mode in stream.modes)}",
            fields={"mode": f"{order.mode.value} is not offered"},
            stream=stream.name,
        )
    wrong: dict[str, str] = {}
    for column in (*order.columns, *order.primary_key, *(each.column for each in order.filters)):
        if column not in stream.schema.names:
            wrong[column] = "no such column"
    if order.mode is m.SyncMode.INCREMENTAL and order.cursor_field not in stream.cursor_fields:
        allowed = ", ".join(stream.cursor_fields) or "none"
        wrong["cursor_field"] = f"{order.cursor_field!r} is not one of: {allowed}"
    if wrong:
        raise Configuration(
            f"{stream.name!r} cannot be read as asked: {', '.join(wrong)}",
            reason="invalid_request",
            fields=wrong,
            stream=stream.name,
        )
    if not order.columns:
        return stream.schema
    fields = [stream.schema.field(name) for name in order.columns]
    return pa.schema(fields, stream.schema.metadata)


def _request(order: m.ReadOrder, schema: pa.Schema, stream: Stream, unit: m.Unit) -> ReadRequest:
    state = decode_state(unit.state)
    return ReadRequest(
        stream=order.stream,
        mode=order.mode,
        schema=schema,
        unit=_authors_unit(unit),
        cursor=state if isinstance(state, dict) else None,
        state=unit.state,
        state_version=unit.state_version,
        since=order.since,
        until=order.until,
        columns=order.columns,
        filters=order.filters,
        batch_size=order.batch_rows or 10_000,
        cursor_field=order.cursor_field,
        primary_key=order.primary_key or tuple(stream.primary_key),
        write=order.write,
        generation=order.generation,
    )


def _authors_unit(unit: m.Unit) -> Unit:
    descriptor: State = decode_state(unit.descriptor)
    return Unit(unit.key, descriptor, unit.estimated_rows)


def _planned(plan: Plan) -> tuple[tuple[m.Unit, ...], bytes]:
    units: Sequence[m.Unit] = [
        m.Unit(unit.key, encode_state(unit.descriptor), estimated_rows=unit.estimated_rows) for unit in plan.units
    ]
    if not units or len({unit.key for unit in units}) != len(units):
        raise Fatal("a plan has at least one unit, and each key once")
    return tuple(units), encode_state(plan.final_state)
