"""One unit's way out: what the author's `read` is handed, and the queue between it and the Emit call.

    author's thread ── Out ──▶ Link (credit, order) ──▶ Emit's thread ──▶ host
                                ▲ credit, stop, half-close ◀── control's thread

The author's thread waits in the link while the host is slow; that is the whole back-pressure. The link's lock is held
by whoever cuts a batch, so batch numbers leave in order though a second thread flushes rows that have waited too long.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import pyarrow as pa

from wellhead_sdk.batching import Batcher, Reject, as_batches, row_json, sample_of
from wellhead_sdk.connector import ReadRequest, State, encode_state
from wellhead_sdk.errors import Fatal
from wellhead_sdk.wire import arrow
from wellhead_sdk.wire.messages import (
    MAX_SAMPLE_BYTES,
    MAX_STATE_BYTES,
    BatchFrame,
    CheckpointFrame,
    CheckpointType,
    Credit,
    DoneFrame,
    DoneReason,
    Frame,
    LogFrame,
    LogLevel,
    ProgressFrame,
    RejectedFrame,
    SchemaFrame,
    Stop,
    StopMode,
    StreamTotals,
    WaitFrame,
    cost_of,
)

#: Rows wait this long at the most before they travel.
LINGER_S = 1.0
#: Frames that cost no credit may pile up to here, then the author waits.
MAX_QUEUED_FRAMES = 64

_REASON = re.compile(r"[a-z0-9][a-z0-9_]{0,63}")


class Why(Enum):
    """What makes a read end before its end."""

    STOPPED = "stopped"
    ROTATED = "rotated"
    ABORTED = "aborted"


class Unwind(BaseException):
    """Leaves an author's `read`; derived from BaseException so that ``except Exception`` does not hold it up."""

    def __init__(self, why: Why) -> None:
        super().__init__(why.value)
        self.why = why


class Link:
    """The ordered queue of one Emit, with its credit and the host's wishes. Safe for threads."""

    def __init__(self, credit: int) -> None:
        self._changed = threading.Condition()
        self._queue: deque[Frame] = deque()
        self._credit = credit
        self._closed = False
        self._half_closed = False
        self._wish: Why | None = None

    # the host's side

    def control(self, message: Credit | Stop) -> None:
        """Take what the host says."""
        with self._changed:
            match message:
                case Credit():
                    self._credit += message.size_bytes
                case Stop(mode=StopMode.DRAIN):
                    self._wish = self._wish if self._wish is Why.ABORTED else Why.STOPPED
                case Stop():
                    self._wish = Why.ABORTED
            self._changed.notify_all()

    def rotate(self) -> None:
        """Ask the unit to move to the new session at its next checkpoint."""
        with self._changed:
            self._wish = self._wish or Why.ROTATED
            self._changed.notify_all()

    def rotated(self) -> None:
        """Note that the unit has moved."""
        with self._changed:
            if self._wish is Why.ROTATED:
                self._wish = None

    def half_close(self) -> None:
        """Note that the host has said its last word."""
        with self._changed:
            self._half_closed = True
            self._changed.notify_all()

    def abort(self) -> None:
        """Note that the call is over: nothing more can be sent."""
        with self._changed:
            self._wish = Why.ABORTED
            self._half_closed = True
            self._changed.notify_all()

    def frames(self) -> Iterator[Frame]:
        """Yield frames in order; end once the author is through and the host has half-closed, or the call is over."""
        while True:
            with self._changed:
                # Closed alone is not the end: the call stays open until the host has had its last Checkpoint answered.
                self._changed.wait_for(
                    lambda: self._queue or self._wish is Why.ABORTED or (self._closed and self._half_closed)
                )
                if self._wish is Why.ABORTED or not self._queue:
                    return
                frame = self._queue.popleft()
                self._changed.notify_all()
            yield frame

    # the author's side

    @property
    def wish(self) -> Why | None:
        """What the host wants of the unit, None while it may go on."""
        return self._wish

    def send(self, frame: Frame) -> None:
        """Queue ``frame`` once there is credit for it and room.

        Raises:
            Unwind: the call is over.
        """
        cost = cost_of(frame)
        with self._changed:
            self._changed.wait_for(lambda: self._wish is Why.ABORTED or self._has_room(cost))
            if self._wish is Why.ABORTED:
                raise Unwind(Why.ABORTED)
            self._credit -= cost
            self._queue.append(frame)
            self._changed.notify_all()

    def _has_room(self, cost: int) -> bool:
        # A frame may go while any credit is left and overdraw it once: a row larger than the credit still passes.
        return self._credit > 0 if cost else len(self._queue) < MAX_QUEUED_FRAMES

    def close(self) -> None:
        """Note that nothing more will be sent."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def sleep_until(self, moment: datetime) -> None:
        """Wait for ``moment``, or until the host wants the unit to end."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._wish in (Why.STOPPED, Why.ABORTED),
                max(0.0, (moment - datetime.now(UTC)).total_seconds()),
            )

    def wait_closed(self, timeout_s: float) -> bool:
        """Wait that long; return whether the unit is over."""
        with self._changed:
            return self._changed.wait_for(lambda: self._closed or self._wish is Why.ABORTED, timeout_s)


class Out:
    """Where a `read` puts what it reads. Used by the thread that runs `read`, and by no other of the author's."""

    def __init__(self, link: Link, request: ReadRequest, state_version: int) -> None:
        self._link = link
        self._stream = request.stream
        self._primary_key = request.primary_key
        self._state_version = state_version
        self._cutting = threading.Lock()
        self._batch_no = 0
        self._rows = 0
        self._rejected = 0
        self._rows_since = 0
        self._rejected_since = 0
        self._read_at: datetime | None = None
        self._raw_ref = ""
        self._first_added_at = 0.0
        self._progress = ProgressFrame()
        self._progress_sent = self._progress
        self._offered: bytes | None = None
        self._unwound: Why | None = None
        self._batcher = self._start(request.schema)

    # for authors

    def emit(
        self,
        records: dict[str, Any] | Sequence[dict[str, Any]] | pa.Table | pa.RecordBatch | pa.RecordBatchReader,
        *,
        raw: bytes | str | None = None,
        read_at: datetime | None = None,
    ) -> None:
        """Send records; returns when they are gathered or sent, and waits while the host is slow.

        A row that does not fit the schema becomes a rejected record, as does one larger than 16 MiB.

        Args:
            records: one dict, a list of dicts, or Arrow data; lists and tables are much faster than single dicts. A
                dict may be used again afterwards; lists and dicts inside of it are to be left alone.
            raw: the page these records came from, or a reference to it (``sha256:<hex>``); pages do not share batches.
            read_at: when that page was read; now unless given.

        Raises:
            Data: the table lacks a column or holds a value that the schema's type cannot; nothing of it was taken.
            Fatal: these are no records; the unit has failed, whatever becomes of the exception.
        """
        raw_ref = f"sha256:{hashlib.sha256(raw).hexdigest()}" if isinstance(raw, bytes) else raw or ""
        with self._cutting:
            self._check()
            if raw_ref != self._raw_ref:
                self._batcher.flush()
                self._raw_ref = raw_ref
            if self._batcher.is_empty:
                self._read_at = read_at or datetime.now(UTC)
                self._first_added_at = time.monotonic()
            if isinstance(records, dict):
                self._batcher.add_row(records)
            elif isinstance(records, list | tuple):
                self._batcher.add_rows(records)
            else:
                for batch in as_batches(records):
                    self._batcher.add_batch(batch)

    def checkpoint(
        self,
        state: State,
        *,
        type: CheckpointType | str = CheckpointType.CURSOR,
        watermark: datetime | None = None,
    ) -> None:
        """Offer ``state`` as covering every record emitted so far; the host decides when to commit it.

        May not return: where the host asks to stop, or the session is replaced, it unwinds `read`.

        Args:
            state: a JSON object or bytes, at most 1 MiB; comes back as ``request.cursor`` or ``request.state``.
            type: what the state means.
            watermark: source time up to which nothing more is expected.
        """
        with self._cutting:
            self._offer(encode_state(state), CheckpointType(type), watermark)
        self._check(Why.STOPPED, Why.ROTATED)

    def reject(
        self,
        record: Mapping[str, Any] | bytes,
        *,
        reason: str,
        key: Mapping[str, Any] | None = None,
        column: str = "",
        text: str = "",
    ) -> None:
        """Set one record aside as a dead letter; it is counted and never dropped.

        Args:
            record: the record as far as it could be read.
            reason: a stable lower-case word, such as ``malformed``; what is particular to this record is its ``text``.
            key: its primary key; taken from the record where it is a mapping.
            column: the column at fault.
            text: that column's text.

        Raises:
            Fatal: ``reason`` is no such word.
        """
        if not _REASON.fullmatch(reason):
            raise Fatal(
                "out.reject got a reason that is no single lower-case word",
                hint='say a stable word such as reason="malformed", and what was wrong with this record with text=',
                stream=self._stream,
            )
        row = record if isinstance(record, bytes) else row_json(record)
        if key is None and not isinstance(record, bytes):
            key = {name: record[name] for name in self._primary_key if name in record}
        with self._cutting:
            self._check()
            self._send_reject(Reject(reason, row, key or {}, column, text[:MAX_SAMPLE_BYTES]))

    def wait(self, until: datetime, reason: str) -> None:
        """Say that the source makes us wait, and wait; the host counts no silence until then.

        May not return: where the host asks to stop, it unwinds `read`, and what was emitted since the last checkpoint
        is read again by the next run.
        """
        with self._cutting:
            self._check(Why.STOPPED)
            self._batcher.flush()
            self._report()
            self._link.send(WaitFrame(until, reason))
        self._link.sleep_until(until)
        self._check(Why.STOPPED)

    def log(self, level: LogLevel | str, message: str, **fields: object) -> None:
        """Write a line to the run's log; neither secrets nor records belong there."""
        pairs = tuple(sorted((name, str(value)) for name, value in fields.items()))
        self._link.send(LogFrame(LogLevel(level), message, pairs))

    def count(
        self,
        *,
        requests: int = 0,
        failed: int = 0,
        bytes: int = 0,
        pages: int = 0,
        retries: int = 0,
    ) -> None:
        """Add to the run's counters: requests made, failed ones, bytes and pages received, requests repeated."""
        done = self._progress
        self._progress = ProgressFrame(
            done.requests_total + requests,
            done.requests_failed_total + failed,
            done.bytes_ingested_total + bytes,
            done.pages_processed_total + pages,
            done.retries_total + retries,
        )

    def change_schema(self, schema: pa.Schema) -> None:
        """Hold later records to another schema; stands directly after a checkpoint.

        Raises:
            Fatal: records were emitted since the last checkpoint.
        """
        with self._cutting:
            self._check_whole()
            if self._rows_since or self._rejected_since or not self._batcher.is_empty:
                raise Fatal("a schema may change directly after out.checkpoint only", stream=self._stream)
            self._batcher = self._start(schema)

    @property
    def stopping(self) -> bool:
        """True once the host wants the unit to end or to move: offer a checkpoint soon."""
        return self._link.wish is not None

    # for the server

    @property
    def offered(self) -> bytes | None:
        """The last state offered in this Emit."""
        return self._offered

    def take_unwound(self) -> Why | None:
        """Return what `read` was last unwound for, and forget it: an author may have swallowed the exception."""
        why, self._unwound = self._unwound, None
        return why

    def finish(self, reason: DoneReason, state: bytes) -> None:
        """Send what is left and `done`.

        A unit read to its end ends with a checkpoint that covers everything: the last state offered, or ``state``.
        """
        with self._cutting:
            self._check_whole()
            self._batcher.flush()
            uncovered = self._rows_since or self._rejected_since or self._offered is None
            if reason is DoneReason.COMPLETE and uncovered:
                self._offer(self._offered if self._offered is not None else state, CheckpointType.CURSOR, None)
            self._report()
            totals = StreamTotals(self._stream, self._rows, self._rejected, self._batch_no)
            self._link.send(DoneFrame(reason, (totals,)))

    def discard(self) -> None:
        """Forget rows that were gathered but not sent: the read that emitted them is over."""
        with self._cutting:
            self._batcher = self._batcher_for(self._batcher.schema)

    def linger(self) -> None:
        """Send rows and counters that have waited long enough, until the unit is over; runs in a thread of its own."""
        while not self._link.wait_closed(LINGER_S / 2):
            # Whoever holds the lock is emitting, and cuts by himself.
            if not self._cutting.acquire(blocking=False):
                continue
            try:
                if not self._batcher.is_empty and time.monotonic() - self._first_added_at >= LINGER_S:
                    self._batcher.flush()
                self._report()
            except (Unwind, Exception):  # noqa: BLE001 - the author's thread raises it where it comes by next
                return
            finally:
                self._cutting.release()

    # within

    def _start(self, schema: pa.Schema) -> Batcher:
        encoded = arrow.schema_bytes(schema)
        self._link.send(SchemaFrame(self._stream, schema, arrow.fingerprint(encoded)))
        return self._batcher_for(schema)

    def _batcher_for(self, schema: pa.Schema) -> Batcher:
        return Batcher(schema, self._primary_key, self._send_batch, self._send_reject, self._note_unknown)

    def _check_whole(self) -> None:
        """Refuse to go on where gathered rows were lost, whoever caught the exception: no total would tell of them."""
        if self._batcher.failure is not None:
            raise self._batcher.failure

    def _check(self, *whys: Why) -> None:
        self._check_whole()
        wish = self._link.wish
        if wish is Why.ABORTED or wish in whys:
            self._unwound = wish
            raise Unwind(wish)

    def _send_batch(self, batch: pa.RecordBatch, encoded: bytes) -> None:
        self._batch_no += 1
        self._rows += batch.num_rows
        self._rows_since += batch.num_rows
        self._link.send(
            BatchFrame(
                self._batch_no,
                self._stream,
                batch.num_rows,
                arrow.crc32c(encoded),
                encoded,
                self._read_at,
                self._raw_ref,
            )
        )

    def _send_reject(self, reject: Reject) -> None:
        sha256, sample, size = sample_of(reject.row)
        self._rejected += 1
        self._rejected_since += 1
        key = json.dumps(reject.key, default=str, sort_keys=True) if reject.key else ""
        self._link.send(
            RejectedFrame(self._stream, reject.reason, sha256, size, key, sample, reject.column, reject.text)
        )

    def _note_unknown(self, name: str) -> None:
        self._link.send(
            LogFrame(
                LogLevel.WARNING,
                "records have a field the schema does not name; it is left out",
                (("field", name), ("stream", self._stream)),
            )
        )

    def _offer(self, state: bytes, kind: CheckpointType, watermark: datetime | None) -> None:
        self._check()
        if len(state) > MAX_STATE_BYTES:
            raise Fatal(
                f"a state of {len(state)} bytes is over the limit of {MAX_STATE_BYTES}",
                reason="state_too_large",
                stream=self._stream,
            )
        self._batcher.flush()
        self._report()
        self._link.send(
            CheckpointFrame(
                state,
                self._state_version,
                self._batch_no,
                self._rows_since,
                self._rejected_since,
                kind,
                watermark,
            )
        )
        self._rows_since = self._rejected_since = 0
        self._offered = state

    def _report(self) -> None:
        if self._progress != self._progress_sent:
            self._progress_sent = self._progress
            self._link.send(self._progress)
