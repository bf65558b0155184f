"""What a sink is: the contract Parquet and JSON lines fulfil, with a suite in `wellhead.testing.sinks`.

    open_segment ──write…──▶ finish ──▶ Segment ──(the registry's transaction: the commit)──▶ publish ──▶ in the table
                    └── abandon: nothing is left               replace: … ──▶ all published ──▶ swap

A segment is durable when `finish` returns and visible to readers when `publish` returns; between the two lies the
commit, which no sink knows. Every step after the commit may be repeated any number of times, by any process that shares
the folder.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from wellhead.ids import ConnectionKey, StreamKey, UnitKey

if TYPE_CHECKING:
    import pyarrow as pa

Write = Literal["replace", "append"]


@dataclass(frozen=True, slots=True)
class SegmentKey:
    """Which commit a segment belongs to; its file's name is made of these."""

    stream: StreamKey
    unit: UnitKey
    generation: int
    epoch: int
    commit_no: int
    write: Write


@dataclass(frozen=True, slots=True)
class Segment:
    """One finished file; ``name`` is where it will be published, relative to the sink; sequences are None if empty."""

    key: SegmentKey
    name: str
    size_bytes: int
    crc32c: int
    rows: int
    min_sequence: int | None
    max_sequence: int | None


class SegmentWriter(Protocol):
    """An open segment. Batches are encoded by a thread of its own; what it holds unencoded is bounded in bytes."""

    def write(self, batch: pa.RecordBatch, payload_bytes: int, on_written: Callable[[int], None]) -> None:
        """Hand over a batch; wait while too many bytes are queued.

        Args:
            batch: enveloped rows, in the segment's schema.
            payload_bytes: what the batch weighs; it decides how much may be queued.
            on_written: called with ``payload_bytes`` by the writer's thread once the rows are in the file's encoder.

        Raises:
            TransientError: the disk is full or the file cannot be written.
        """
        ...

    def finish(self, footer: Mapping[str, str]) -> Segment:
        """Write what is queued and the footer, and make the file and its folder entry durable.

        Raises:
            TransientError: the disk is full or the file cannot be written.
        """
        ...

    def abandon(self) -> None:
        """Drop the segment and its file. Safe after anything, and safe twice."""
        ...


class Sink(Protocol):
    """A place where segments are published."""

    def identity(self) -> str:
        """Return a text only hosts that share this place can know; it proves that what is staged can be published.

        Raises:
            ConfigurationError: nothing can be published at such a place.
        """
        ...

    def check_replace(self) -> None:
        """Refuse a place that cannot exchange two generations in one step.

        Raises:
            ConfigurationError: the filesystem lacks the call.
        """
        ...

    def open_segment(self, key: SegmentKey, schema: pa.Schema) -> SegmentWriter:
        """Begin a segment; a file left by a dead run under the same name is overwritten."""
        ...

    def publish(self, segment: Segment) -> None:
        """Make a committed segment visible, or see that it already is.

        Raises:
            FatalError: the file is missing, or differs from what was committed.
            TransientError: another process is publishing this table and does not end.
        """
        ...

    def swap(self, stream: StreamKey, generation: int, *, keep: int) -> bool:
        """Let a complete generation take the table's place; say whether that was still to be done.

        Args:
            stream: whose table.
            generation: its number; all its segments are published.
            keep: how many former generations stay beside the table.
        """
        ...

    def staged_generations(self, stream: StreamKey) -> list[int]:
        """Return the numbers of the generations that have published files and never were the table."""
        ...

    def discard_generation(self, stream: StreamKey, generation: int) -> None:
        """Remove what was staged of a generation that was given up."""
        ...

    def sweep(
        self, connection: ConnectionKey, *, committed: Collection[str], epoch: int, older_than_s: float
    ) -> list[str]:
        """Remove staged files nobody will publish: without a row, of a lower epoch and old. Return their names."""
        ...

    def table(self, stream: StreamKey) -> Path:
        """Return where readers find the stream."""
        ...

    def published_files(self, stream: StreamKey) -> list[str]:
        """Return the names, relative to the sink, of what readers see now."""
        ...
