"""Files, folders and what can go wrong with them."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wellhead.errors import ConfigurationError, TransientError, WellheadError
from wellhead.ids import WHOLE_STREAM, ConnectorId, RunId, StreamKey, StreamName
from wellhead.sinks import jsonl, parquet_file, segments
from wellhead.sinks.base import SegmentKey
from wellhead.sinks.envelope import Envelope, EnvelopeContext
from wellhead.sinks.jsonl import Jsonl
from wellhead.sinks.parquet import Parquet
from wellhead.sinks.segments import Part, folder_name, part_of
from wellhead.testing.sinks import CONNECTION, STREAM, batch, envelope, key, stage

MOMENT = datetime(2026, 1, 2, tzinfo=UTC)


class FullDisk(Parquet):
    """A sink whose every write answers as a full disk does."""

    def encoder(self, path: Path, schema: pa.Schema) -> parquet_file.Encoder:
        path.touch()
        return parquet_file.Encoder(Path("/dev/full"), schema)


class FullDiskOfLines(Jsonl):
    """The same with JSON lines."""

    def encoder(self, path: Path, schema: pa.Schema) -> jsonl.Encoder:
        path.touch()
        return jsonl.Encoder(Path("/dev/full"), schema)


@pytest.mark.parametrize("kind", [FullDisk, FullDiskOfLines])
def test_a_full_disk_is_transient_and_leaves_no_file(tmp_path: Path, kind: type[segments.Folder]) -> None:
    sink = kind(tmp_path / "bronze")
    writer = sink.open_segment(key(1), envelope().schema)
    writer.write(batch(range(100_000)), 100, lambda _: None)
    with pytest.raises(TransientError) as caught:
        writer.finish({})
    assert caught.value.code.name == "WH-SNK-010"
    assert list(sink.staging.rglob("part-*")) == []


def test_a_writer_that_failed_refuses_more_rows(tmp_path: Path) -> None:
    writer = FullDiskOfLines(tmp_path / "bronze").open_segment(key(1), envelope().schema)
    written = threading.Event()
    writer.write(batch(range(100_000)), 100, lambda _: written.set())
    assert written.wait(30)
    with pytest.raises(TransientError):
        writer.write(batch([1]), 100, lambda _: None)
    writer.abandon()


def test_a_column_parquet_cannot_hold_is_a_configuration_error(tmp_path: Path) -> None:
    schema = pa.schema([*envelope().schema, ("span", pa.month_day_nano_interval())])
    sink = Parquet(tmp_path / "bronze")
    with pytest.raises(ConfigurationError) as caught:
        sink.open_segment(key(1), schema)
    assert caught.value.code.name == "WH-SNK-018"
    assert list(sink.staging.rglob("part-*")) == []


def test_a_mount_point_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_mount", lambda path: path.name == "bronze")
    with pytest.raises(ConfigurationError) as caught:
        Parquet(tmp_path / "bronze")
    assert caught.value.code.name == "WH-SNK-012"


def test_the_root_of_a_real_mount_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        Parquet(Path("/dev/shm"))


def test_a_folder_that_cannot_be_made_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError) as caught:
        Parquet(tmp_path / "file" / "bronze")
    assert caught.value.code.name == "WH-SNK-011"


def lacking(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(source: Path, target: Path, flags: int) -> None:
        raise OSError(number, os.strerror(number), str(source), None, str(target))

    monkeypatch.setattr(segments, "rename", refuse)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.ENOTSUP])
def test_a_filesystem_on_which_nothing_can_be_published_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    lacking(monkeypatch, number)
    sink = Parquet(tmp_path / "bronze")
    with pytest.raises(ConfigurationError) as caught:
        sink.identity()
    assert (caught.value.code, caught.value.exit_code) == (segments.NO_RENAME, 78)
    assert "NFS" in (caught.value.hint or "")
    assert list(sink.staging.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "kind", "code"),
    [(errno.EINVAL, ConfigurationError, "WH-SNK-019"), (errno.EACCES, TransientError, "WH-SNK-011")],
)
def test_a_segment_that_cannot_be_published_there_is_not_for_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type[WellheadError], code: str
) -> None:
    sink = Parquet(tmp_path / "bronze")
    segment = stage(sink, key(1), [1])
    lacking(monkeypatch, number)
    with pytest.raises(kind) as caught:
        sink.publish(segment)
    assert caught.value.code.name == code


def test_of_two_hosts_that_name_a_place_at_once_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink, rename = Parquet(tmp_path / "bronze"), segments.rename

    def late(source: Path, target: Path, flags: int) -> None:
        target.write_text("another's")
        rename(source, target, flags)

    monkeypatch.setattr(segments, "rename", late)
    assert sink.identity() == "another's"
    assert [path.name for path in sink.staging.iterdir()] == ["sink-id"]


def test_a_filesystem_without_the_exchange_is_refused_for_replace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    sink = Parquet(tmp_path / "bronze")
    monkeypatch.setattr(segments, "rename", refuse)
    with pytest.raises(ConfigurationError) as caught:
        sink.check_replace()
    assert caught.value.code.name == "WH-SNK-013"
    assert list(sink.staging.iterdir()) == []


def test_a_second_publisher_waits_for_the_first_and_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = Parquet(tmp_path / "bronze")
    segment = stage(sink, key(1), [1])
    monkeypatch.setattr(segments, "_LOCK_WAIT_S", 0.05)
    with (sink.staged(key(1)).parent / "publish.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(TransientError) as caught:
            sink.publish(segment)
    assert caught.value.code.name == "WH-SNK-017"
    sink.publish(segment)


@pytest.mark.parametrize(
    ("name", "encoded"),
    [
        ("public.flights", "public.flights"),
        ("a/b", "a%2Fb"),
        ("..", "%2E."),
        (".hidden", "%2Ehidden"),
        ("Größe", "Gr%C3%B6%C3%9Fe"),
        ("a~b", "a%7Eb"),
        ("nul\0", "nul%00"),
    ],
)
def test_names_become_one_safe_path_segment(name: str, encoded: str) -> None:
    assert folder_name(name) == encoded


@pytest.mark.parametrize("name", ["x" * 61, "🚀" * 30, "a" * 50 + "/" * 20])
def test_long_names_are_cut_without_breaking_an_escape(name: str) -> None:
    encoded = folder_name(name)
    assert len(encoded.encode()) <= 60
    head, _, tail = encoded.rpartition("~")
    assert len(tail) == 8
    assert head.count("%") * 3 <= len(head)
    assert encoded == folder_name(name)
    assert encoded != folder_name(name + "x")


def test_a_files_name_tells_its_commit() -> None:
    assert part_of("part-p-01-3-12-7.parquet.seg") == Part(part_of("part-p-01-1-1-1.parquet").unit, 3, 12, 7)  # type: ignore[union-attr]
    assert part_of("part-all-1-2.parquet") is None
    assert part_of("publish.lock") is None


def test_the_footer_and_the_layout_of_a_parquet_file(tmp_path: Path) -> None:
    sink = Parquet(tmp_path / "bronze")
    writer = sink.open_segment(key(1), envelope().schema)
    for first in range(0, 300_000, 20_000):
        writer.write(batch(range(first, first + 20_000), first_sequence=first), 1_000_000, lambda _: None)
    segment = writer.finish({"commit_no": "1", "state": "e30="})
    sink.publish(segment)
    file = pq.ParquetFile(sink.path / segment.name)
    metadata = file.metadata.metadata
    assert (metadata[b"wellhead.commit_no"], metadata[b"wellhead.state"]) == (b"1", b"e30=")
    assert metadata[b"wellhead.event_id"] == b"key"
    sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
    assert sum(sizes) == 300_000
    assert min(sizes[:-1]) > 100_000
    columns = {file.metadata.row_group(0).column(number).path_in_schema: number for number in range(16)}
    stream, note = (file.metadata.row_group(0).column(columns[name]) for name in ("_stream", "note"))
    assert (stream.compression, stream.has_dictionary_page, note.has_dictionary_page) == ("ZSTD", True, False)
    event_id = file.metadata.row_group(0).column(columns["_event_id"])
    assert "DELTA_LENGTH_BYTE_ARRAY" in event_id.encodings
    assert event_id.statistics is None
    assert note.statistics.has_min_max


def test_duckdb_reads_a_table_by_its_glob(tmp_path: Path) -> None:
    sink = Parquet(tmp_path / "bronze")
    sink.publish(stage(sink, key(1), []))
    sink.publish(stage(sink, key(2), [1, 2]))
    query = f"select count(*), max(_stream), max(note) from '{sink.table(STREAM)}/*.parquet'"
    assert duckdb.execute(query).fetchall() == [(2, "public.flights", "row 2")]


def test_json_lines_lose_nothing(tmp_path: Path) -> None:
    schema = pa.schema(
        [
            ("id", pa.int64()),
            ("price", pa.decimal128(20, 2)),
            ("ratio", pa.float64()),
            ("raw", pa.binary()),
            ("at", pa.timestamp("ns", "UTC")),
            ("local", pa.timestamp("us")),
            ("day", pa.date32()),
            ("span", pa.duration("ms")),
            ("months", pa.month_day_nano_interval()),
            ("tags", pa.list_(pa.float64())),
            ("who", pa.struct([("name", pa.utf8()), ("born", pa.date32())])),
            ("labels", pa.map_(pa.utf8(), pa.int64())),
            ("kind", pa.dictionary(pa.int8(), pa.utf8())),
        ]
    )
    first = {
        "id": 2**60 + 1,
        "price": Decimal("-12345678901234567.89"),
        "ratio": float("nan"),
        "raw": b"\x00\xff",
        "at": 1_700_000_000_123_456_789,
        "local": MOMENT.replace(tzinfo=None),
        "day": MOMENT.date(),
        "span": 1500,
        "months": (1, 2, 3),
        "tags": [0.5, None, float("inf")],
        "who": {"name": "Zoë", "born": MOMENT.date()},
        "labels": [("k", 1)],
        "kind": "x",
    }
    rows = pa.RecordBatch.from_pylist([first, {}], schema=schema)
    made = Envelope(EnvelopeContext(STREAM, ConnectorId("a/b"), "a/b@1", RunId("run"), 1, ("id",)), schema)
    sink = Jsonl(tmp_path / "bronze")
    writer = sink.open_segment(key(1), made.schema)
    wrapped = made.wrap(rows, first_sequence=0, first_ordinal=0, read_at=MOMENT, ingested_at=MOMENT)
    writer.write(wrapped, 100, lambda _: None)
    segment = writer.finish({})
    sink.publish(segment)
    one, two = [json.loads(line) for line in (sink.path / segment.name).read_text().splitlines()]
    assert one["data"] == {
        "id": 2**60 + 1,
        "price": "-12345678901234567.89",
        "ratio": "NaN",
        "raw": "AP8=",
        "at": "2023-11-14T22:13:20.123456789Z",
        "local": "2026-01-02T00:00:00.000000",
        "day": "2026-01-02",
        "span": 1500,
        "months": [1, 2, 3],
        "tags": [0.5, None, "Infinity"],
        "who": {"name": "Zoë", "born": "2026-01-02"},
        "labels": [["k", 1]],
        "kind": "x",
    }
    assert set(two["data"].values()) == {None}
    assert (one["_sequence"], one["_occurred_at"], one["_op"]) == (0, "2026-01-02T00:00:00.000000Z", "r")


def test_nested_columns_of_a_slice_are_read_from_their_own_rows() -> None:
    maps = pa.array([[("a", 1)], None, [("b", 2), ("c", 3)]], pa.map_(pa.utf8(), pa.int64())).slice(1)
    lists = pa.array([[1], None, [2, 3]], pa.list_(pa.int64())).slice(1)
    structs = pa.array([{"x": 1}, None, {"x": 2}]).slice(1)
    assert jsonl.values(maps) == [None, [["b", 2], ["c", 3]]]
    assert jsonl.values(lists) == [None, [2, 3]]
    assert jsonl.values(structs) == [None, {"x": 2}]


def test_streams_and_units_of_one_connection_share_no_file(tmp_path: Path) -> None:
    sink = Parquet(tmp_path / "bronze")
    other = SegmentKey(StreamKey(CONNECTION, StreamName("other")), WHOLE_STREAM, 1, 1, 1, "append")
    sink.publish(stage(sink, key(1), [1]))
    sink.publish(stage(sink, other, [2]))
    assert sink.published_files(STREAM) != sink.published_files(other.stream)
    assert not os.listdir(sink.staged(key(1)).parent)[1:]
