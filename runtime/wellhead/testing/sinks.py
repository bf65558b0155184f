# ruff: noqa: S101 - asserting is what a suite is for.
"""What every sink must do: subclass `SinkSuite`, say how to make the sink and how to read its files, and run pytest.

class TestMine(SinkSuite):
    def open(self, path): return Mine(path)
    def ids(self, file): return [...]   # the payload's column `id`, in the file's order
"""

from __future__ import annotations

import os
import threading
import time
from abc import abstractmethod
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from wellhead.errors import FatalError
from wellhead.ids import WHOLE_STREAM, ConnectionKey, ConnectorId, RunId, StreamKey, StreamName, UnitKey
from wellhead.sinks.base import Segment, SegmentKey, Sink, Write
from wellhead.sinks.envelope import Envelope, EnvelopeContext

CONNECTION = ConnectionKey("acme", "main", "flights")
STREAM = StreamKey(CONNECTION, StreamName("public.flights"))
SCHEMA = pa.schema([pa.field("id", pa.int64()), pa.field("note", pa.utf8())])
_MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def key(commit_no: int, *, generation: int = 1, epoch: int = 1, write: Write = "append") -> SegmentKey:
    """Return the key of one commit of the whole stream."""
    return SegmentKey(STREAM, WHOLE_STREAM, generation, epoch, commit_no, write)


def envelope(generation: int = 1) -> Envelope:
    """Return an envelope for rows of `SCHEMA`."""
    context = EnvelopeContext(STREAM, ConnectorId("test/sink"), "test/sink@1.0.0", RunId("run"), generation, ("id",))
    return Envelope(context, SCHEMA)


def batch(ids: Sequence[int], *, first_sequence: int = 0, generation: int = 1) -> pa.RecordBatch:
    """Return enveloped rows with these ids."""
    columns = [pa.array(ids, pa.int64()), pa.array([f"row {number}" for number in ids], pa.utf8())]
    rows = pa.RecordBatch.from_arrays(columns, schema=SCHEMA)
    return envelope(generation).wrap(
        rows, first_sequence=first_sequence, first_ordinal=first_sequence, read_at=_MOMENT, ingested_at=_MOMENT
    )


def stage(sink: Sink, segment_key: SegmentKey, ids: Sequence[int]) -> Segment:
    """Write and finish one segment; it is durable and not yet visible."""
    writer = sink.open_segment(segment_key, envelope(segment_key.generation).schema)
    if ids:
        writer.write(batch(ids, generation=segment_key.generation), 100, lambda _: None)
    return writer.finish({"commit_no": str(segment_key.commit_no)})


class SinkSuite:
    """The promises of `wellhead.sinks.base.Sink`, one test each."""

    @abstractmethod
    def open(self, path: Path) -> Sink:
        """Return the sink in ``path``; called again for the same path it stands for another process."""

    @abstractmethod
    def ids(self, file: Path) -> list[int]:
        """Return the ids in a published file."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        """Return where the sink under test lives."""
        return tmp_path / "bronze"

    @pytest.fixture
    def sink(self, path: Path) -> Sink:
        """Return the sink under test."""
        return self.open(path)

    def visible(self, sink: Sink, path: Path) -> list[int]:
        """Return the ids readers see, sorted."""
        return sorted(number for name in sink.published_files(STREAM) for number in self.ids(path / name))

    def staged_files(self, path: Path) -> list[Path]:
        """Return what lies in the sink's staging."""
        staging = path.with_name(path.name + ".staging")
        return sorted(file for file in staging.rglob("part-*") if file.is_file())

    def test_rows_are_visible_once_published_and_not_before(self, sink: Sink, path: Path) -> None:
        """Commit and publish are two steps."""
        segment = stage(sink, key(1), [1, 2, 3])
        assert self.visible(sink, path) == []
        sink.publish(segment)
        assert self.visible(sink, path) == [1, 2, 3]
        assert sink.published_files(STREAM) == [segment.name]
        assert self.staged_files(path) == []

    def test_a_segment_tells_what_is_in_its_file(self, sink: Sink, path: Path) -> None:
        """Size, rows and the range of sequence numbers are what the registry stores."""
        writer = sink.open_segment(key(1), envelope().schema)
        writer.write(batch([1, 2], first_sequence=5), 100, lambda _: None)
        writer.write(batch([3], first_sequence=7), 100, lambda _: None)
        segment = writer.finish({})
        assert (segment.rows, segment.min_sequence, segment.max_sequence) == (3, 5, 7)
        [file] = self.staged_files(path)
        assert segment.size_bytes == file.stat().st_size

    def test_publishing_twice_is_publishing_once(self, sink: Sink, path: Path) -> None:
        """A host that died between rename and mark publishes again."""
        segment = stage(sink, key(1), [1])
        sink.publish(segment)
        self.open(path).publish(segment)
        assert self.visible(sink, path) == [1]

    def test_a_torn_segment_is_refused_and_stays_invisible(self, sink: Sink, path: Path) -> None:
        """A disk may have lost what it said was durable."""
        segment = stage(sink, key(1), list(range(100)))
        [file] = self.staged_files(path)
        os.truncate(file, segment.size_bytes - 1)
        with pytest.raises(FatalError) as caught:
            sink.publish(segment)
        assert caught.value.code.name == "WH-SNK-015"
        assert self.visible(sink, path) == []

    def test_a_segment_with_a_changed_byte_is_refused(self, sink: Sink, path: Path) -> None:
        """The size alone does not tell."""
        segment = stage(sink, key(1), list(range(100)))
        [file] = self.staged_files(path)
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        with pytest.raises(FatalError) as caught:
            sink.publish(segment)
        assert caught.value.code.name == "WH-SNK-015"

    def test_a_foreign_file_under_the_same_name_is_never_overwritten(self, sink: Sink, path: Path) -> None:
        """An existing file counts as published only if it is the committed one."""
        segment = stage(sink, key(1), [1])
        (path / segment.name).parent.mkdir(parents=True)
        (path / segment.name).write_bytes(b"somebody else's")
        with pytest.raises(FatalError) as caught:
            sink.publish(segment)
        assert caught.value.code.name == "WH-SNK-015"
        assert (path / segment.name).read_bytes() == b"somebody else's"

    def test_a_missing_segment_is_said_to_be_missing(self, sink: Sink, path: Path) -> None:
        """Nothing is published in its place."""
        segment = stage(sink, key(1), [1])
        [file] = self.staged_files(path)
        file.unlink()
        with pytest.raises(FatalError) as caught:
            sink.publish(segment)
        assert caught.value.code.name == "WH-SNK-014"

    def test_an_abandoned_segment_leaves_nothing(self, sink: Sink, path: Path) -> None:
        """Also when it is abandoned twice, or after it was finished."""
        writer = sink.open_segment(key(1), envelope().schema)
        writer.write(batch([1]), 100, lambda _: None)
        writer.abandon()
        writer.abandon()
        assert self.staged_files(path) == []
        done = sink.open_segment(key(2), envelope().schema)
        segment = done.finish({})
        done.abandon()
        sink.publish(segment)
        assert sink.published_files(STREAM) == [segment.name]

    def test_a_segment_begun_again_replaces_what_a_dead_run_left(self, sink: Sink, path: Path) -> None:
        """The same commit of the same epoch is written anew by the next attempt."""
        stage(sink, key(1), [1, 2, 3])
        sink.publish(stage(sink, key(1), [4]))
        assert self.visible(sink, path) == [4]

    def test_an_empty_stream_makes_a_table(self, sink: Sink, path: Path) -> None:
        """One file without rows."""
        segment = stage(sink, key(1), [])
        sink.publish(segment)
        assert (segment.rows, segment.min_sequence, segment.max_sequence) == (0, None, None)
        assert sink.published_files(STREAM) == [segment.name]
        assert self.visible(sink, path) == []

    def test_what_waits_to_be_encoded_is_bounded_and_given_back(self, path: Path) -> None:
        """Credit returns for every batch, in order."""
        sink = self.open(path)
        writer = sink.open_segment(key(1), envelope().schema)
        returned: list[int] = []
        for number in range(20):
            writer.write(batch([number], first_sequence=number), 5_000_000 + number, returned.append)
        segment = writer.finish({})
        assert returned == [5_000_000 + number for number in range(20)]
        assert segment.rows == 20

    def test_a_batch_waits_while_the_one_before_is_not_encoded(self, sink: Sink) -> None:
        """A slow disk slows the reader down instead of filling memory."""
        writer = sink.open_segment(key(1), envelope().schema)
        gate, handed_over = threading.Event(), threading.Event()
        batches = [batch([number], first_sequence=number) for number in range(3)]

        def hold(_: int) -> None:
            gate.wait(10)

        def overfill() -> None:
            for rows in batches:
                writer.write(rows, 60_000_000, hold)
            handed_over.set()

        thread = threading.Thread(target=overfill)
        thread.start()
        assert not handed_over.wait(0.3)
        gate.set()
        thread.join(10)
        assert handed_over.is_set()
        assert writer.finish({}).rows == 3

    def test_a_replaced_table_is_the_old_one_until_the_exchange(self, sink: Sink, path: Path) -> None:
        """Readers never see half a generation."""
        sink.publish(stage(sink, key(1, write="replace"), [1, 2]))
        assert self.visible(sink, path) == []
        assert sink.swap(STREAM, 1, keep=1)
        assert self.visible(sink, path) == [1, 2]
        sink.publish(stage(sink, key(2, generation=2, write="replace"), [7]))
        sink.publish(stage(sink, key(3, generation=2, write="replace"), [8, 9]))
        assert self.visible(sink, path) == [1, 2]
        assert sink.swap(STREAM, 2, keep=1)
        assert self.visible(sink, path) == [7, 8, 9]

    def test_exchanging_again_does_not_bring_the_old_generation_back(self, sink: Sink, path: Path) -> None:
        """A host that died between exchange and mark exchanges again."""
        for generation in (1, 2):
            sink.publish(stage(sink, key(generation, generation=generation, write="replace"), [generation]))
            sink.swap(STREAM, generation, keep=1)
        assert not self.open(path).swap(STREAM, 2, keep=1)
        assert self.visible(sink, path) == [2]

    def test_a_published_segment_of_the_table_is_found_after_the_exchange(self, sink: Sink, path: Path) -> None:
        """Publishing again may come after the exchange."""
        segment = stage(sink, key(1, write="replace"), [1])
        sink.publish(segment)
        sink.swap(STREAM, 1, keep=1)
        sink.publish(segment)
        assert self.visible(sink, path) == [1]

    @pytest.mark.parametrize(("keep", "left"), [(0, []), (1, ["3"]), (2, ["2", "3"])])
    def test_as_many_old_generations_are_kept_as_asked(self, path: Path, keep: int, left: list[str]) -> None:
        """The newest ones."""
        sink = self.open(path)
        for generation in (1, 2, 3):
            sink.publish(stage(sink, key(generation, generation=generation, write="replace"), [generation]))
            sink.swap(STREAM, generation, keep=keep)
        staging = path.with_name(path.name + ".staging")
        assert sorted(folder.name.removeprefix("old-") for folder in staging.rglob("old-*")) == left

    def test_a_generation_that_is_nowhere_is_not_exchanged(self, sink: Sink, path: Path) -> None:
        """The table stays as it is."""
        sink.publish(stage(sink, key(1, write="replace"), [1]))
        sink.swap(STREAM, 1, keep=1)
        with pytest.raises(FatalError) as caught:
            sink.swap(STREAM, 2, keep=1)
        assert caught.value.code.name == "WH-SNK-016"
        assert self.visible(sink, path) == [1]

    def test_a_generation_that_was_given_up_goes_and_the_table_stays(self, sink: Sink, path: Path) -> None:
        """Staged and half-published files alike; a generation that is the table already is left alone."""
        sink.publish(stage(sink, key(1, write="replace"), [1]))
        sink.swap(STREAM, 1, keep=1)
        sink.publish(stage(sink, key(2, generation=2, write="replace"), [2]))
        stage(sink, key(3, generation=2, write="replace"), [3])
        assert sink.staged_generations(STREAM) == [2]
        sink.discard_generation(STREAM, 2)
        assert sink.staged_generations(STREAM) == []
        sink.discard_generation(STREAM, 1)
        assert self.staged_files(path) == []
        assert self.visible(sink, path) == [1]

    def test_only_old_orphans_of_lower_epochs_are_swept(self, sink: Sink, path: Path) -> None:
        """A row, the current epoch or youth protects a staged file."""
        committed = stage(sink, key(1), [1])
        orphan = stage(sink, key(2), [2])
        ours = stage(sink, key(3, epoch=2), [3])
        hour_ago = time.time() - 4000
        for file in self.staged_files(path):
            os.utime(file, (hour_ago, hour_ago))
        young = stage(sink, key(4), [4])
        gone = sink.sweep(CONNECTION, committed={committed.name}, epoch=2, older_than_s=3600)
        assert gone == [orphan.name]
        for segment in (committed, ours, young):
            sink.publish(segment)
        assert self.visible(sink, path) == [1, 3, 4]

    def test_units_and_streams_do_not_meet(self, sink: Sink, path: Path) -> None:
        """Names that only differ in what is encoded stay apart."""
        names = ["a/b", "a%2Fb", "..", ".", "x" * 100, "x" * 101, "ä", "A b"]
        tables = {sink.table(StreamKey(CONNECTION, StreamName(name))) for name in names}
        assert len(tables) == len(names)
        assert {table.parent for table in tables} == {path / "acme" / "main" / "flights"}
        one = SegmentKey(STREAM, UnitKey("p-1"), 1, 1, 1, "append")
        sink.publish(stage(sink, one, [1]))
        sink.publish(stage(sink, key(1), [2]))
        assert self.visible(sink, path) == [1, 2]

    def test_those_who_share_the_place_know_its_identity(self, sink: Sink, path: Path, tmp_path: Path) -> None:
        """And nobody else does."""
        assert sink.identity() == self.open(path).identity()
        assert sink.identity() != self.open(tmp_path / "elsewhere").identity()

    def test_the_place_can_exchange_generations(self, sink: Sink, path: Path) -> None:
        """And the trial leaves nothing behind."""
        sink.check_replace()
        assert [entry.name for entry in path.with_name(path.name + ".staging").iterdir()] == []
