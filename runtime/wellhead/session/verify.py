"""What one Emit said against what it sent. Plain values in, verified values out; knows no gRPC and no clock.

    schema ──▶ batch | rejected … ──▶ checkpoint ──▶ (schema | batch | rejected | checkpoint …) ──▶ done

log, progress, wait and violation may stand anywhere before done; failure ends the Emit.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from wellhead.errors import Code, FatalError, counted
from wellhead_sdk.wire import arrow
from wellhead_sdk.wire import messages as m

BATCH_NO = Code("WH-SES-010", "A batch is missing or came twice.")
CHECKSUM = Code("WH-SES-011", "A batch is not what its checksum says.")
ROW_COUNT = Code("WH-SES-012", "A batch does not hold as many rows as it says.")
NOT_ARROW = Code("WH-SES-013", "A batch is no valid Arrow data.")
NO_SCHEMA = Code("WH-SES-014", "Records came before their schema.")
SCHEMA_PLACE = Code("WH-SES-015", "A schema stands neither first nor directly after a checkpoint.")
SCHEMA_DIFFERS = Code("WH-SES-016", "A batch has another schema than the one announced.")
NO_CREDIT = Code("WH-SES-017", "Records came without credit.")
TOO_LARGE = Code("WH-SES-019", "A frame is larger than its kind may be.")
CHECKPOINT_COUNTS = Code("WH-SES-020", "A checkpoint does not agree with what came before it.")
STATE_TOO_LARGE = Code("WH-SES-021", "A state is larger than 1 MiB.")
TOTALS = Code("WH-SES-022", "The totals of a unit are not what it sent.")
AFTER_DONE = Code("WH-SES-023", "A frame came after done.")
FOREIGN_STREAM = Code("WH-SES-024", "A frame names a stream that is not being read.")

_BLAME = "this breaks the protocol: report it to the connector's owner"
#: Longest key of a rejected record; with it a dead letter could still be found at the source.
MAX_KEY_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Schema:
    """The schema of every later batch; what came before it must be committed first."""

    stream: str
    schema: pa.Schema
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Decoded and checked records; ``payload_bytes`` is the credit to give back once they are in the segment."""

    stream: str
    batch_no: int
    record_batch: pa.RecordBatch
    payload_bytes: int
    crc32c: int
    read_at: datetime
    raw_ref: str


Verified = (
    Schema
    | Batch
    | m.CheckpointFrame
    | m.RejectedFrame
    | m.WaitFrame
    | m.ProgressFrame
    | m.ViolationFrame
    | m.DoneFrame
)


class Verifier:
    """Follows one unit's frames in order; raises FatalError at the first that does not fit."""

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._schema: pa.Schema | None = None
        self._is_clean = True  # nothing sent since the last checkpoint
        self._batch_no = 0
        self._rows = 0
        self._rejected = 0
        self._rows_since = 0
        self._rejected_since = 0
        self.is_done = False

    def schema(self, frame: m.SchemaFrame) -> Schema:
        """Check a schema's place."""
        self._is_ours(frame)
        if not self._is_clean:
            raise _broken("a schema came between batches", SCHEMA_PLACE)
        self._schema = frame.schema
        return Schema(frame.stream, frame.schema, frame.fingerprint)

    def batch(self, frame: m.BatchFrame, received_at: datetime) -> Batch:
        """Check a batch's place, number, size, checksum, contents, schema and row count."""
        self._is_ours(frame)
        if self._schema is None:
            raise _broken("a batch came before its schema", NO_SCHEMA)
        if frame.batch_no != self._batch_no + 1:
            raise _broken(f"batch {frame.batch_no} came after batch {self._batch_no}", BATCH_NO)
        if len(frame.arrow_ipc) > m.MAX_BATCH_BYTES:
            raise _broken(f"batch {frame.batch_no} has {len(frame.arrow_ipc)} bytes", TOO_LARGE)
        if arrow.crc32c(frame.arrow_ipc) != frame.crc32c:
            raise _broken(f"batch {frame.batch_no} was changed on its way", CHECKSUM)
        try:
            records = arrow.from_ipc(frame.arrow_ipc)
        except arrow.ArrowError as exc:
            raise _broken(f"batch {frame.batch_no}: {exc}", NOT_ARROW) from exc
        if not records.schema.equals(self._schema, check_metadata=True):
            raise _broken(f"batch {frame.batch_no} has another schema than announced", SCHEMA_DIFFERS)
        if records.num_rows != frame.rows:
            raise _broken(
                f"batch {frame.batch_no} says {counted(frame.rows, 'row')} and holds {records.num_rows}", ROW_COUNT
            )
        self._batch_no += 1
        self._rows += frame.rows
        self._rows_since += frame.rows
        self._is_clean = False
        return Batch(
            stream=frame.stream,
            batch_no=frame.batch_no,
            record_batch=records,
            payload_bytes=len(frame.arrow_ipc),
            crc32c=frame.crc32c,
            read_at=frame.read_at or received_at,
            raw_ref=frame.raw_ref,
        )

    def rejected(self, frame: m.RejectedFrame) -> m.RejectedFrame:
        """Check a rejected record's stream and sizes, and count it."""
        self._is_ours(frame)
        if (
            # None of these but the sample costs credit: what is not bounded here would gather in memory.
            max(map(len, (frame.sample, frame.text, frame.column, frame.reason, frame.sha256))) > m.MAX_SAMPLE_BYTES
            or len(frame.key_json) > MAX_KEY_BYTES
        ):
            raise _broken("a rejected record carries more than a sample", TOO_LARGE)
        self._rejected += 1
        self._rejected_since += 1
        self._is_clean = False
        return frame

    def checkpoint(self, frame: m.CheckpointFrame) -> m.CheckpointFrame:
        """Check a checkpoint's counts and the size of its state."""
        if len(frame.state) > m.MAX_STATE_BYTES:
            raise _broken(f"a state has {len(frame.state)} bytes", STATE_TOO_LARGE)
        said = (frame.through_batch, frame.rows_since_last, frame.rejected_since_last)
        sent = (self._batch_no, self._rows_since, self._rejected_since)
        if said != sent:
            raise _broken(
                f"a checkpoint says (batch, rows, rejected) = {said}, received were {sent}", CHECKPOINT_COUNTS
            )
        self._rows_since = self._rejected_since = 0
        self._is_clean = True
        return frame

    def done(self, frame: m.DoneFrame) -> m.DoneFrame:
        """Check the totals."""
        sent = m.StreamTotals(self._stream, self._rows, self._rejected, self._batch_no)
        if frame.totals != (sent,):
            raise _broken(f"done says {frame.totals}, received were {sent}", TOTALS)
        self.is_done = True
        return frame

    def after_done(self, frame: m.Frame) -> None:
        """Refuse everything that follows done, but log lines."""
        if not isinstance(frame, m.LogFrame):
            raise _broken(f"{type(frame).__name__} came after done", AFTER_DONE)

    def _is_ours(self, frame: m.SchemaFrame | m.BatchFrame | m.RejectedFrame) -> None:
        if frame.stream != self._stream:
            raise _broken(f"{type(frame).__name__} of {frame.stream!r} while {self._stream!r} is read", FOREIGN_STREAM)


def _broken(message: str, code: Code) -> FatalError:
    return FatalError(message, code=code, hint=_BLAME)
