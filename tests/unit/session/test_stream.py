"""Every way in which an Emit may lie is refused with a code of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest

from tests.unit.session.conftest import (
    HONEST,
    SCHEMA,
    Liar,
    StillClock,
    batch_frame,
    checkpoint_frame,
    done_frame,
    schema_frame,
)
from wellhead.errors import (
    AuthError,
    ConfigurationError,
    DataError,
    FatalError,
    ThrottledError,
    TransientError,
    WellheadError,
)
from wellhead.session import failures, stream, verify
from wellhead.session.stream import Batch, Schema, UnitStream
from wellhead_sdk.wire import arrow
from wellhead_sdk.wire import messages as m

Emitting = Callable[..., AbstractContextManager[UnitStream]]

REJECTED = m.RejectedFrame("s", "malformed", b"\0" * 32, 10, sample=b"sample")


def test_an_honest_unit_arrives_verified(emitting: Emitting, clock: StillClock) -> None:
    with emitting(Liar()) as unit:
        schema, batch, checkpoint, done = list(unit)
        unit.finish()
    assert schema == Schema("s", SCHEMA, schema_frame().fingerprint)
    assert isinstance(batch, Batch)
    assert batch.record_batch.to_pydict() == {"id": [0, 1], "name": ["x", "x"]}
    assert batch.payload_bytes == len(batch_frame().arrow_ipc)
    assert batch.read_at == clock.now()
    assert checkpoint == checkpoint_frame()
    assert done == done_frame()


def test_an_empty_unit_is_legal(emitting: Emitting) -> None:
    with emitting(Liar(frames=(schema_frame(), checkpoint_frame(0, 0), done_frame(0, 0, 0)))) as unit:
        assert len(list(unit)) == 3
        unit.finish()


def test_a_schema_may_change_directly_after_a_checkpoint(emitting: Emitting) -> None:
    wide = pa.schema([*SCHEMA, ("more", pa.bool_())])
    data = arrow.to_ipc(pa.record_batch([[1], ["x"], [True]], schema=wide))
    second = m.BatchFrame(2, "s", 1, arrow.crc32c(data), data)
    frames = (
        *HONEST[:3],
        m.ProgressFrame(1),
        schema_frame(wide),
        second,
        checkpoint_frame(2, 1),
        done_frame(3, 0, 2),
    )
    with emitting(Liar(frames=frames)) as unit:
        assert [type(frame).__name__ for frame in unit].count("Schema") == 2


IPC = batch_frame().arrow_ipc
FOREIGN = arrow.to_ipc(pa.record_batch({"id": pa.array([0, 1], pa.int32()), "name": ["x", "x"]}))
TWO = arrow.to_ipc(pa.record_batch([[0, 1], ["x", "x"]], schema=SCHEMA.with_metadata({"k": "v"})))
NO_ARROW = b"no arrow"
HUGE = b"\0" * (m.MAX_BATCH_BYTES + 1)

LIES: dict[str, tuple[tuple[m.Frame | bytes, ...], Any]] = {
    "a gap": ((schema_frame(), batch_frame(2)), verify.BATCH_NO),
    "a repeat": ((schema_frame(), batch_frame(1), batch_frame(1)), verify.BATCH_NO),
    "a wrong checksum": ((schema_frame(), batch_frame(crc32c=1)), verify.CHECKSUM),
    "a wrong row count": (
        (schema_frame(), replace(batch_frame(), rows=3)),
        verify.ROW_COUNT,
    ),
    "no arrow": (
        (schema_frame(), batch_frame(arrow_ipc=NO_ARROW, crc32c=arrow.crc32c(NO_ARROW))),
        verify.NOT_ARROW,
    ),
    "a batch before its schema": ((batch_frame(),), verify.NO_SCHEMA),
    "a schema between batches": ((schema_frame(), batch_frame(), schema_frame()), verify.SCHEMA_PLACE),
    "a schema after a reject": ((schema_frame(), REJECTED, schema_frame()), verify.SCHEMA_PLACE),
    "another type": (
        (schema_frame(), batch_frame(arrow_ipc=FOREIGN, crc32c=arrow.crc32c(FOREIGN))),
        verify.SCHEMA_DIFFERS,
    ),
    "other metadata": (
        (schema_frame(), batch_frame(arrow_ipc=TWO, crc32c=arrow.crc32c(TWO))),
        verify.SCHEMA_DIFFERS,
    ),
    "a batch over the cap": (
        (schema_frame(), batch_frame(arrow_ipc=HUGE, crc32c=arrow.crc32c(HUGE))),
        verify.TOO_LARGE,
    ),
    "a message over gRPC's limit": ((schema_frame(), batch_frame(arrow_ipc=HUGE + HUGE)), failures.FRAME_TOO_LARGE),
    "a sample over the cap": (
        (schema_frame(), m.RejectedFrame("s", "r", b"", 1, sample=b"x" * (m.MAX_SAMPLE_BYTES + 1))),
        verify.TOO_LARGE,
    ),
    "a reason over the cap": (
        (schema_frame(), m.RejectedFrame("s", "r" * (m.MAX_SAMPLE_BYTES + 1), b"", 1)),
        verify.TOO_LARGE,
    ),
    "a column over the cap": (
        (schema_frame(), m.RejectedFrame("s", "r", b"", 1, column="c" * (m.MAX_SAMPLE_BYTES + 1))),
        verify.TOO_LARGE,
    ),
    "a log line over the cap": ((m.LogFrame(m.LogLevel.INFO, "x" * (2 * m.MAX_CONTROL_BYTES)),), verify.TOO_LARGE),
    "too large a state": (
        (schema_frame(), checkpoint_frame(0, 0, 0, b"x" * (m.MAX_STATE_BYTES + 1))),
        verify.STATE_TOO_LARGE,
    ),
    "far too large a state": (
        (schema_frame(), checkpoint_frame(0, 0, 0, b"x" * (2 * m.MAX_STATE_BYTES))),
        verify.STATE_TOO_LARGE,
    ),
    "too few rows in a checkpoint": ((*HONEST[:2], checkpoint_frame(1, 1)), verify.CHECKPOINT_COUNTS),
    "a wrong batch in a checkpoint": ((*HONEST[:2], checkpoint_frame(2, 2)), verify.CHECKPOINT_COUNTS),
    "rejects left out of a checkpoint": (
        (schema_frame(), REJECTED, checkpoint_frame(0, 0, 0)),
        verify.CHECKPOINT_COUNTS,
    ),
    "wrong total rows": ((*HONEST[:3], done_frame(3)), verify.TOTALS),
    "wrong total rejects": ((*HONEST[:3], done_frame(2, 1)), verify.TOTALS),
    "no totals": ((*HONEST[:3], m.DoneFrame(m.DoneReason.COMPLETE, ())), verify.TOTALS),
    "a foreign stream": ((schema_frame(stream="t"),), verify.FOREIGN_STREAM),
    "a foreign stream's batch": ((schema_frame(), batch_frame(stream="t")), verify.FOREIGN_STREAM),
    "bytes": ((b"\xff\xff\xff",), stream.UNDECODABLE),
    "an unknown frame": ((b"\xf8\x07\x01",), stream.UNDECODABLE),
}


def take_all(unit: UnitStream) -> None:
    """Take frames until none comes for a second: a lie that is believed must not hang the test."""
    for _ in iter(lambda: unit.poll(1), None):
        pass


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_ends_the_unit_with_its_own_code(lie: str, emitting: Emitting) -> None:
    frames, code = LIES[lie]
    with emitting(Liar(frames=frames), credit=10**9) as unit, pytest.raises(FatalError) as caught:
        take_all(unit)
    assert caught.value.code is code


def test_a_unit_that_ends_without_done_is_refused(emitting: Emitting) -> None:
    liar = Liar(talk=lambda controls: iter(HONEST[:3]))
    with emitting(liar) as unit, pytest.raises(FatalError) as caught:
        take_all(unit)
    assert caught.value.code is stream.NO_DONE


@pytest.mark.parametrize(
    "extra", [batch_frame(2), checkpoint_frame(1, 0), schema_frame(), done_frame(), m.ProgressFrame(1)]
)
def test_whatever_follows_done_is_refused(extra: m.Frame, emitting: Emitting) -> None:
    with emitting(Liar(frames=(*HONEST, extra))) as unit:
        list(unit)
        with pytest.raises(FatalError) as caught:
            unit.finish()
    assert caught.value.code is verify.AFTER_DONE


def test_a_log_line_may_follow_done(emitting: Emitting, logged: list[m.LogFrame]) -> None:
    line = m.LogFrame(m.LogLevel.INFO, "closing", (("n", "1"),))
    with emitting(Liar(frames=(*HONEST, line))) as unit:
        list(unit)
        unit.finish()
    assert logged == [line]


def test_a_long_log_line_is_cut(emitting: Emitting, logged: list[m.LogFrame]) -> None:
    fields = tuple((f"f{index}", "y" * 9000) for index in range(100))
    with emitting(Liar(frames=(m.LogFrame(m.LogLevel.INFO, "x" * 100_000, fields), *HONEST))) as unit:
        list(unit)
    assert len(logged[0].message) == 8192
    assert len(logged[0].fields) == 32
    assert len(logged[0].fields[0][1]) == 8192


def test_records_without_credit_are_refused(emitting: Emitting) -> None:
    frames = (schema_frame(), batch_frame(1), batch_frame(2))
    with emitting(Liar(frames=frames), credit=1) as unit, pytest.raises(FatalError) as caught:
        take_all(unit)
    assert caught.value.code is verify.NO_CREDIT


def test_granted_credit_reaches_the_connector_and_is_counted(emitting: Emitting) -> None:
    heard: list[m.Control] = []

    def talk(controls: Iterator[m.Control]) -> Iterator[m.Frame | bytes]:
        heard.append(next(controls))
        yield schema_frame()
        yield batch_frame(1)
        heard.append(next(controls))
        yield batch_frame(2)
        yield checkpoint_frame(2, 4)
        yield done_frame(4, 0, 2)
        heard.extend(controls)

    with emitting(Liar(talk=talk), credit=1) as unit:
        for frame in unit:
            if isinstance(frame, Batch) and frame.batch_no == 1:
                unit.grant(frame.payload_bytes + 1)
        unit.finish()
    assert heard == [m.Open("r", "all", 1), m.Credit(len(IPC) + 1)]


@pytest.mark.parametrize(
    ("failure", "kind", "code"),
    [
        (m.Failure("transient", "reset", "gone"), TransientError, failures.TRANSIENT),
        (m.Failure("auth", "password", "no"), AuthError, failures.AUTH),
        (
            m.Failure("permanent", "config", "no", fields=(("host", "missing"),)),
            ConfigurationError,
            failures.CONFIGURATION,
        ),
        (m.Failure("permanent", "plan_stale", "no"), ConfigurationError, failures.PLAN_STALE),
        (m.Failure("data", "corrupt", "no"), DataError, failures.DATA),
        (m.Failure("internal", "bug", "no"), FatalError, failures.FAULT),
    ],
)
def test_a_reported_failure_becomes_the_error_of_its_class(
    failure: m.Failure, kind: type[WellheadError], code: Any, emitting: Emitting
) -> None:
    with emitting(Liar(frames=(schema_frame(), failure))) as unit, pytest.raises(kind) as caught:
        list(unit)
    assert caught.value.code is code
    assert failure.reason in caught.value.message
    assert caught.value.details == tuple(f"{field}: {problem}" for field, problem in failure.fields)


@pytest.mark.parametrize(("said_s", "wait_s"), [(90.0, 90), (None, 60), (1e12, 366 * 86_400)])
def test_throttling_names_the_time_to_come_back(
    said_s: float | None, wait_s: float, emitting: Emitting, clock: StillClock
) -> None:
    failure = m.Failure("throttled", "quota", "later", retry_after_s=said_s)
    with emitting(Liar(frames=(failure,))) as unit, pytest.raises(ThrottledError) as caught:
        list(unit)
    assert caught.value.retry_at == clock.now() + timedelta(seconds=wait_s)


class Mute:
    """Says its frames, then nothing until the host hangs up."""

    def __init__(self, *frames: m.Frame) -> None:
        self.frames = frames

    def __call__(self, controls: Iterator[m.Control]) -> Iterator[m.Frame | bytes]:
        yield from self.frames
        for _ in controls:
            pass


def take(unit: UnitStream, count: int) -> None:
    for _ in range(count):
        assert unit.poll(10) is not None


def test_silence_with_credit_ends_the_unit_as_transient(emitting: Emitting, clock: StillClock) -> None:
    with emitting(Liar(talk=Mute(schema_frame()))) as unit:
        take(unit, 1)
        clock.advance(59)
        assert unit.poll(0.01) is None
        clock.advance(2)
        with pytest.raises(TransientError) as caught:
            unit.poll(0.01)
    assert caught.value.code is stream.SILENT


def test_silence_does_not_count_without_credit(emitting: Emitting, clock: StillClock) -> None:
    with emitting(Liar(talk=Mute(schema_frame(), batch_frame())), credit=1) as unit:
        take(unit, 2)
        clock.advance(3600)
        assert unit.poll(0.01) is None
        unit.grant(10**6)
        clock.advance(59)
        assert unit.poll(0.01) is None
        clock.advance(2)
        with pytest.raises(TransientError):
            unit.poll(0.01)


def test_silence_does_not_count_while_a_checkpoint_is_unanswered(emitting: Emitting, clock: StillClock) -> None:
    with emitting(Liar(talk=Mute(schema_frame()))) as unit:
        take(unit, 1)
        unit.asking(1)
        clock.advance(3600)
        assert unit.poll(0.01) is None
        unit.asking(-1)
        clock.advance(59)
        assert unit.poll(0.01) is None


def test_a_wait_holds_the_silence_off_until_its_time(emitting: Emitting, clock: StillClock) -> None:
    wait = m.WaitFrame(clock.now() + timedelta(seconds=500), "quota")
    with emitting(Liar(talk=Mute(schema_frame(), wait))) as unit:
        take(unit, 2)
        clock.advance(499)
        assert unit.poll(0.01) is None
        clock.advance(59)
        assert unit.poll(0.01) is None
        clock.advance(2)
        with pytest.raises(TransientError):
            unit.poll(0.01)


def test_a_unit_that_does_not_drain_in_time_is_ended(emitting: Emitting, clock: StillClock) -> None:
    with emitting(Liar(talk=Mute(schema_frame()))) as unit:
        take(unit, 1)
        unit.stop(m.StopMode.DRAIN, 10)
        clock.advance(9)
        assert unit.poll(0.01) is None
        clock.advance(2)
        with pytest.raises(TransientError) as caught:
            unit.poll(0.01)
    assert caught.value.code is stream.NOT_DRAINED


def test_a_unit_that_goes_on_talking_is_ended_when_it_should_have_drained(
    emitting: Emitting, clock: StillClock
) -> None:
    def flood(controls: Iterator[m.Control]) -> Iterator[m.Frame | bytes]:
        yield schema_frame()
        while True:
            yield m.ProgressFrame(1)

    with emitting(Liar(talk=flood)) as unit:
        take(unit, 3)
        unit.stop(m.StopMode.DRAIN, 10)
        clock.advance(11)
        with pytest.raises(TransientError) as caught:
            take(unit, 1)
    assert caught.value.code is stream.NOT_DRAINED


def test_leaving_early_hangs_up_though_the_connector_floods(emitting: Emitting) -> None:
    def flood(controls: Iterator[m.Control]) -> Iterator[m.Frame | bytes]:
        yield schema_frame()
        while True:
            yield m.ProgressFrame(1)

    with emitting(Liar(talk=flood)) as unit:
        take(unit, 3)


@pytest.mark.parametrize("failure", [OSError("the disk is full"), SystemExit(1), RuntimeError("a defect")])
def test_a_reader_that_dies_is_not_taken_for_a_silent_connector(
    emitting: Emitting, logged: list[m.LogFrame], monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(stream, "_shortened", fail)
    # Without credit silence has no end.
    frames = (m.LogFrame(m.LogLevel.INFO, "hello"), *HONEST)
    with emitting(Liar(frames=frames), credit=0) as unit, pytest.raises(FatalError) as caught:
        take_all(unit)
    assert (caught.value.code, caught.value.__cause__) == (stream.READER_DIED, failure)
    assert logged == []
