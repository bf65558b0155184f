"""Every value survives the wire, and bytes that mean nothing are refused."""

import contextlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellhead_sdk.wire import arrow, codec, service, status
from wellhead_sdk.wire import connector_pb2 as pb
from wellhead_sdk.wire import messages as m

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
times = st.datetimes(
    min_value=datetime(1, 1, 2),  # noqa: DTZ001
    max_value=datetime(9999, 12, 30),  # noqa: DTZ001
    timezones=st.just(UTC),
)
counts = st.integers(0, 2**62)
small = st.integers(0, 2**31)


def tuples(of: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(of, max_size=3).map(tuple)


@st.composite
def schemas(draw: st.DrawFn) -> pa.Schema:
    names = draw(st.lists(texts, unique=True, max_size=4))
    types = st.sampled_from(
        [
            pa.int64(),
            pa.string(),
            pa.timestamp("us", "UTC"),
            pa.decimal128(38, 9),
            pa.list_(pa.struct([("a", pa.bool_())])),
        ]
    )
    return pa.schema([pa.field(name, draw(types), draw(st.booleans()), {"k": draw(texts)}) for name in names])


def schema_frame(stream: str, schema: pa.Schema) -> m.SchemaFrame:
    return m.SchemaFrame(stream, schema, arrow.fingerprint(arrow.schema_bytes(schema)))


units = st.builds(m.Unit, texts, st.binary(max_size=9), st.binary(max_size=9), small, st.booleans(), st.none() | counts)
filters = st.builds(
    m.Filter,
    texts,
    st.sampled_from(["=", "!=", "<", "<=", ">", ">=", "in", "is_null"]),
    tuples(st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | texts),
)
kinds = st.sampled_from(["transient", "throttled", "auth", "permanent", "data", "internal"])
failures = st.builds(
    m.Failure,
    kind=kinds,
    reason=texts,
    message=texts,
    retry_after_s=st.none() | st.integers(0, 10**6).map(float),
    stream=texts,
    hint=texts,
    fields=tuples(st.tuples(texts, texts)),
)

MESSAGES: dict[str, tuple[service.Method[Any, Any], str, st.SearchStrategy[Any]]] = {
    "hello": (service.DESCRIBE, "request", st.builds(m.Hello, tuples(small), tuples(texts), texts)),
    "description": (
        service.DESCRIBE,
        "response",
        st.builds(m.Description, small, tuples(texts), texts, texts, texts, small, texts),
    ),
    "credentials": (
        service.AUTHENTICATE,
        "request",
        st.builds(
            m.Credentials,
            texts,
            tuples(st.builds(m.Secret, texts, texts, st.none() | times, st.booleans())),
            tuples(st.builds(m.OpenedHost, texts, small, st.booleans())),
            tuples(texts),
            small,
        ),
    ),
    "identity": (
        service.AUTHENTICATE,
        "response",
        st.builds(
            m.Identity,
            texts,
            tuples(texts),
            st.none() | times,
            tuples(st.builds(m.Probe, texts, st.booleans(), texts, small)),
        ),
    ),
    "names": (service.DISCOVER, "request", tuples(texts)),
    "offered": (
        service.DISCOVER,
        "response",
        st.builds(
            m.OfferedStream,
            texts,
            schemas(),
            tuples(texts),
            tuples(texts),
            tuples(st.sampled_from(m.SyncMode)),
            st.sampled_from(m.Replay),
            st.none() | counts,
            st.none() | counts,
            texts,
            st.booleans(),
        ),
    ),
    "order": (
        service.READ,
        "request",
        st.builds(
            m.ReadOrder,
            texts,
            texts,
            st.sampled_from(m.SyncMode),
            st.sampled_from(m.WriteMode),
            counts,
            st.none() | times,
            st.sampled_from(m.Until),
            tuples(texts),
            tuples(filters),
            small,
            tuples(units),
            texts,
            tuples(texts),
        ),
    ),
    "plan": (
        service.READ,
        "response",
        st.builds(m.ReadPlan, tuples(units), st.binary(max_size=9), small, st.booleans(), tuples(small)),
    ),
    "open": (service.EMIT, "request", st.builds(m.Open, texts, texts, counts)),
    "credit": (service.EMIT, "request", st.builds(m.Credit, counts)),
    "stop": (
        service.EMIT,
        "request",
        st.builds(m.Stop, st.sampled_from(m.StopMode), st.integers(0, 10**6).map(lambda ms: ms / 1000)),
    ),
    "schema": (service.EMIT, "response", st.builds(schema_frame, texts, schemas())),
    "batch": (
        service.EMIT,
        "response",
        st.builds(
            m.BatchFrame, counts, texts, counts, st.integers(0, 2**32 - 1), st.binary(), st.none() | times, texts
        ),
    ),
    "checkpoint": (
        service.EMIT,
        "response",
        st.builds(
            m.CheckpointFrame,
            st.binary(),
            small,
            counts,
            counts,
            counts,
            st.sampled_from(m.CheckpointType),
            st.none() | times,
        ),
    ),
    "rejected": (
        service.EMIT,
        "response",
        st.builds(m.RejectedFrame, texts, texts, st.binary(), counts, texts, st.binary(), texts, texts),
    ),
    "wait": (service.EMIT, "response", st.builds(m.WaitFrame, times, texts)),
    "progress": (service.EMIT, "response", st.builds(m.ProgressFrame, counts, counts, counts, counts, counts)),
    "log": (
        service.EMIT,
        "response",
        st.builds(
            m.LogFrame,
            st.sampled_from(m.LogLevel),
            texts,
            st.dictionaries(texts, texts, max_size=3).map(lambda pairs: tuple(sorted(pairs.items()))),
        ),
    ),
    "violation": (service.EMIT, "response", st.builds(m.ViolationFrame, texts, texts, texts)),
    "failure": (service.EMIT, "response", failures),
    "done": (
        service.EMIT,
        "response",
        st.builds(
            m.DoneFrame,
            st.sampled_from(m.DoneReason),
            tuples(st.builds(m.StreamTotals, texts, counts, counts, counts)),
        ),
    ),
    "committed": (
        service.CHECKPOINT,
        "request",
        st.builds(m.Committed, texts, texts, counts, counts, st.binary(), small),
    ),
    "nothing": (service.CHECKPOINT, "response", st.none()),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MESSAGES)
@given(data=st.data())
def test_every_message_survives_the_wire(name: str, data: st.DataObject) -> None:
    method, side, values = MESSAGES[name]
    value = data.draw(values)
    encoded = getattr(method, f"encode_{side}")(value)
    assert getattr(method, f"decode_{side}")(encoded) == value


@pytest.mark.parametrize(
    ("method", "side"), [(each, side) for each in service.METHODS for side in ("request", "response")]
)
@given(data=st.binary(max_size=200))
def test_foreign_bytes_are_decoded_or_refused_and_nothing_else(
    method: service.Method[Any, Any], side: str, data: bytes
) -> None:
    with contextlib.suppress(codec.DecodeError):
        getattr(method, f"decode_{side}")(data)


@pytest.mark.parametrize(
    ("decode", "message", "names"),
    [
        (codec.decode_frame, pb.EmitResponse(), "EmitResponse.frame"),
        (codec.decode_control, pb.EmitRequest(), "EmitRequest.control"),
        (codec.decode_control, pb.EmitRequest(stop=pb.Stop()), "Stop.mode"),
        (codec.decode_frame, pb.EmitResponse(done=pb.DoneFrame()), "DoneFrame.reason"),
        (codec.decode_frame, pb.EmitResponse(checkpoint=pb.CheckpointFrame()), "checkpoint_type"),
        (codec.decode_frame, pb.EmitResponse(wait=pb.WaitFrame()), "WaitFrame.until"),
        (codec.decode_frame, pb.EmitResponse(log=pb.LogFrame(level=99)), "LogFrame.level"),  # type: ignore[arg-type]
        (codec.decode_order, pb.ReadRequest(streams=["a", "b"]), "exactly one"),
        (codec.decode_offered, pb.DiscoverResponse(), "DiscoverResponse.stream"),
        (codec.decode_offered, pb.DiscoverResponse(stream=pb.OfferedStream(name="s")), "Arrow schema"),
    ],
)
def test_a_message_without_meaning_is_refused_by_name(decode: Any, message: Any, names: str) -> None:
    with pytest.raises(codec.DecodeError, match=names):
        decode(message.SerializeToString())


def test_a_time_outside_the_calendar_is_refused() -> None:
    message = pb.EmitResponse(wait=pb.WaitFrame())
    message.wait.until.seconds = 2**60
    with pytest.raises(codec.DecodeError, match="outside the calendar"):
        codec.decode_frame(message.SerializeToString())


def test_a_naive_time_is_never_sent() -> None:
    with pytest.raises(ValueError, match="time zone"):
        codec.encode_frame(m.WaitFrame(datetime(2026, 1, 1), "quota"))  # noqa: DTZ001


def test_a_fingerprint_that_is_not_the_schemas_is_refused() -> None:
    with pytest.raises(codec.DecodeError, match="fingerprint"):
        codec.decode_frame(codec.encode_frame(m.SchemaFrame("s", pa.schema([("a", pa.int64())]), "00")))


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (m.Failure("transient", "reset", ""), 14),
        (m.Failure("throttled", "quota", "", retry_after_s=1.5), 8),
        (m.Failure("auth", "password", ""), 16),
        (m.Failure("auth", "permission_denied", ""), 7),
        (m.Failure("permanent", "config", ""), 3),
        (m.Failure("permanent", "plan_stale", ""), 9),
        (m.Failure("permanent", "not_found", ""), 5),
        (m.Failure("permanent", "unsupported", ""), 12),
        (m.Failure("data", "corrupt", ""), 15),
        (m.Failure("data", "out_of_range", ""), 11),
        (m.Failure("internal", "bug", ""), 13),
    ],
)
def test_each_failure_has_the_code_of_the_table_and_comes_back(failure: m.Failure, code: int) -> None:
    assert status.grpc_code_of(failure) == code
    assert status.decode(status.encode(failure)) == failure


@pytest.mark.parametrize(
    ("code", "kind"),
    [(10, "transient"), (4, "transient"), (1, "transient"), (2, "internal"), (6, "internal"), (77, "internal")],
)
def test_codes_of_others_are_classed_too(code: int, kind: str) -> None:
    assert status.kind_of(code) == kind


def test_a_long_failure_fits_into_trailing_metadata() -> None:
    long = "ü" * 50_000
    failure = m.Failure("permanent", long, long, 1.0, long, long, tuple((long, long) for _ in range(100)))
    encoded = status.encode(failure)
    assert len(encoded) * 4 / 3 < 8192
    assert status.decode(encoded) is not None


def test_a_secret_never_shows_in_the_text_of_a_message() -> None:
    credentials = m.Credentials("{}", (m.Secret("password", "hunter2-canary"),))
    assert "hunter2-canary" not in codec.text_of(credentials)
    assert "hunter2-canary" not in repr(credentials)
    assert 'name: "password"' in codec.text_of(credentials)


def test_a_record_never_shows_in_the_text_of_a_rejected_frame() -> None:
    shown = codec.text_of(m.RejectedFrame("s", "malformed", b"", 9, "", b"canary-bytes", "c", "canary-text"))
    assert "canary" not in shown
    assert "malformed" in shown


def test_long_bytes_show_their_length() -> None:
    shown = codec.text_of(m.BatchFrame(1, "s", 1, 0, b"x" * 1000))
    assert "(1000 bytes)" in shown
    assert "xxx" not in shown


def test_a_rejected_frame_costs_what_it_carries_and_a_checkpoint_nothing() -> None:
    assert m.cost_of(m.RejectedFrame("s", "r", b"", 9, "ab", b"abc", "c", "é")) == 3
    assert m.cost_of(m.BatchFrame(1, "s", 1, 0, b"x" * 10)) == 10
    assert m.cost_of(m.CheckpointFrame(b"state", 1, 0, 0, 0)) == 0


def test_times_keep_their_microseconds() -> None:
    at = datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    assert codec.decode_frame(codec.encode_frame(m.WaitFrame(at, ""))) == m.WaitFrame(at, "")
    assert at + timedelta(microseconds=1) == datetime(1970, 1, 1, tzinfo=UTC)


def protobufs_batch(value: m.BatchFrame) -> bytes:
    """Return ``value`` as the generated message writes it."""
    message = pb.EmitResponse(
        batch=pb.BatchFrame(
            batch_no=value.batch_no,
            stream=value.stream,
            rows=value.rows,
            crc32c=value.crc32c,
            arrow_ipc=value.arrow_ipc,
            raw_ref=value.raw_ref,
        )
    )
    if value.read_at is not None:
        message.batch.read_at.FromDatetime(value.read_at)
    return message.SerializeToString()


@given(value=MESSAGES["batch"][2])
def test_a_batch_put_together_by_hand_is_what_protobuf_writes(value: m.BatchFrame) -> None:
    assert codec.encode_frame(value) == protobufs_batch(value)


@given(value=MESSAGES["batch"][2], at=st.integers(0, 400), flipped=st.integers(1, 255), cut=st.integers(0, 50))
def test_a_batch_taken_apart_by_hand_is_what_protobuf_reads(
    value: m.BatchFrame, at: int, flipped: int, cut: int
) -> None:
    data = bytearray(protobufs_batch(value))
    data[at % len(data)] ^= flipped
    changed = bytes(data[: len(data) - cut] or data)
    assert outcome(codec.decode_frame, changed) == outcome(through_protobuf, changed)


def test_a_batch_laid_out_otherwise_is_read_all_the_same() -> None:
    inner = pb.BatchFrame(batch_no=1, arrow_ipc=b"first").SerializeToString()
    twice = inner + pb.BatchFrame(arrow_ipc=b"second", stream="s*\x05").SerializeToString()
    data = pb.EmitResponse().SerializeToString() + b"\x12" + bytes([len(twice)]) + twice
    assert codec.decode_frame(data) == m.BatchFrame(1, "s*\x05", 0, 0, b"second")


def through_protobuf(data: bytes) -> m.Frame:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec, "_decode_batch", lambda data: None)
        return codec.decode_frame(data)


def outcome(decode: Any, data: bytes) -> Any:
    try:
        return decode(data)
    except codec.DecodeError:
        return "refused"
