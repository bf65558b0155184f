"""Rows that commit late are never lost, rows already emitted are not emitted again, and a state stays small."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wellhead_sdk import cursor as cursors
from wellhead_sdk.connector import encode_state
from wellhead_sdk.cursor import Cursor, row_hashes
from wellhead_sdk.errors import Configuration
from wellhead_sdk.wire.messages import MAX_STATE_BYTES

START = datetime(2026, 1, 1, tzinfo=UTC)
AT = pa.field("at", pa.timestamp("us", "UTC"))
SCHEMA = pa.schema([("id", pa.int64()), AT])
LOOKBACK_S = 60.0


@dataclass(frozen=True)
class Row:
    """A row whose transaction stamped it at ``at_s`` and committed at ``commit_s``."""

    id: int
    at_s: int
    commit_s: int


def batch_of(rows: Iterable[Row]) -> pa.RecordBatch:
    rows = list(rows)
    return pa.record_batch(
        [[row.id for row in rows], pa.array([START + timedelta(seconds=row.at_s) for row in rows], AT.type)],
        schema=SCHEMA,
    )


class Source:
    """A table as snapshots see it, ordered by the cursor."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows = list(rows)

    def snapshot(self, at_s: int, low: datetime | None) -> list[Row]:
        seen = [row for row in self.rows if row.commit_s <= at_s]
        return sorted(
            (row for row in seen if low is None or START + timedelta(seconds=row.at_s) >= low),
            key=lambda row: (row.at_s, row.id),
        )


def run(
    source: Source, state: dict[str, Any] | None, at_s: int, page_rows: int = 3, stop_after: int | None = None
) -> tuple[list[int], dict[str, Any] | None]:
    """Read once; with ``stop_after`` end after that many pages, at their checkpoint."""
    cursor = Cursor(state, AT, snapshot_at=START + timedelta(seconds=at_s), lookback_s=LOOKBACK_S)
    rows = source.snapshot(at_s, cursor.low)
    emitted: list[int] = []
    for number, first in enumerate(range(0, len(rows), page_rows)):
        if number == stop_after:
            return emitted, json.loads(json.dumps(cursor.state()))
        emitted += cursor.take(batch_of(rows[first : first + page_rows])).column("id").to_pylist()
    return emitted, json.loads(json.dumps(cursor.state(final=True)))


@st.composite
def tables(draw: st.DrawFn) -> list[Row]:
    """Rows that commit at most the lookback after the time they bear; some bear a time in the future."""
    rows = []
    for number in range(draw(st.integers(0, 25))):
        commit_s = draw(st.integers(0, 400))
        late_s = draw(st.integers(0, int(LOOKBACK_S)) | st.integers(-1000, -1))
        rows.append(Row(number, commit_s - late_s, commit_s))
    return rows


@pytest.mark.slow
@settings(max_examples=300)
@given(
    rows=tables(),
    snapshots=st.lists(st.integers(0, 400), max_size=4),
    stops=st.lists(st.none() | st.integers(0, 4), max_size=5),
)
def test_every_row_arrives_exactly_once_however_late_it_commits(
    rows: list[Row], snapshots: list[int], stops: list[int | None]
) -> None:
    source = Source(rows)
    state: dict[str, Any] | None = None
    emitted: list[int] = []
    plan = [*zip(sorted(snapshots), [*stops, None, None, None, None], strict=False), (400, None)]
    for at_s, stop_after in plan:
        fresh, state = run(source, state, at_s, stop_after=stop_after)
        emitted += fresh
        high = state.get("high") if state else None
        assert high is None or high <= (START + timedelta(seconds=at_s)).timestamp() * 1_000_000
    assert Counter(emitted) == Counter(row.id for row in rows)


@pytest.mark.slow
@given(rows=tables(), first_s=st.integers(0, 400), back_s=st.integers(0, 29))
def test_a_clock_set_back_loses_nothing(rows: list[Row], first_s: int, back_s: int) -> None:
    """Lateness and the step back add up: half of the lookback each."""
    on_time = [row for row in rows if row.commit_s - row.at_s <= 30]
    source = Source(on_time)
    emitted, state = run(source, None, first_s)
    late = [Row(1000 + row.id, first_s - back_s + row.id, first_s + 1) for row in on_time]
    source.rows += late
    fresh, _ = run(source, state, 1000)
    assert Counter(emitted + fresh) == Counter(row.id for row in on_time + late)


def test_a_transaction_that_commits_later_than_the_lookback_is_outside_the_promise() -> None:
    source = Source([Row(1, 100, 100)])
    _, state = run(source, None, 100)
    source.rows.append(Row(2, 39, 101))
    assert run(source, state, 200)[0] == []


def test_ties_across_a_page_and_a_run_border_arrive_once() -> None:
    source = Source([Row(number, 100, 100) for number in range(10)])
    first, state = run(source, None, 100, page_rows=3, stop_after=2)
    second, state = run(source, state, 100)
    source.rows += [Row(number, 100, 101) for number in range(10, 15)]
    third, _ = run(source, state, 101)
    assert sorted(first) + sorted(second) + sorted(third) == list(range(15))


def test_an_update_in_place_arrives_again() -> None:
    schema = pa.schema([AT, ("text", pa.string())])
    before = pa.record_batch([pa.array([START], AT.type), ["before"]], schema=schema)
    after = pa.record_batch([pa.array([START], AT.type), ["after"]], schema=schema)
    first = Cursor(None, AT, snapshot_at=START)
    first.take(before)
    second = Cursor(first.state(final=True), AT, snapshot_at=START)
    assert second.take(before).num_rows == 0
    assert second.take(after).column("text").to_pylist() == ["after"]


def test_equal_rows_of_a_table_without_a_key_are_counted() -> None:
    two = pa.record_batch([pa.array([START] * 2, AT.type)], schema=pa.schema([AT]))
    three = pa.record_batch([pa.array([START] * 3, AT.type)], schema=pa.schema([AT]))
    first = Cursor(None, AT, snapshot_at=START)
    assert first.take(two).num_rows == 2
    second = Cursor(first.state(final=True), AT, snapshot_at=START)
    assert second.take(three).num_rows == 1
    assert second.dropped == 2


def test_a_row_without_a_cursor_value_is_always_new() -> None:
    batch = pa.record_batch([pa.array([None, START], AT.type)], schema=pa.schema([AT]))
    first = Cursor(None, AT, snapshot_at=START)
    first.take(batch)
    second = Cursor(first.state(final=True), AT, snapshot_at=START)
    assert second.take(batch).column("at").to_pylist() == [None]


def test_an_unordered_read_stays_where_it_began_until_its_end() -> None:
    cursor = Cursor(None, AT, snapshot_at=START + timedelta(seconds=100), lookback_s=LOOKBACK_S)
    cursor.take(batch_of([Row(1, 50, 0), Row(2, 10, 0)]))
    assert cursor.state().keys().isdisjoint({"high", "top", "seen"})
    assert cursor.state(final=True)["high"] == (START.timestamp() + 50) * 1_000_000


def test_high_never_falls() -> None:
    cursor = Cursor(None, AT, snapshot_at=START + timedelta(seconds=100), lookback_s=LOOKBACK_S)
    cursor.take(batch_of([Row(1, 100, 0)]))
    known = cursor.state(final=True)
    again = Cursor(known, AT, snapshot_at=START + timedelta(seconds=90), lookback_s=LOOKBACK_S)
    again.take(batch_of([Row(2, 50, 0)]))
    assert again.state()["high"] == again.state(final=True)["high"] == known["high"]


def many(count: int, first: int = 0) -> pa.RecordBatch:
    return batch_of(Row(first + number, 100, 0) for number in range(count))


def test_a_state_remembers_no_more_than_its_share_and_counts_what_it_may_emit_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cursors, "MAX_SEEN", 100)
    monkeypatch.setattr(cursors, "_MAX_UNHASHED_BYTES", 500)
    snapshot_at = START + timedelta(seconds=100)
    first = Cursor(None, AT, snapshot_at=snapshot_at)
    for at in range(0, 250, 50):
        assert first.take(many(50, at)).num_rows == 50
    state = first.state(final=True)
    assert len(state["seen"]) < 100 * 16 * 1.4
    assert state["whole"] is False
    second = Cursor(state, AT, snapshot_at=snapshot_at)
    assert second.take(many(250)).num_rows == 150
    assert (second.dropped, second.reread) == (100, 150)


def test_the_largest_state_fits_into_a_checkpoint() -> None:
    cursor = Cursor(None, AT, snapshot_at=START + timedelta(seconds=100))
    cursor.take(many(cursors.MAX_SEEN + 1))
    state = cursor.state(final=True)
    assert len(encode_state(state)) < MAX_STATE_BYTES
    assert state["whole"] is False


def test_a_window_that_was_remembered_whole_counts_nothing_as_read_again() -> None:
    cursor = Cursor(None, AT, snapshot_at=START + timedelta(seconds=100))
    cursor.take(many(10))
    second = Cursor(cursor.state(final=True), AT, snapshot_at=START + timedelta(seconds=100))
    assert second.take(many(11)).num_rows == 1
    assert second.reread == 0


@pytest.mark.parametrize(
    ("kind", "values", "snapshot_at", "low"),
    [
        (pa.int64(), [1, 5, 9], None, 9),
        (pa.decimal128(20, 2), [Decimal("9.00"), Decimal("10.00")], None, Decimal("10.00")),
        (pa.string(), ["a", "b"], None, "b"),
        (pa.date32(), [date(2026, 1, 1), date(2026, 1, 5)], date(2026, 1, 9), date(2026, 1, 4)),
        (pa.timestamp("s"), [datetime(2026, 1, 1)], datetime(2026, 1, 9), datetime(2025, 12, 31, 23, 50)),  # noqa: DTZ001
        (pa.timestamp("ms", "UTC"), [START], START, START - timedelta(seconds=600)),
        (pa.timestamp("us", "UTC"), [START + timedelta(days=9)], START, START - timedelta(seconds=600)),
    ],
    ids=["int", "decimal", "text", "date", "naive", "aware", "future"],
)
def test_the_next_read_begins_at_the_right_value(
    kind: pa.DataType, values: list[Any], snapshot_at: Any, low: Any
) -> None:
    column = pa.field("c", kind)
    batch = pa.record_batch([pa.array(values, kind)], schema=pa.schema([column]))
    first = Cursor(None, column, snapshot_at=snapshot_at)
    assert first.low is None
    first.take(batch)
    second = Cursor(json.loads(json.dumps(first.state(final=True))), column, snapshot_at=snapshot_at)
    assert second.low == low
    assert second.take(batch.slice(batch.num_rows - 1)).num_rows == 0


def test_a_time_cursor_needs_its_snapshot() -> None:
    with pytest.raises(ValueError, match="snapshot"):
        Cursor(None, AT)


@pytest.mark.parametrize("kind", [pa.float64(), pa.bool_(), pa.list_(pa.int8())], ids=str)
def test_a_column_without_a_usable_order_is_no_cursor(kind: pa.DataType) -> None:
    with pytest.raises(Configuration, match="cannot be a cursor"):
        Cursor(None, pa.field("c", kind))


@pytest.mark.parametrize(
    ("values", "now", "told"),
    [
        ([1004], pa.field("version", pa.int64()), "was 'id' (int64) and is 'version' (int64) now"),
        ([None], pa.field("version", pa.int64()), "was 'id' (int64) and is 'version' (int64) now"),
        ([1004], pa.field("id", pa.int32()), "was 'id' (int64) and is 'id' (int32) now"),
    ],
    ids=["column", "column-of-nulls", "type"],
)
def test_a_state_of_another_cursor_is_refused(values: list[int | None], now: pa.Field, told: str) -> None:
    column = pa.field("id", pa.int64())
    first = Cursor(None, column)
    first.take(pa.record_batch([pa.array(values, column.type)], schema=pa.schema([column])))
    with pytest.raises(Configuration, match=re.escape(told)) as caught:
        Cursor(json.loads(json.dumps(first.state(final=True))), now)
    assert (caught.value.reason, list(caught.value.fields)) == ("cursor_changed", ["cursor_field"])
    assert "wellhead state reset" in caught.value.hint


def test_the_type_may_change_while_no_row_has_a_value() -> None:
    first = Cursor(None, pa.field("id", pa.int32()))
    assert Cursor(first.state(final=True), pa.field("id", pa.int64())).low is None


def test_an_interrupted_read_is_not_gone_on_with_behind_another_column() -> None:
    first = Cursor(None, pa.field("id", pa.int64()))
    first.take(pa.record_batch([[7, 8]], names=["id"]))
    with pytest.raises(Configuration, match="is 'version'"):
        Cursor(first.state(), pa.field("version", pa.int64()))


@pytest.mark.parametrize(
    ("state", "low"),
    [
        ({"type": "int64", "high": 9, "top": 9, "whole": True, "seen": ""}, 9),
        ({"type": "int64", "high": 9, "top": 9, "whole": True, "seen": "", "first": True}, 9),
        ({"first": True}, None),
        ({}, None),
    ],
    ids=["whole", "interrupted", "interrupted-before-any-value", "no-values"],
)
def test_a_state_that_names_no_column_is_one_of_an_older_release_and_gone_on_from(
    state: dict[str, Any], low: int | None
) -> None:
    assert Cursor(state, pa.field("id", pa.int64())).low == low


def test_what_older_releases_read_of_a_state_is_where_they_look_for_it() -> None:
    """They take no notice of other keys, so that a release may be rolled back."""
    column = pa.field("id", pa.int64())
    cursor = Cursor(None, column)
    cursor.take(pa.record_batch([[8, 9]], names=["id"]))
    assert cursor.state(final=True) == {
        "type": "int64",
        "column": "id",
        "high": 9,
        "top": 9,
        "whole": True,
        "seen": "xxw+V9hYVDsVBktl2MfoyA==",
    }


values = (
    st.none()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
    | st.sampled_from(["~", "\x1f", "", "1", "1:"])
)


@pytest.mark.slow
@settings(max_examples=300)
@given(rows=st.lists(st.tuples(values, values, st.none() | st.integers(-5, 5)), min_size=1, max_size=20))
def test_rows_have_one_hash_exactly_where_they_are_equal(rows: list[tuple[str | None, str | None, int | None]]) -> None:
    schema = pa.schema([("a", pa.string()), ("b", pa.string()), ("n", pa.int64())])
    batch = pa.record_batch(
        [pa.array(column, field.type) for column, field in zip(zip(*rows, strict=True), schema, strict=True)],
        schema=schema,
    )
    hashes = row_hashes(batch)
    assert {len(each) for each in hashes} == {16}
    assert len(set(hashes)) == len(set(rows))


def test_every_type_can_be_hashed() -> None:
    moment = datetime(2026, 1, 1)  # noqa: DTZ001
    arrays = [
        pa.array([None, 1.5]),
        pa.array([None, True]),
        pa.array([None, Decimal("1.10")]),
        pa.array([None, moment], pa.timestamp("ns")),
        pa.array([None, moment], pa.timestamp("us", "Europe/Berlin")),
        pa.array([None, moment.date()]),
        pa.array([None, moment.time()]),
        pa.array([None, timedelta(seconds=1)]),
        pa.array([None, b"\xff"]),
        pa.array([None, b"ab"], pa.binary(2)),
        pa.array([None, [[1], None]]),
        pa.array([None, {"x": "é"}]),
    ]
    batch = pa.record_batch(arrays, names=[str(index) for index in range(len(arrays))])
    assert len(set(row_hashes(batch))) == 2


def test_a_hash_does_not_depend_on_how_rows_are_batched() -> None:
    batch = many(10)
    assert row_hashes(batch)[3:5] == row_hashes(batch.slice(3, 2))
