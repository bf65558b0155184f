"""Rows become batches of the right size and schema, and none is dropped without a word."""

from __future__ import annotations

import json
from collections import OrderedDict
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellhead_sdk import batching
from wellhead_sdk.batching import Batcher, Reject
from wellhead_sdk.errors import Data, Fatal
from wellhead_sdk.wire import arrow
from wellhead_sdk.wire.messages import MAX_BATCH_BYTES, MAX_BATCH_ROWS, TARGET_BATCH_BYTES

SCHEMA = pa.schema([pa.field("id", pa.int64(), False), ("text", pa.string())], {"k": "v"})


class Tape:
    """What a batcher handed out, in order."""

    def __init__(self, schema: pa.Schema = SCHEMA) -> None:
        self.batches: list[pa.RecordBatch] = []
        self.rejects: list[Reject] = []
        self.unknown: list[str] = []
        self.batcher = Batcher(schema, ["id"], self.ship, self.rejects.append, self.unknown.append)

    def ship(self, batch: pa.RecordBatch, encoded: bytes) -> None:
        assert arrow.from_ipc(encoded).equals(batch)
        assert len(encoded) <= MAX_BATCH_BYTES
        assert batch.schema.equals(self.batcher.schema, check_metadata=True)
        self.batches.append(batch)

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [row for batch in self.batches for row in batch.to_pylist()]


@given(sizes=st.lists(st.integers(0, 1500), max_size=5))
def test_every_row_comes_out_once_and_in_order(sizes: list[int]) -> None:
    tape = Tape()
    total = 0
    for size in sizes:
        tape.batcher.add_rows([{"id": total + index, "text": "x"} for index in range(size)])
        total += size
    tape.batcher.flush()
    assert tape.batcher.is_empty
    assert [row["id"] for row in tape.rows] == list(range(total))


def test_rows_and_tables_keep_their_order() -> None:
    tape = Tape()
    tape.batcher.add_rows([{"id": 1}])
    tape.batcher.add_batch(pa.record_batch({"text": ["b"], "id": [2]}))
    tape.batcher.add_rows([{"id": 3}])
    tape.batcher.flush()
    assert tape.rows == [{"id": 1, "text": None}, {"id": 2, "text": "b"}, {"id": 3, "text": None}]
    assert len(tape.batches) == 1


def test_rows_gather_to_batches_of_about_the_target() -> None:
    tape = Tape()
    for page in range(60):
        tape.batcher.add_rows([{"id": page * 1000 + index, "text": "x" * 500} for index in range(1000)])
    sizes = [batch.nbytes for batch in tape.batches]
    assert len(sizes) > 3
    assert all(TARGET_BATCH_BYTES / 2 < size < TARGET_BATCH_BYTES * 1.5 for size in sizes[-3:])


def test_rows_that_grow_suddenly_are_cut_early() -> None:
    tape = Tape()
    tape.batcher.add_rows([{"id": index, "text": "x"} for index in range(100_000)])
    before = len(tape.rows)
    tape.batcher.add_rows([{"id": index, "text": "x" * 100_000} for index in range(100)])
    assert len(tape.rows) - before >= 90


@pytest.mark.parametrize("text_bytes", [pytest.param(10, marks=pytest.mark.slow), 1000, 1_000_000])
def test_single_rows_are_cut_by_size_too(text_bytes: int) -> None:
    tape = Tape()
    count = 3 * TARGET_BATCH_BYTES // text_bytes // 10 * 10
    for index in range(count):
        tape.batcher.add_row({"id": index, "text": "x" * text_bytes})
    assert len(tape.rows) > 0
    tape.batcher.flush()
    assert [row["id"] for row in tape.rows] == list(range(count))


def test_a_table_is_cut_into_batches_of_about_the_target() -> None:
    tape = Tape(pa.schema([("x", pa.int64())]))
    tape.batcher.add_batch(pa.record_batch({"x": range(2_000_000)}))
    assert len(tape.batches) == 8
    assert {batch.num_rows for batch in tape.batches} == {250_000}


def test_a_batch_never_has_more_rows_than_may_travel() -> None:
    tape = Tape(pa.schema([("x", pa.bool_())]))
    tape.batcher.add_batch(pa.record_batch({"x": [True] * (MAX_BATCH_ROWS + 1)}))
    tape.batcher.flush()
    assert sum(batch.num_rows for batch in tape.batches) == MAX_BATCH_ROWS + 1
    assert max(batch.num_rows for batch in tape.batches) <= MAX_BATCH_ROWS


def test_uneven_rows_are_split_until_they_fit() -> None:
    tape = Tape()
    texts = ["x"] * 999 + ["y" * (9 * 1024 * 1024)] * 2
    tape.batcher.add_batch(pa.record_batch({"id": range(1001), "text": texts}))
    assert [row["id"] for row in tape.rows] == list(range(1001))


@pytest.mark.parametrize("as_table", [True, False])
def test_a_row_larger_than_a_batch_is_set_aside_with_its_key(as_table: bool) -> None:
    tape = Tape()
    rows = [{"id": 1, "text": "a"}, {"id": 2, "text": "x" * (MAX_BATCH_BYTES + 1)}, {"id": 3, "text": "c"}]
    if as_table:
        tape.batcher.add_batch(pa.RecordBatch.from_pylist(rows, SCHEMA))
    else:
        tape.batcher.add_rows(rows)
    tape.batcher.flush()
    assert [row["id"] for row in tape.rows] == [1, 3]
    (reject,) = tape.rejects
    assert (reject.reason, reject.key, len(reject.row) > MAX_BATCH_BYTES) == ("too_large", {"id": 2}, True)


def test_a_value_its_column_cannot_take_sets_its_row_aside() -> None:
    tape = Tape()
    tape.batcher.add_rows([{"id": 1, "text": "a"}, {"id": "no number", "text": "b"}, {"id": 3, "text": "c"}])
    tape.batcher.flush()
    assert [row["id"] for row in tape.rows] == [1, 3]
    (reject,) = tape.rejects
    assert (reject.reason, reject.column) == ("unrepresentable", "id")
    assert "no number" in reject.text
    assert json.loads(reject.row) == {"id": "no number", "text": "b"}


def test_a_missing_value_that_must_be_there_sets_its_row_aside() -> None:
    tape = Tape()
    tape.batcher.add_rows([{"id": None, "text": "a"}, {"text": "b"}, {"id": 3}])
    tape.batcher.flush()
    assert [row["id"] for row in tape.rows] == [3]
    assert [(reject.reason, reject.column) for reject in tape.rejects] == [("missing", "id")] * 2


def test_a_table_without_a_required_value_is_refused_whole() -> None:
    with pytest.raises(Data, match="must hold none"):
        Tape().batcher.add_batch(pa.record_batch({"id": pa.array([1, None]), "text": ["a", "b"]}))


def test_a_table_without_a_column_is_refused_by_name() -> None:
    with pytest.raises(Data, match="no column 'text'"):
        Tape().batcher.add_batch(pa.record_batch({"id": [1]}))


def test_a_table_that_cannot_be_cast_is_refused_without_its_values() -> None:
    with pytest.raises(Data, match="cannot become int64 from string") as caught:
        Tape().batcher.add_batch(pa.record_batch({"id": ["canary"], "text": ["a"]}))
    assert "canary" not in str(caught.value)


def test_texts_stand_for_times_and_numbers_and_objects_become_json() -> None:
    schema = pa.schema(
        [
            ("at", pa.timestamp("us", "UTC")),
            ("day", pa.date32()),
            ("amount", pa.decimal128(10, 2)),
            ("n", pa.int32()),
            ("x", pa.float64()),
            ("doc", pa.string()),
        ]
    )
    tape = Tape(schema)
    row = {"at": "2026-01-02T03:04:05Z", "day": "2026-01-02", "amount": "1.50", "n": "7", "x": "1.5", "doc": {"a": [1]}}
    tape.batcher.add_rows([row])
    tape.batcher.flush()
    assert tape.rejects == []
    (got,) = tape.rows
    assert got == {
        "at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "day": datetime(2026, 1, 2, tzinfo=UTC).date(),
        "amount": Decimal("1.50"),
        "n": 7,
        "x": 1.5,
        "doc": '{"a":[1]}',
    }


def test_a_field_the_schema_lacks_is_told_once() -> None:
    tape = Tape()
    for index in range(3):
        tape.batcher.add_rows([{"id": index, "extra": 1}])
    tape.batcher.flush()
    assert tape.unknown == ["extra"]
    assert [row["id"] for row in tape.rows] == [0, 1, 2]


def test_a_row_is_shown_as_json_whatever_it_holds() -> None:
    shown = json.loads(batching.row_json({"b": b"\xff", "t": datetime(2026, 1, 1, tzinfo=UTC), "d": Decimal("1.5")}))
    assert shown == {"b": "ff", "t": "2026-01-01 00:00:00+00:00", "d": "1.5"}


def test_what_is_no_record_is_refused() -> None:
    with pytest.raises(Fatal, match="not str"):
        list(batching.as_batches("row"))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pa.int64(), 1.9),
        (pa.int64(), Decimal("1.9")),
        (pa.int64(), True),
        (pa.float64(), True),
        (pa.date32(), datetime(2024, 1, 2, 3, 4, tzinfo=UTC)),
        (pa.timestamp("s", "UTC"), datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=UTC)),
        (pa.time32("s"), time(12, 0, 0, 500_000)),
        (pa.time64("us"), time(12, tzinfo=UTC)),
        (pa.duration("s"), timedelta(milliseconds=1500)),
        (pa.float32(), 1e300),
        (pa.float64(), Decimal("0.1234567890123456789")),
        (pa.list_(pa.int64()), [1, 1.9]),
        (pa.list_(pa.list_(pa.int64())), [[1], [1.9]]),
        (pa.list_(pa.date32()), [datetime(2024, 1, 2, 3, 4, tzinfo=UTC)]),
        (pa.struct([("a", pa.int64())]), {"a": 1.9}),
        (pa.map_(pa.string(), pa.int64()), {"a": 1.9}),
        (pa.map_(pa.string(), pa.int64()), [("a", 1.9)]),
    ],
    ids=str,
)
def test_sets_aside_a_value_that_would_be_changed_without_a_word(kind: pa.DataType, value: object) -> None:
    rejected: list[Reject] = []
    shipped: list[pa.RecordBatch] = []
    batcher = Batcher(
        pa.schema([pa.field("n", kind)]), (), lambda batch, _: shipped.append(batch), rejected.append, lambda _: None
    )
    batcher.add_rows([{"n": value}, {"n": None}])
    batcher.flush()
    assert [reject.column for reject in rejected] == ["n"]
    assert [batch.to_pylist() for batch in shipped] == [[{"n": None}]]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pa.float64(), Decimal("1.50")),
        (pa.float64(), 7),
        (pa.float32(), float("inf")),
        (pa.float32(), 1.5),
        (pa.time32("s"), time(12, 0, 1)),
        (pa.duration("ms"), timedelta(milliseconds=1500)),
        (pa.list_(pa.int64()), [1, None, 2]),
        (pa.struct([("a", pa.int64()), ("b", pa.string())]), {"a": 1, "b": None}),
        (pa.map_(pa.string(), pa.int64()), [("a", 1)]),
    ],
    ids=str,
)
def test_a_value_that_its_type_holds_arrives_as_it_is(kind: pa.DataType, value: object) -> None:
    tape = Tape(pa.schema([("id", kind)]))
    tape.batcher.add_rows([{"id": value}, {"id": None}])
    tape.batcher.flush()
    assert tape.rejects == []
    assert tape.rows == [{"id": value}, {"id": None}]


@pytest.mark.parametrize(
    ("held", "kind"),
    [
        (pa.array([1.239]), pa.decimal128(10, 2)),
        (pa.array([19.99, 19.991]), pa.decimal128(10, 2)),
        (pa.array([1e300]), pa.float32()),
        (pa.array([datetime(2024, 1, 2, 13)]), pa.date32()),  # noqa: DTZ001 - a column without a zone
        (pa.array([datetime(2024, 1, 2, 13)]), pa.time64("us")),  # noqa: DTZ001
        (pa.array([[datetime(2024, 1, 2, 13)]]), pa.list_(pa.date32())),  # noqa: DTZ001
        (pa.array([2]), pa.bool_()),
    ],
    ids=str,
)
def test_a_table_whose_values_a_cast_would_change_is_refused(held: pa.Array, kind: pa.DataType) -> None:
    with pytest.raises(Data, match="column 'x'"):
        Tape(pa.schema([("x", kind)])).batcher.add_batch(pa.record_batch({"x": held}))


@pytest.mark.parametrize(
    ("held", "kind"),
    [
        (pa.array([1, None], pa.int32()), pa.int64()),
        (pa.array([0.1, 19.99, 12.34, -99999999.99, 0.1 + 0.2, None]), pa.decimal128(10, 2)),
        (pa.array([0.1, 1234.5678], pa.float32()), pa.decimal128(38, 9)),
        (pa.array([Decimal("12.34"), Decimal("19.99"), None], pa.decimal128(38, 18)), pa.float64()),
        (pa.array([Decimal("1234.5678")], pa.decimal128(10, 4)), pa.float32()),
        (pa.array([1.1, float("inf"), None]), pa.float32()),
        (pa.array([[1.1], None]), pa.list_(pa.float32())),
        (pa.array(["7", None]), pa.int64()),
        (pa.array([1.5, None]), pa.string()),
        (pa.array([datetime(2024, 1, 2)]), pa.date32()),  # noqa: DTZ001
        (pa.array([{"a": 1}]), pa.struct([("a", pa.int32())])),
    ],
    ids=str,
)
def test_a_table_whose_values_a_cast_keeps_is_taken(held: pa.Array, kind: pa.DataType) -> None:
    tape = Tape(pa.schema([("x", kind)]))
    tape.batcher.add_batch(pa.record_batch({"x": held}))
    tape.batcher.flush()
    assert len(tape.rows) == len(held)


def test_exact_decimals_stay_numbers_in_a_text_column() -> None:
    tape = Tape(pa.schema([("id", pa.string())]))
    document = {"price": Decimal("1.50"), "at": datetime(2026, 1, 1, tzinfo=UTC), "tags": ["é", Decimal("NaN")]}
    tape.batcher.add_rows([{"id": document}])
    tape.batcher.flush()
    assert tape.rows == [{"id": '{"price":1.50,"at":"2026-01-01 00:00:00+00:00","tags":["é","NaN"]}'}]


@pytest.mark.parametrize("rows", [[None], [{"id": 1}, "row"], [{"id": index} for index in range(2000)] + [[]]])
def test_a_list_with_something_else_than_dicts_is_refused_whole(rows: list[Any]) -> None:
    tape = Tape()
    with pytest.raises(Fatal, match="takes dicts; number"):
        tape.batcher.add_rows(rows)
    tape.batcher.flush()
    assert tape.rows == []
    assert isinstance(tape.batcher.failure, Fatal)


def test_an_author_may_fill_the_same_dict_anew() -> None:
    tape = Tape()
    row: dict[str, Any] = {}
    page: list[dict[str, Any]] = [{}]
    for number in range(4):
        row["id"] = page[0]["id"] = number
        tape.batcher.add_row(row)
        tape.batcher.add_rows(page)
    row["id"] = page[0]["id"] = 99
    tape.batcher.flush()
    assert [row["id"] for row in tape.rows] == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("where", ["_columns", "_ship"])
def test_rows_that_are_lost_are_remembered(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tape = Tape()
    tape.batcher.add_rows([{"id": 1}])

    def fail(*_: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(tape.batcher, where, fail)
    with pytest.raises(RuntimeError):
        tape.batcher.flush()
    assert tape.batcher.is_empty
    assert str(tape.batcher.failure) == "a defect"


def test_a_row_beside_an_infinity_is_set_aside_once() -> None:
    tape = Tape(pa.schema([("id", pa.int64()), ("x", pa.float32())]))
    tape.batcher.add_rows([{"id": 1.5, "x": 1.0}, {"id": 2, "x": float("inf")}])
    tape.batcher.flush()
    assert [reject.column for reject in tape.rejects] == ["id"]
    assert tape.rows == [{"id": 2, "x": float("inf")}]


def test_any_mapping_is_a_record() -> None:
    tape = Tape()
    tape.batcher.add_rows([MappingProxyType({"id": 1}), OrderedDict(id=2), {"id": 3}])
    tape.batcher.flush()
    assert [row["id"] for row in tape.rows] == [1, 2, 3]
