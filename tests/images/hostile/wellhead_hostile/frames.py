"""What an honest SDK would send in one Emit, counted as the protocol asks, so that a lie differs in one point only."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from wellhead_sdk.wire import arrow
from wellhead_sdk.wire import messages as m

#: What the streams of this connector look like.
RECORDS = pa.schema([pa.field("id", pa.int64(), nullable=False), pa.field("text", pa.string())])
ATTEMPTS = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False),
        pa.field("target", pa.string(), nullable=False),
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("duration_ms", pa.int64(), nullable=False),
    ]
)

#: A frame as a value, or as the very bytes to send where no value could say it.
Said = m.Frame | bytes

_ROWS = 10


@dataclass
class Credit:
    """Bytes the host still lets us send; filled by the thread that hears the host, drained by the one that talks."""

    _left: int = 0
    _stopped: bool = False
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def grant(self, size_bytes: int) -> None:
        """Add what the host granted."""
        with self._changed:
            self._left += size_bytes
            self._changed.notify_all()

    def stop(self) -> None:
        """Note that the host asked us to end, or went away."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    @property
    def is_stopped(self) -> bool:
        """Whether the host asked us to end."""
        return self._stopped

    def spend(self, size_bytes: int) -> None:
        """Wait until there is any credit, then take the payload off it; one overdraft is legal."""
        with self._changed:
            self._changed.wait_for(lambda: self._left > 0 or self._stopped)
            self._left -= size_bytes


@dataclass
class Talk:
    """One Emit: what was asked, what may be used against the host, and the counts an honest connector would keep."""

    order: m.ReadOrder
    unit: m.Unit
    config: Mapping[str, Any]
    secrets: Mapping[str, str]
    credit: Credit = field(default_factory=Credit)
    batch_no: int = 0
    rows: int = 0
    rejects: int = 0
    _offered_rows: int = 0
    _offered_rejects: int = 0

    @property
    def stream(self) -> str:
        """The stream that was asked for."""
        return self.order.stream

    def schema(self, schema: pa.Schema = RECORDS) -> m.SchemaFrame:
        """Open the stream."""
        return m.SchemaFrame(self.stream, schema, arrow.fingerprint(arrow.schema_bytes(schema)))

    def batch(self, texts: Sequence[str] = ("nothing to see",) * _ROWS) -> m.BatchFrame:
        """Send one record a text, numbered on."""
        ids = pa.array(range(self.rows, self.rows + len(texts)), pa.int64())
        return self.batch_of(pa.RecordBatch.from_arrays([ids, pa.array(texts, pa.string())], schema=RECORDS))

    def batch_of(self, batch: pa.RecordBatch) -> m.BatchFrame:
        """Send any batch, within the credit."""
        data = arrow.to_ipc(batch)
        self.credit.spend(len(data))
        self.batch_no += 1
        self.rows += batch.num_rows
        return m.BatchFrame(
            self.batch_no, self.stream, batch.num_rows, arrow.crc32c(data), data, read_at=datetime.now(UTC)
        )

    def rejected(self, sample: bytes, *, text: str = "", key: str = "") -> m.RejectedFrame:
        """Set a record aside, within the credit."""
        self.credit.spend(len(sample))
        self.rejects += 1
        return m.RejectedFrame(
            self.stream, "malformed", hashlib.sha256(sample).digest(), len(sample), key, sample, "text", text
        )

    def checkpoint(self, state: bytes = b'{"said": "honestly"}') -> m.CheckpointFrame:
        """Offer a state that covers everything said so far."""
        rows, rejects = self.rows - self._offered_rows, self.rejects - self._offered_rejects
        self._offered_rows, self._offered_rejects = self.rows, self.rejects
        return m.CheckpointFrame(state, 1, self.batch_no, rows, rejects)

    def done(self) -> m.DoneFrame:
        """Say how much it was."""
        totals = (m.StreamTotals(self.stream, self.rows, self.rejects, self.batch_no),)
        return m.DoneFrame(m.DoneReason.STOPPED if self.credit.is_stopped else m.DoneReason.COMPLETE, totals)

    def end(self) -> Iterator[Said]:
        """Offer the last checkpoint and be done."""
        yield self.checkpoint()
        yield self.done()

    def pages(self, count: int) -> Iterator[Said]:
        """Send so many honest batches, each with its checkpoint."""
        yield self.schema()
        for _ in range(count):
            yield self.batch()
            yield self.checkpoint()


def honest(talk: Talk) -> Iterator[Said]:
    """Send a few records the way everyone should."""
    if talk.stream == "records":
        yield from talk.pages(2)
    else:
        yield talk.schema(ATTEMPTS)
    yield from talk.end()


def forever() -> None:
    """Do nothing until the process is killed."""
    while True:
        time.sleep(3600)
