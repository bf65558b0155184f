"""Reading one unit: frames in, segments and commits out.

    frame ──▶ decode ──▶ narrow ──▶ envelope ──▶ segment writer (its own thread) ──▶ credit back
                                                     │
             offered checkpoint, 64 MiB or 10 s ──▶ finish ──▶ commit ──▶ Checkpoint ──▶ publish

Rows are accounted for three times, and a difference ends the run (invariant 8): what the connector said it sent, what
was decoded, and what was written, set aside or filtered out.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import astuple, dataclass, field
from typing import Literal

import pyarrow as pa

from wellhead import failpoints
from wellhead.clock import Clock
from wellhead.errors import Code, DataError, FatalError, RefusedError, ThrottledError, TransientError, counted
from wellhead.lifecycle import commit, select
from wellhead.lifecycle.claim import Claim
from wellhead.lifecycle.stop import Reason, Stop
from wellhead.registry import deadletters, run_state, segments
from wellhead.registry.database import Database
from wellhead.session.client import Session
from wellhead.session.stream import UnitStream
from wellhead.session.verify import NO_SCHEMA, Batch, Schema, Verified
from wellhead.settings import CommitSettings, DeadLetterSettings
from wellhead.sinks import base, envelope
from wellhead.telemetry.redact import Redactor
from wellhead_sdk.wire.messages import (
    CheckpointFrame,
    DoneFrame,
    DoneReason,
    Filter,
    OfferedStream,
    ProgressFrame,
    RejectedFrame,
    Replay,
    StopMode,
    ViolationFrame,
    WaitFrame,
)
from wellhead_sdk.wire.messages import (
    Committed as CommittedMessage,
)

TOO_MANY_REJECTED = Code("WH-RUN-030", "More records were set aside than the threshold allows.")
LOCAL_STATE = Code("WH-RUN-031", "The connector tried to keep state of its own.")
UNCOVERED = Code("WH-RUN-032", "A unit ended with rows that no checkpoint covers.")
MISCOUNTED = Code("WH-RUN-034", "Rows that were taken and rows that were written differ.")
SECRET_IN_STATE = Code("WH-RUN-036", "The connector put a secret into what has to be stored unchanged.")
OTHER_STATE = Code("WH-RUN-037", "The connector offered a state of another format than its manifest says it writes.")
THROTTLED = Code("WH-RUN-033", "The source asked for a longer pause than the run may wait.")

#: How long a unit asked to drain may take to say `done`.
DRAIN_S = 10.0
#: What a record set aside takes in memory beside its texts, roughly.
REJECTED_BYTES = 512
#: How often an idle unit looks at the clock and at the wish to stop.
TICK_S = 0.2


@dataclass(slots=True)
class Tally:
    """What one stream of one run amounts to; shared by the threads of its units."""

    rows: int = 0
    rejected: int = 0
    bytes: int = 0
    filtered: int = 0
    crc32c: list[int] = field(default_factory=list)
    progress: ProgressFrame = field(default_factory=ProgressFrame)
    """What the units that are not open any more counted, in all attempts."""
    counting: dict[str, ProgressFrame] = field(default_factory=dict)
    """By open unit: what it has counted since it was opened."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    open: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By unit: records taken and set aside that are not committed yet."""
    abandoned: threading.Event = field(default_factory=threading.Event)
    """Set when one unit failed: the others of the stream end without a further commit."""
    parked: threading.Event = field(default_factory=threading.Event)
    """Set when the source wants a long pause: all units of the stream commit what is covered, and end."""


@dataclass(frozen=True, slots=True)
class StreamTask:
    """One stream as this attempt reads it; the same for all its units."""

    stream: OfferedStream
    read_id: str
    write: Literal["replace", "append"]
    wanted: tuple[str, ...]
    """Columns of the selection; empty means all."""
    columns: tuple[str, ...]
    filters: tuple[Filter, ...]
    """Only what the connector did not push down."""
    commit_each: bool
    state_writes: int
    """Format of the states, as the manifest says: whether a release can be gone back from is judged by it."""
    context: envelope.EnvelopeContext
    footer: dict[str, str]


@dataclass(frozen=True, slots=True)
class Tools:
    """The services a unit needs, and the run's own values."""

    database: Database
    claim: Claim
    session: Session
    sink: base.Sink
    publish: Callable[[segments.Segment], None]
    commit: CommitSettings
    dead_letters: DeadLetterSettings
    max_wait_s: float
    stop: Stop
    clock: Clock
    acknowledge: Callable[[CommittedMessage], None]
    """Tells the source what is committed, so that it may move on."""
    redactor: Redactor = field(default_factory=Redactor)


def require_no_secret(redactor: Redactor, content: bytes, what: str) -> None:
    """Refuse what has to come back to the connector unchanged and holds one of the run's secrets (invariant 15).

    Raises:
        FatalError: WH-RUN-036.
    """
    if redactor.bytes(content) != content:
        raise FatalError(
            f"{what} holds a secret of this run",
            code=SECRET_IN_STATE,
            hint="a state is stored as it is: keep secrets out of out.checkpoint() and of planned units",
        )


def require_format(writes: int, state: bytes, state_version: int, stream: str) -> None:
    """Refuse a state whose format is not the one the manifest names: nobody could tell later who can read it.

    Raises:
        FatalError: WH-RUN-037.
    """
    if state and state_version != writes:
        raise FatalError(
            f"the connector offered a state of version {state_version} for {stream}, and its manifest says it writes "
            f"version {writes}",
            code=OTHER_STATE,
            hint="give the connector's `state_version` and `compatibility.state.writes` of its manifest one number",
        )


def read_unit(
    tools: Tools, task: StreamTask, unit: run_state.UnitState, credit: int, tally: Tally
) -> run_state.UnitState:
    """Read one unit until it says done, committing on the way; return its last committed row.

    Raises:
        ThrottledError: the source wants a longer pause than the run may sit out; what was read is committed.
        DataError: more dead letters than allowed; nothing after the last commit is kept.
        RefusedError: the connector tried to keep local state.
        WellheadError: whatever the session, the sink or the registry reports.
    """
    with tools.session.emit(task.read_id, unit.unit, credit) as frames:
        reading = _Reading(tools, task, unit, frames, tally)
        try:
            return reading.run()
        finally:
            reading.abandon()


class _Reading:
    """One unit between two commits: the open segment, what was set aside, the newest offer."""

    def __init__(
        self, tools: Tools, task: StreamTask, unit: run_state.UnitState, frames: UnitStream, tally: Tally
    ) -> None:
        self._tools = tools
        self._task = task
        self._unit = unit
        self._frames = frames
        self._tally = tally
        self._envelope: envelope.Envelope | None = None
        self._writer: base.SegmentWriter | None = None
        self._rows = 0
        self._bytes = 0
        self._rejected: list[deadletters.Rejected] = []
        self._rejected_bytes = 0
        self._offer: CheckpointFrame | None = None
        self._is_offer_exact = False
        self._since = tools.clock.monotonic()
        self._park: WaitFrame | None = None
        self._draining = False

    def run(self) -> run_state.UnitState:
        while True:
            frame = self._next()
            if self._tally.abandoned.is_set() or self._tools.stop.reason is Reason.FENCED:
                return self._unit
            if not self._draining and (self._tools.stop.reason is not None or self._tally.parked.is_set()):
                self._drain()
            match frame:
                case None:
                    self._commit_if_due()
                case Schema():
                    self._begin_schema(frame)
                case Batch():
                    self._take(frame)
                case CheckpointFrame():
                    self._offer, self._is_offer_exact = frame, True
                    self._commit_if_due()
                case RejectedFrame():
                    self._set_aside(frame)
                case WaitFrame():
                    self._wait(frame)
                case ProgressFrame():
                    with self._tally.lock:
                        self._tally.counting[self._unit.unit] = frame
                case ViolationFrame():
                    raise RefusedError(
                        f"the connector tried to keep local state: {frame.kind} at {frame.path}: {frame.message}",
                        code=LOCAL_STATE,
                        hint="connectors are stateless; keep positions in out.checkpoint()",
                    )
                case DoneFrame():
                    return self._end(frame)

    def abandon(self) -> None:
        """Drop the open segment; safe after everything, also twice."""
        with self._tally.lock:
            self._tally.open.pop(self._unit.unit, None)
            counted = self._tally.counting.pop(self._unit.unit, ProgressFrame())
            self._tally.progress = _sum(self._tally.progress, counted)
        if self._writer is not None:
            self._writer.abandon()
            self._writer = None

    def _next(self) -> Verified | None:
        try:
            return self._frames.poll(TICK_S)
        except TransientError as error:
            if self._park is not None:
                # It was asked to end because of the wait, so the wait is what the user should hear of.
                raise self._throttled(self._park) from error
            raise

    def _begin_schema(self, frame: Schema) -> None:
        # The session has checked that it stands first or right after a checkpoint, so the offer covers every open row.
        if self._rows or self._rejected:
            self._commit(complete=False)
        # A source that changed while it was read may have lost a column that was asked for.
        select.check(frame.schema, self._task.wanted, self._task.filters, self._task.stream.name)
        self._envelope = envelope.Envelope(self._task.context, _chosen(frame.schema, self._task.columns))

    def _enveloped(self, schema: pa.Schema) -> envelope.Envelope:
        return self._envelope or envelope.Envelope(self._task.context, _chosen(schema, self._task.wanted))

    def _take(self, batch: Batch) -> None:
        if self._envelope is None:
            raise FatalError(
                "a batch came before its schema", code=NO_SCHEMA, hint="report this to the connector's owner"
            )
        narrowed = select.narrow(batch.record_batch, self._task.columns, self._task.filters)
        filtered = batch.record_batch.num_rows - narrowed.num_rows
        if narrowed.num_rows:
            wrapped = self._envelope.wrap(
                narrowed,
                first_sequence=self._unit.rows_total + self._rows,
                first_ordinal=self._unit.rows_generation + self._rows,
                read_at=batch.read_at,
                ingested_at=self._tools.clock.now(),
                raw_ref=batch.raw_ref,
            )
            # Invariant 6: credit comes back when the rows are in the segment, so that a slow disk slows the source.
            self._open_writer(wrapped.schema).write(wrapped, batch.payload_bytes, self._frames.grant)
        else:
            self._frames.grant(batch.payload_bytes)
        self._rows += narrowed.num_rows
        self._bytes += batch.payload_bytes
        self._is_offer_exact = False
        with self._tally.lock:
            self._tally.filtered += filtered
            self._tally.open[self._unit.unit] = (self._rows, len(self._rejected))
        failpoints.reach("mid_batch")

    def _open_writer(self, schema: pa.Schema) -> base.SegmentWriter:
        if self._writer is None:
            self._writer = self._tools.sink.open_segment(self._segment_key(), schema)
            self._since = self._tools.clock.monotonic()
        return self._writer

    def _segment_key(self) -> base.SegmentKey:
        return base.SegmentKey(
            stream=self._unit.stream,
            unit=self._unit.unit,
            generation=self._unit.generation,
            epoch=self._tools.claim.epoch,
            commit_no=self._unit.commit_no + 1,
            write=self._task.write,
        )

    def _set_aside(self, frame: RejectedFrame) -> None:
        clean = self._tools.redactor.text
        self._rejected.append(
            deadletters.Rejected(
                # Invariant 15: none of it is more than the connector's word, its hash and its reason neither.
                reason=clean(frame.reason),
                sha256=self._tools.redactor.known(frame.sha256.hex()),
                size_bytes=frame.size,
                key_json=clean(frame.key_json),
                column=clean(frame.column),
                text=clean(frame.text),
                sample=self._tools.redactor.bytes(frame.sample),
            )
        )
        self._is_offer_exact = False
        texts = (frame.sample, frame.key_json, frame.text, frame.reason, frame.column, frame.sha256)
        self._rejected_bytes += REJECTED_BYTES + sum(map(len, texts))
        with self._tally.lock:
            self._tally.open[self._unit.unit] = (self._rows, len(self._rejected))
        if self._rejected_bytes >= self._tools.commit.max_bytes:
            # Nothing more may gather in memory; where the share is still within bounds, the next offer commits it.
            self._judge_rejected(frame.reason)
        self._frames.grant(len(frame.sample))

    def _judge_rejected(self, last: str) -> None:
        """Hold the stream's dead letters, those of its other units too, against the threshold.

        Judged at each commit and not at each record: a bad row at the head of a large table is a small share of it.
        """
        limits = self._tools.dead_letters
        with self._tally.lock:
            rejected = self._tally.rejected + sum(set_aside for _, set_aside in self._tally.open.values())
            seen = self._tally.rows + sum(rows for rows, _ in self._tally.open.values()) + rejected
        if rejected > max(limits.max_rows, limits.max_share * seen):
            raise DataError(
                f"{rejected} of {seen} records of {self._task.stream.name} were set aside, last for {last!r}",
                code=TOO_MANY_REJECTED,
                hint="`wellhead deadletters list` shows those committed; mend the source, or raise dead_letters in "
                "wellhead.yaml",
            )

    def _wait(self, frame: WaitFrame) -> None:
        wait_s = (frame.until - self._tools.clock.now()).total_seconds()
        if wait_s > self._tools.max_wait_s and self._park is None:
            self._park = frame
            self._tally.parked.set()
            if not self._draining:
                self._drain()

    def _drain(self) -> None:
        """Ask the connector to end; what an offer covers is committed at once, since no better offer may follow."""
        self._draining = True
        self._commit_if_due()
        self._frames.stop(StopMode.DRAIN, DRAIN_S)

    def _commit_if_due(self) -> None:
        """Commit at the newest offer once enough has gathered, if it covers exactly what is open.

        An offer without rows moves a position on too: past rows that were filtered out, or past a quiet hour.
        """
        if self._offer is None or not self._is_offer_exact:
            return
        if not (self._rows or self._rejected or self._offer.state != self._unit.state):
            return
        if not self._leads_on():
            return
        settings = self._tools.commit
        is_old = self._tools.clock.monotonic() - self._since >= settings.max_s
        is_large = self._bytes + self._rejected_bytes >= settings.max_bytes
        if self._task.commit_each or self._draining or is_large or is_old:
            self._commit(complete=False)

    def _end(self, done: DoneFrame) -> run_state.UnitState:
        complete = done.reason is DoneReason.COMPLETE and self._park is None
        if self._is_offer_exact or done.reason is DoneReason.COMPLETE:
            if complete and self._is_tableless():
                # An empty stream still gets a table: one file with a schema and no rows.
                self._open_writer(self._enveloped(self._task.stream.schema).schema)
            if complete or ((self._rows or self._rejected) and self._leads_on()):
                self._commit(complete=complete)
        # Else it was asked to end between two checkpoints: what came after the last one is read again.
        self._frames.finish()
        if self._park is not None:
            raise self._throttled(self._park)
        return self._unit

    def _leads_on(self) -> bool:
        """Say whether a read from the newest offer on leaves out what is open now.

        From a position that has not moved it would not, and what is committed would come again. Such rows are committed
        with the unit's end, in one transaction, or not at all.
        """
        has_moved = self._offer is not None and self._offer.state != self._unit.state
        return has_moved or self._task.stream.replay is not Replay.POSITION

    def _is_tableless(self) -> bool:
        if self._rows or self._unit.rows_generation:
            return False
        with self._tools.database.read() as tx:
            return not segments.of_generation(tx, self._unit.stream, self._unit.generation)

    def _throttled(self, wait: WaitFrame) -> ThrottledError:
        return ThrottledError(
            f"the source asks to wait until {wait.until.isoformat(timespec='seconds')}: {wait.reason}",
            code=THROTTLED,
            retry_at=wait.until,
            hint="the next run goes on from the last commit",
        )

    def _commit(self, *, complete: bool) -> None:
        offer = self._offer
        if offer is None or not self._is_offer_exact:
            rows = counted(self._rows, "row")
            raise FatalError(
                f"unit {self._unit.unit} of {self._task.stream.name} ended with {rows} no checkpoint covers",
                code=UNCOVERED,
                hint="offer a checkpoint after the last record; `wellhead_sdk` does it by itself",
            )
        if self._rejected:
            self._judge_rejected(self._rejected[-1].reason)
        require_no_secret(self._tools.redactor, offer.state, f"a checkpoint of {self._task.stream.name}")
        require_format(self._task.state_writes, offer.state, offer.state_version, self._task.stream.name)
        before = self._unit
        # Invariant 1: durable before remembered. The file and its folder are on disk when this returns.
        segment = self._finish_segment(before, offer)
        failpoints.reach("segment_fsynced")
        done = commit.commit(
            self._tools.database,
            self._tools.claim,
            before,
            commit.Work(
                segment=segment,
                rejected=tuple(self._rejected),
                checkpoint=run_state.Checkpoint(
                    state=offer.state,
                    state_version=offer.state_version,
                    rows=self._rows,
                    rejected=len(self._rejected),
                    checkpoint_type=offer.checkpoint_type.value,
                    watermark=offer.watermark,
                    complete=complete,
                ),
            ),
        )
        self._count(segment)
        self._unit = done.unit
        # Invariant 3: the source advances only after the commit.
        self._tools.acknowledge(
            CommittedMessage(
                read_id=self._task.read_id,
                unit=before.unit,
                through_batch=offer.through_batch,
                commit_no=done.unit.commit_no,
                state=offer.state,
                state_version=offer.state_version,
            )
        )
        if done.segment is not None:
            self._tools.publish(done.segment)

    def _finish_segment(self, before: run_state.UnitState, offer: CheckpointFrame) -> segments.NewSegment | None:
        if self._writer is None:
            return None
        finished = self._writer.finish({**self._task.footer, "wellhead.state": offer.state.hex()})
        self._writer = None
        if finished.rows != self._rows:
            raise FatalError(
                f"{self._rows} rows were taken and {finished.rows} written",
                code=MISCOUNTED,
                hint="this is a defect of Wellhead; nothing of this segment was committed",
            )
        key = self._segment_key()
        return segments.NewSegment(
            stream=before.stream,
            unit=before.unit,
            generation=before.generation,
            epoch=key.epoch,
            commit_no=key.commit_no,
            run_id=self._tools.claim.run_id,
            write=self._task.write,
            name=finished.name,
            size_bytes=finished.size_bytes,
            crc32c=finished.crc32c,
            rows=finished.rows,
            min_sequence=finished.min_sequence,
            max_sequence=finished.max_sequence,
        )

    def _count(self, segment: segments.NewSegment | None) -> None:
        with self._tally.lock:
            self._tally.rows += self._rows
            self._tally.rejected += len(self._rejected)
            self._tally.bytes += self._bytes
            self._tally.open.pop(self._unit.unit, None)
            if segment is not None:
                self._tally.crc32c.append(segment.crc32c)
        self._rows, self._bytes, self._rejected, self._rejected_bytes = 0, 0, [], 0
        self._since = self._tools.clock.monotonic()


def _sum(one: ProgressFrame, other: ProgressFrame) -> ProgressFrame:
    return ProgressFrame(*(a + b for a, b in zip(astuple(one), astuple(other), strict=True)))


def _chosen(schema: pa.Schema, columns: tuple[str, ...]) -> pa.Schema:
    if not columns:
        return schema
    keep = [*columns, *(name for name in ("_op", "_pos") if name in schema.names and name not in columns)]
    return pa.schema([schema.field(name) for name in keep], metadata=schema.metadata)
