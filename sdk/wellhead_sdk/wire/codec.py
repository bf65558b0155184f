"""Values of `messages` to bytes on the wire and back: the only importer of the generated code.

Decoding is where foreign bytes become trusted values, so it refuses what the protocol does not name: an enumeration's
zero, an unknown frame, a time out of range, a schema that is none. Sizes, counts and order belong to the session.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, TypeVar, assert_never, get_args

from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError as ProtobufError
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from wellhead_sdk.wire import arrow, status
from wellhead_sdk.wire import connector_pb2 as pb
from wellhead_sdk.wire import messages as m

P = TypeVar("P", bound=Message)
E = TypeVar("E", bound=Enum)

_SENSITIVE: Any = pb.sensitive
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FILTER_OPS = {"=": 1, "!=": 2, "<": 3, "<=": 4, ">": 5, ">=": 6, "in": 7, "is_null": 8}
_FILTER_WORDS = {number: word for word, number in _FILTER_OPS.items()}


class DecodeError(ValueError):
    """Bytes that are no message of this protocol; the text names the message and the field."""


def _parse(kind: type[P], data: bytes) -> P:
    try:
        return kind.FromString(data)
    except ProtobufError as exc:
        raise DecodeError(f"{kind.DESCRIPTOR.name}: {exc}") from exc


def _enum_to_pb(value: Enum, prefix: str) -> int:
    number: int = pb.DESCRIPTOR.enum_types_by_name[_camel(prefix)].values_by_name[f"{prefix}_{value.name}"].number
    return number


def _camel(prefix: str) -> str:
    return "".join(word.capitalize() for word in prefix.split("_"))


_ENUMS: Mapping[type[Enum], str] = {
    m.SyncMode: "SYNC_MODE",
    m.Replay: "REPLAY",
    m.WriteMode: "WRITE_MODE",
    m.Until: "UNTIL",
    m.StopMode: "STOP_MODE",
    m.CheckpointType: "CHECKPOINT_TYPE",
    m.DoneReason: "DONE_REASON",
    m.LogLevel: "LOG_LEVEL",
}
_NUMBERS: Mapping[Enum, int] = {value: _enum_to_pb(value, prefix) for kind, prefix in _ENUMS.items() for value in kind}
_VALUES: Mapping[tuple[type[Enum], int], Enum] = {(type(value), number): value for value, number in _NUMBERS.items()}


def _number(value: Enum) -> Any:
    return _NUMBERS[value]


def _value(kind: type[E], number: int, where: str) -> E:
    found = _VALUES.get((kind, number))
    if not isinstance(found, kind):
        raise DecodeError(f"{where}: {number} is no {kind.__name__}")
    return found


def _timestamp(value: datetime | None) -> Timestamp | None:
    if value is None:
        return None
    if value.tzinfo is None:
        raise ValueError(f"{value} names no time zone")
    since = value - _EPOCH
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1000)


def _datetime(owner: Message, field: str) -> datetime | None:
    if not owner.HasField(field):
        return None
    stamp: Timestamp = getattr(owner, field)
    try:
        return _EPOCH + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1000)
    except OverflowError as exc:
        raise DecodeError(f"{owner.DESCRIPTOR.name}.{field}: {stamp.seconds} s is outside the calendar") from exc


def _optional(owner: Message, field: str) -> int | None:
    return int(getattr(owner, field)) if owner.HasField(field) else None


def _schema(data: bytes, where: str) -> Any:
    try:
        return arrow.schema_from_bytes(data)
    except arrow.ArrowError as exc:
        raise DecodeError(f"{where}: {exc}") from exc


# Describe


def encode_hello(value: m.Hello) -> bytes:
    """Encode the host's handshake."""
    return _hello(value).SerializeToString()


def _hello(value: m.Hello) -> pb.DescribeRequest:
    return pb.DescribeRequest(
        protocol_versions=value.protocol_versions, features=value.features, host_version=value.host_version
    )


def decode_hello(data: bytes) -> m.Hello:
    """Decode the host's handshake."""
    message = _parse(pb.DescribeRequest, data)
    return m.Hello(tuple(message.protocol_versions), tuple(message.features), message.host_version)


def encode_description(value: m.Description) -> bytes:
    """Encode a connector's handshake."""
    return _description(value).SerializeToString()


def _description(value: m.Description) -> pb.DescribeResponse:
    return pb.DescribeResponse(
        protocol_version=value.protocol_version,
        features=value.features,
        connector_id=value.connector_id,
        version=value.version,
        manifest_sha256=value.manifest_sha256,
        max_parallel=value.max_parallel,
        sdk=value.sdk,
    )


def decode_description(data: bytes) -> m.Description:
    """Decode a connector's handshake."""
    message = _parse(pb.DescribeResponse, data)
    return m.Description(
        protocol_version=message.protocol_version,
        features=tuple(message.features),
        connector_id=message.connector_id,
        version=message.version,
        manifest_sha256=message.manifest_sha256,
        max_parallel=message.max_parallel,
        sdk=message.sdk,
    )


# Authenticate


def encode_credentials(value: m.Credentials) -> bytes:
    """Encode configuration and secrets."""
    return _credentials(value).SerializeToString()


def _credentials(value: m.Credentials) -> pb.AuthenticateRequest:
    return pb.AuthenticateRequest(
        config_json=value.config_json,
        secrets=[
            pb.Secret(
                name=secret.name, value=secret.value, expires_at=_timestamp(secret.expires_at), plain=secret.plain
            )
            for secret in value.secrets
        ],
        probes=value.probes,
        hosts=[pb.OpenedHost(host=host.host, port=host.port, private=host.private) for host in value.hosts],
        rotation=value.rotation,
    )


def decode_credentials(data: bytes) -> m.Credentials:
    """Decode configuration and secrets."""
    message = _parse(pb.AuthenticateRequest, data)
    return m.Credentials(
        config_json=message.config_json,
        secrets=tuple(
            m.Secret(each.name, each.value, _datetime(each, "expires_at"), each.plain) for each in message.secrets
        ),
        hosts=tuple(m.OpenedHost(each.host, each.port, each.private) for each in message.hosts),
        probes=tuple(message.probes),
        rotation=message.rotation,
    )


def encode_identity(value: m.Identity) -> bytes:
    """Encode who we are at the source."""
    return _identity(value).SerializeToString()


def _identity(value: m.Identity) -> pb.AuthenticateResponse:
    return pb.AuthenticateResponse(
        identity=value.identity,
        scopes=value.scopes,
        expires_at=_timestamp(value.expires_at),
        probes=[
            pb.Probe(name=probe.name, ok=probe.ok, detail=probe.detail, duration_ms=probe.duration_ms)
            for probe in value.probes
        ],
    )


def decode_identity(data: bytes) -> m.Identity:
    """Decode who we are at the source."""
    message = _parse(pb.AuthenticateResponse, data)
    return m.Identity(
        identity=message.identity,
        scopes=tuple(message.scopes),
        expires_at=_datetime(message, "expires_at"),
        probes=tuple(m.Probe(each.name, each.ok, each.detail, each.duration_ms) for each in message.probes),
    )


# Discover


def encode_discover(names: tuple[str, ...]) -> bytes:
    """Encode the names of the streams to describe; none means all."""
    return pb.DiscoverRequest(names=names).SerializeToString()


def decode_discover(data: bytes) -> tuple[str, ...]:
    """Decode the names of the streams to describe; none means all."""
    return tuple(_parse(pb.DiscoverRequest, data).names)


def encode_offered(value: m.OfferedStream) -> bytes:
    """Encode one offered stream."""
    return _offered(value).SerializeToString()


def _offered(value: m.OfferedStream) -> pb.DiscoverResponse:
    return pb.DiscoverResponse(
        stream=pb.OfferedStream(
            name=value.name,
            arrow_schema=arrow.schema_bytes(value.schema),
            primary_key=value.primary_key,
            cursor_fields=value.cursor_fields,
            sync_modes=[_number(mode) for mode in value.sync_modes],
            replay=_number(value.replay),
            estimated_rows=value.estimated_rows,
            estimated_bytes=value.estimated_bytes,
            event_time_field=value.event_time_field,
            has_position=value.has_position,
        )
    )


def decode_offered(data: bytes) -> m.OfferedStream:
    """Decode one offered stream."""
    message = _parse(pb.DiscoverResponse, data)
    if not message.HasField("stream"):
        raise DecodeError("DiscoverResponse.stream is missing")
    stream = message.stream
    return m.OfferedStream(
        name=stream.name,
        schema=_schema(stream.arrow_schema, f"OfferedStream {stream.name!r}"),
        primary_key=tuple(stream.primary_key),
        cursor_fields=tuple(stream.cursor_fields),
        sync_modes=tuple(_value(m.SyncMode, mode, "OfferedStream.sync_modes") for mode in stream.sync_modes),
        replay=_value(m.Replay, stream.replay, "OfferedStream.replay"),
        estimated_rows=_optional(stream, "estimated_rows"),
        estimated_bytes=_optional(stream, "estimated_bytes"),
        event_time_field=stream.event_time_field,
        has_position=stream.has_position,
    )


# Read


def encode_order(value: m.ReadOrder) -> bytes:
    """Encode what Read asks for."""
    return _order(value).SerializeToString()


def _order(value: m.ReadOrder) -> pb.ReadRequest:
    return pb.ReadRequest(
        read_id=value.read_id,
        streams=[value.stream],
        mode=_number(value.mode),
        write=_number(value.write),
        generation=value.generation,
        since=_timestamp(value.since),
        until=_number(value.until),
        columns=value.columns,
        filters=[
            pb.Filter(
                column=each.column,
                op=_FILTER_OPS[each.op],  # type: ignore[arg-type]
                values=[_scalar(scalar) for scalar in each.values],
            )
            for each in value.filters
        ],
        batch_rows=value.batch_rows,
        units=[_unit(unit) for unit in value.units],
        cursor_field=value.cursor_field,
        primary_key=value.primary_key,
    )


def decode_order(data: bytes) -> m.ReadOrder:
    """Decode what Read asks for."""
    message = _parse(pb.ReadRequest, data)
    if len(message.streams) != 1:
        raise DecodeError(f"ReadRequest.streams: exactly one is read at a time, not {len(message.streams)}")
    return m.ReadOrder(
        read_id=message.read_id,
        stream=message.streams[0],
        mode=_value(m.SyncMode, message.mode, "ReadRequest.mode"),
        write=_value(m.WriteMode, message.write, "ReadRequest.write"),
        generation=message.generation,
        since=_datetime(message, "since"),
        until=_value(m.Until, message.until, "ReadRequest.until"),
        columns=tuple(message.columns),
        filters=tuple(_filter(each) for each in message.filters),
        batch_rows=message.batch_rows,
        units=tuple(_unit_value(unit) for unit in message.units),
        cursor_field=message.cursor_field,
        primary_key=tuple(message.primary_key),
    )


def _scalar(value: m.FilterScalar) -> pb.Scalar:
    match value:
        case bool():  # before int: True is one
            return pb.Scalar(bool_value=value)
        case int():
            return pb.Scalar(int_value=value)
        case float():
            return pb.Scalar(double_value=value)
        case str():
            return pb.Scalar(string_value=value)
        case _:
            assert_never(value)


def _filter(message: pb.Filter) -> m.Filter:
    word = _FILTER_WORDS.get(int(message.op))
    if word is None:
        raise DecodeError(f"Filter.op: {int(message.op)} is no operation")
    return m.Filter(message.column, word, tuple(_scalar_value(scalar) for scalar in message.values))


def _scalar_value(message: pb.Scalar) -> m.FilterScalar:
    kind = message.WhichOneof("kind")
    if kind is None:
        raise DecodeError("Scalar holds no value this version knows")
    value: m.FilterScalar = getattr(message, kind)
    return value


def _unit(value: m.Unit) -> pb.Unit:
    return pb.Unit(
        key=value.key,
        descriptor=value.descriptor,
        state=value.state,
        state_version=value.state_version,
        complete=value.complete,
        estimated_rows=value.estimated_rows,
    )


def _unit_value(message: pb.Unit) -> m.Unit:
    return m.Unit(
        key=message.key,
        descriptor=message.descriptor,
        state=message.state,
        state_version=message.state_version,
        complete=message.complete,
        estimated_rows=_optional(message, "estimated_rows"),
    )


def encode_plan(value: m.ReadPlan) -> bytes:
    """Encode what Read answers."""
    return _plan(value).SerializeToString()


def _plan(value: m.ReadPlan) -> pb.ReadResponse:
    return pb.ReadResponse(
        units=[_unit(unit) for unit in value.units],
        final_state=value.final_state,
        final_state_version=value.final_state_version,
        columns_pushed_down=value.columns_pushed_down,
        filters_pushed_down=value.filters_pushed_down,
    )


def decode_plan(data: bytes) -> m.ReadPlan:
    """Decode what Read answers."""
    message = _parse(pb.ReadResponse, data)
    return m.ReadPlan(
        units=tuple(_unit_value(unit) for unit in message.units),
        final_state=message.final_state,
        final_state_version=message.final_state_version,
        columns_pushed_down=message.columns_pushed_down,
        filters_pushed_down=tuple(message.filters_pushed_down),
    )


# Emit


def encode_control(value: m.Control) -> bytes:
    """Encode what the host says within an Emit."""
    return _control(value).SerializeToString()


def _control(value: m.Control) -> pb.EmitRequest:
    match value:
        case m.Open():
            return pb.EmitRequest(open=pb.Open(read_id=value.read_id, unit=value.unit, credit=value.credit))
        case m.Credit():
            return pb.EmitRequest(credit=pb.Credit(bytes=value.size_bytes))
        case m.Stop():
            deadline_ms = math.ceil(round(value.deadline_s * 1000, 6))
            return pb.EmitRequest(stop=pb.Stop(mode=_number(value.mode), deadline_ms=deadline_ms))
        case _:
            assert_never(value)


def decode_control(data: bytes) -> m.Control:
    """Decode what the host says within an Emit."""
    message = _parse(pb.EmitRequest, data)
    match message.WhichOneof("control"):
        case "open":
            return m.Open(message.open.read_id, message.open.unit, message.open.credit)
        case "credit":
            return m.Credit(message.credit.bytes)
        case "stop":
            mode = _value(m.StopMode, message.stop.mode, "Stop.mode")
            return m.Stop(mode, message.stop.deadline_ms / 1000)
        case _:
            raise DecodeError("EmitRequest.control is none that this version knows")


def encode_frame(value: m.Frame) -> bytes:
    """Encode one frame."""
    if isinstance(value, m.BatchFrame):
        return _encode_batch(value)
    return _frame(value).SerializeToString(deterministic=True)


# A batch is put together and taken apart by hand: through the generated message its bytes are copied twice more each
# way, which takes longer than everything else that is done to them. The bytes are those protobuf would write.
_BATCH_IN_FRAME = b"\x12"  # field 2 of EmitResponse, length-delimited
_IPC_IN_BATCH = b"\x2a"  # field 5 of BatchFrame, length-delimited


def _encode_batch(value: m.BatchFrame) -> bytes:
    before = pb.BatchFrame(batch_no=value.batch_no, stream=value.stream, rows=value.rows, crc32c=value.crc32c)
    after = pb.BatchFrame(read_at=_timestamp(value.read_at), raw_ref=value.raw_ref)
    head, tail = before.SerializeToString(deterministic=True), after.SerializeToString(deterministic=True)
    if value.arrow_ipc:
        head += _IPC_IN_BATCH + _varint(len(value.arrow_ipc))
    size = len(head) + len(value.arrow_ipc) + len(tail)
    return b"".join((_BATCH_IN_FRAME, _varint(size), head, value.arrow_ipc, tail))


def _decode_batch(data: bytes) -> m.BatchFrame | None:
    """Return the batch in ``data``; None where its bytes are laid out otherwise than `_encode_batch` does it."""
    if data[:1] != _BATCH_IN_FRAME:
        return None
    size, start = _read_varint(data, 1)
    if start + size != len(data):
        return None
    at = _find_ipc(data, start)
    if at is None:
        return None
    length, begin = _read_varint(data, at + 1)
    if begin + length > len(data):
        return None
    try:
        around = pb.BatchFrame.FromString(data[start:at] + data[begin + length :])
    except ProtobufError:
        return None
    # Named twice the last one counts: left to protobuf.
    return None if around.arrow_ipc else replace(_batch_frame(around), arrow_ipc=data[begin : begin + length])


def _find_ipc(data: bytes, at: int) -> int | None:
    """Return where the tag of ``BatchFrame.arrow_ipc`` lies, walking the fields from ``at``."""
    while at < len(data):
        if data[at : at + 1] == _IPC_IN_BATCH:
            return at
        match data[at] & 7:
            case 0:
                at = _read_varint(data, at + 1)[1]
            case 1:
                at += 9
            case 2:
                length, begin = _read_varint(data, at + 1)
                at = begin + length
            case 5:
                at += 5
            case _:
                return None
        # Tags of fields above 15 take more than a byte; the protocol's batch has none.
        if at < len(data) and data[at] & 0x80:
            return None
    return None


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at ``at`` and where it ends; past the end of ``data`` where it is cut off."""
    number = shift = 0
    for end in range(at, min(at + 10, len(data))):
        number |= (data[end] & 0x7F) << shift
        shift += 7
        if not data[end] & 0x80:
            return number, end + 1
    return 0, len(data) + 1


def _frame(value: m.Frame) -> pb.EmitResponse:
    match value:
        case m.SchemaFrame():
            return pb.EmitResponse(
                schema=pb.SchemaFrame(
                    stream=value.stream,
                    arrow_schema=arrow.schema_bytes(value.schema),
                    fingerprint=value.fingerprint,
                )
            )
        case m.BatchFrame():
            return pb.EmitResponse(
                batch=pb.BatchFrame(
                    batch_no=value.batch_no,
                    stream=value.stream,
                    rows=value.rows,
                    crc32c=value.crc32c,
                    arrow_ipc=value.arrow_ipc,
                    read_at=_timestamp(value.read_at),
                    raw_ref=value.raw_ref,
                )
            )
        case m.CheckpointFrame():
            return pb.EmitResponse(
                checkpoint=pb.CheckpointFrame(
                    state=value.state,
                    state_version=value.state_version,
                    checkpoint_type=_number(value.checkpoint_type),
                    through_batch=value.through_batch,
                    rows_since_last=value.rows_since_last,
                    rejected_since_last=value.rejected_since_last,
                    watermark=_timestamp(value.watermark),
                )
            )
        case m.RejectedFrame():
            return pb.EmitResponse(
                rejected=pb.RejectedFrame(
                    stream=value.stream,
                    reason=value.reason,
                    sha256=value.sha256,
                    size=value.size,
                    key_json=value.key_json,
                    sample=value.sample,
                    column=value.column,
                    text=value.text,
                )
            )
        case m.WaitFrame():
            return pb.EmitResponse(wait=pb.WaitFrame(until=_timestamp(value.until), reason=value.reason))
        case m.ProgressFrame():
            return pb.EmitResponse(
                progress=pb.ProgressFrame(
                    requests_total=value.requests_total,
                    requests_failed_total=value.requests_failed_total,
                    bytes_ingested_total=value.bytes_ingested_total,
                    pages_processed_total=value.pages_processed_total,
                    retries_total=value.retries_total,
                )
            )
        case m.LogFrame():
            return pb.EmitResponse(
                log=pb.LogFrame(level=_number(value.level), message=value.message, fields=dict(value.fields))
            )
        case m.ViolationFrame():
            return pb.EmitResponse(violation=pb.ViolationFrame(kind=value.kind, path=value.path, message=value.message))
        case m.Failure():
            return pb.EmitResponse(failure=status.status_of(value))
        case m.DoneFrame():
            return pb.EmitResponse(
                done=pb.DoneFrame(
                    reason=_number(value.reason),
                    totals=[
                        pb.StreamTotals(
                            stream=each.stream, rows=each.rows, rejected=each.rejected, batches=each.batches
                        )
                        for each in value.totals
                    ],
                )
            )
        case _:
            assert_never(value)


def decode_frame(data: bytes) -> m.Frame:
    """Decode one frame.

    Raises:
        DecodeError: no frame this version knows, a field that means nothing, a schema whose fingerprint is not its own.
    """
    batch = _decode_batch(data)
    if batch is not None:
        return batch
    message = _parse(pb.EmitResponse, data)
    kind = message.WhichOneof("frame")
    if kind is None:
        raise DecodeError("EmitResponse.frame is none that this version knows")
    return _FRAMES[kind](getattr(message, kind))


def _schema_frame(message: pb.SchemaFrame) -> m.SchemaFrame:
    where = f"SchemaFrame of {message.stream!r}"
    schema = _schema(message.arrow_schema, where)
    if arrow.fingerprint(message.arrow_schema) != message.fingerprint:
        raise DecodeError(f"{where}: the fingerprint is not that of the schema")
    return m.SchemaFrame(message.stream, schema, message.fingerprint)


def _batch_frame(message: pb.BatchFrame) -> m.BatchFrame:
    return m.BatchFrame(
        batch_no=message.batch_no,
        stream=message.stream,
        rows=message.rows,
        crc32c=message.crc32c,
        arrow_ipc=message.arrow_ipc,
        read_at=_datetime(message, "read_at"),
        raw_ref=message.raw_ref,
    )


def _checkpoint_frame(message: pb.CheckpointFrame) -> m.CheckpointFrame:
    return m.CheckpointFrame(
        state=message.state,
        state_version=message.state_version,
        through_batch=message.through_batch,
        rows_since_last=message.rows_since_last,
        rejected_since_last=message.rejected_since_last,
        checkpoint_type=_value(m.CheckpointType, message.checkpoint_type, "CheckpointFrame.checkpoint_type"),
        watermark=_datetime(message, "watermark"),
    )


def _rejected_frame(message: pb.RejectedFrame) -> m.RejectedFrame:
    return m.RejectedFrame(
        stream=message.stream,
        reason=message.reason,
        sha256=message.sha256,
        size=message.size,
        key_json=message.key_json,
        sample=message.sample,
        column=message.column,
        text=message.text,
    )


def _wait_frame(message: pb.WaitFrame) -> m.WaitFrame:
    until = _datetime(message, "until")
    if until is None:
        raise DecodeError("WaitFrame.until is missing")
    return m.WaitFrame(until, message.reason)


def _progress_frame(message: pb.ProgressFrame) -> m.ProgressFrame:
    return m.ProgressFrame(
        requests_total=message.requests_total,
        requests_failed_total=message.requests_failed_total,
        bytes_ingested_total=message.bytes_ingested_total,
        pages_processed_total=message.pages_processed_total,
        retries_total=message.retries_total,
    )


def _log_frame(message: pb.LogFrame) -> m.LogFrame:
    level = _value(m.LogLevel, message.level, "LogFrame.level")
    return m.LogFrame(level, message.message, tuple(sorted(message.fields.items())))


def _violation_frame(message: pb.ViolationFrame) -> m.ViolationFrame:
    return m.ViolationFrame(message.kind, message.path, message.message)


def _done_frame(message: pb.DoneFrame) -> m.DoneFrame:
    return m.DoneFrame(
        reason=_value(m.DoneReason, message.reason, "DoneFrame.reason"),
        totals=tuple(m.StreamTotals(each.stream, each.rows, each.rejected, each.batches) for each in message.totals),
    )


def _failure(message: Message) -> m.Failure:
    try:
        return status.failure_of(message)
    except ProtobufError as exc:
        raise DecodeError(f"Status: {exc}") from exc


# Checkpoint


def encode_committed(value: m.Committed) -> bytes:
    """Encode what Checkpoint says."""
    return _committed(value).SerializeToString()


def _committed(value: m.Committed) -> pb.CheckpointRequest:
    return pb.CheckpointRequest(
        read_id=value.read_id,
        unit=value.unit,
        through_batch=value.through_batch,
        commit_no=value.commit_no,
        state=value.state,
        state_version=value.state_version,
    )


def decode_committed(data: bytes) -> m.Committed:
    """Decode what Checkpoint says."""
    message = _parse(pb.CheckpointRequest, data)
    return m.Committed(
        read_id=message.read_id,
        unit=message.unit,
        through_batch=message.through_batch,
        commit_no=message.commit_no,
        state=message.state,
        state_version=message.state_version,
    )


def encode_nothing(value: None) -> bytes:
    """Encode Checkpoint's answer."""
    del value
    return pb.CheckpointResponse().SerializeToString()


def decode_nothing(data: bytes) -> None:
    """Decode Checkpoint's answer, which holds nothing."""
    _parse(pb.CheckpointResponse, data)


_FRAMES: Mapping[str, Callable[[Any], m.Frame]] = {
    "schema": _schema_frame,
    "batch": _batch_frame,
    "checkpoint": _checkpoint_frame,
    "rejected": _rejected_frame,
    "wait": _wait_frame,
    "progress": _progress_frame,
    "log": _log_frame,
    "violation": _violation_frame,
    "failure": _failure,
    "done": _done_frame,
}


# Showing

_TO_PB: Mapping[type, Callable[[Any], Message]] = {
    m.Hello: _hello,
    m.Description: _description,
    m.Credentials: _credentials,
    m.Identity: _identity,
    m.OfferedStream: _offered,
    m.ReadOrder: _order,
    m.ReadPlan: _plan,
    m.Committed: _committed,
    **dict.fromkeys((m.Open, m.Credit, m.Stop), _control),
    **dict.fromkeys(get_args(m.Frame), _frame),
}

#: Opaque bytes longer than this show their length only.
SHOWN_BYTES = 48


def text_of(value: object) -> str:
    """Return a message value in one line for a diagnosis, without what is sensitive and without long bytes."""
    return redacted_text(_TO_PB[type(value)](value))


def redacted_text(message: Message) -> str:
    """Return ``message`` in one line; fields marked sensitive are left out by reflection, long bytes are shortened."""
    shown = type(message)()
    shown.CopyFrom(message)
    _strip(shown)
    return text_format.MessageToString(shown, as_one_line=True)


def _strip(message: Message) -> None:
    for field, value in message.ListFields():
        if field.GetOptions().Extensions[_SENSITIVE]:
            message.ClearField(field.name)
        elif field.message_type is not None and field.message_type.GetOptions().map_entry:
            continue
        elif field.message_type is not None:
            for child in _children(field, value):
                _strip(child)
        elif field.type == FieldDescriptor.TYPE_BYTES and not field.is_repeated and len(value) > SHOWN_BYTES:
            setattr(message, field.name, f"({len(value)} bytes)".encode())


def _children(field: FieldDescriptor, value: Any) -> Iterable[Message]:
    children: Iterable[Message] = value if field.is_repeated else (value,)
    return children
