"""Two readings laid beside each other, against what plain Python says of the same rows."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wellhead.compat import readings
from wellhead.compat.readings import MASKED, Comparison, Reading, SchemaChange, Terms
from wellhead.errors import ConfigurationError

SCHEMA = pa.schema([pa.field("id", pa.int64()), pa.field("text", pa.string()), pa.field("number", pa.float64())])
#: Small enough that every table has as many shares as this test has patience for.
ONE_BY_ONE = 16
KEYED = Terms(key=("id",))

Row = tuple[int | None, str | None, float | None]


def reading(folder: Path, name: str, *tables: pa.Table, **traits: str) -> Reading:
    files = []
    for number, table in enumerate(tables):
        files.append(folder / f"{name}-{number}.parquet")
        pq.write_table(table, files[-1])
    return Reading(tables[0].schema, tuple(files), traits)


def table(rows: list[Row], schema: pa.Schema = SCHEMA) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema)


def compare(folder: Path, one: pa.Table, other: pa.Table, terms: Terms = KEYED, share_bytes: int = 2**26) -> Comparison:
    return readings.compare(
        reading(folder, "one", one), reading(folder, "other", other), terms, share_bytes=share_bytes
    )


rows = st.lists(
    st.tuples(
        st.none() | st.integers(0, 6),
        st.none() | st.sampled_from(["", "a", "b"]),
        st.none() | st.sampled_from([0.0, 1.5, float("nan")]),
    ),
    max_size=12,
)


def _same(row: Sequence[Any]) -> tuple[Any, ...]:
    """Return a row that equals itself: in Python nan does not."""
    return tuple("nan" if value != value else value for value in row)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(one=rows, other=rows, share_bytes=st.sampled_from([ONE_BY_ONE, 200, 2**26]))
def test_rows_are_matched_by_key_whatever_their_order_and_number(
    one: list[Row], other: list[Row], share_bytes: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = compare(Path(folder), table(one), table(list(reversed(other))), share_bytes=share_bytes)
    mine, others = (
        {key: Counter(_same(r[1:]) for r in side if r[0] == key) for key, *_ in side} for side in (one, other)
    )
    both = set(mine) & set(others)
    assert found.rows == (len(one), len(other))
    assert found.present_only == len(set(mine) - both)
    assert found.candidate_only == len(set(others) - both)
    assert found.changed == sum(mine[key] != others[key] for key in both)
    assert found.repeated == tuple(sum(c.total() > 1 for c in side.values()) for side in (mine, others))
    single = [key for key in both if mine[key].total() == others[key].total() == 1]
    pairs = [(next(iter(mine[key])), next(iter(others[key]))) for key in single]
    expected = {name: sum(a[at] != b[at] for a, b in pairs) for at, name in enumerate(SCHEMA.names[1:])}
    assert found.columns == {name: count for name, count in expected.items() if count}
    assert found.is_equal == (mine == others)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(one=rows, other=rows, share_bytes=st.sampled_from([ONE_BY_ONE, 200, 2**26]))
def test_without_a_key_rows_are_matched_by_what_they_hold(one: list[Row], other: list[Row], share_bytes: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = compare(Path(folder), table(one), table(list(reversed(other))), Terms(), share_bytes)
    mine, others = (Counter(map(_same, side)) for side in (one, other))
    assert not found.by_key
    assert found.present_only == (mine - others).total()
    assert found.candidate_only == (others - mine).total()
    assert found.is_equal == (mine == others)
    shown = Counter(example.kind for example in found.examples)
    assert shown["present_only"] == min(5, len(mine - others))


def test_the_whole_row_is_shown_where_there_is_no_key(tmp_path: Path) -> None:
    found = compare(tmp_path, table([(1, "a", 0.5), (2, "b", None)]), table([(1, "a", 0.5)]), Terms())
    (example,) = found.examples
    assert example.columns == {"id": (2, None), "text": ("b", None), "number": (None, None)}


def test_columns_that_came_went_or_changed_their_type_are_told(tmp_path: Path) -> None:
    one = pa.table({"id": pa.array([1], pa.int32()), "gone": [1], "kept": ["x"]})
    other = pa.table({"id": pa.array([1], pa.int64()), "kept": ["x"], "new": [2.0]})
    found = compare(tmp_path, one, other)
    assert found.schema == (
        SchemaChange("id", "int32", "int64"),
        SchemaChange("gone", "int64", None),
        SchemaChange("new", None, "double"),
    )
    assert (found.changed, found.present_only, found.candidate_only) == (0, 0, 0)
    assert not found.is_equal
    assert compare(tmp_path, one, other, Terms(("id",), frozenset({"id", "gone", "new"}))).is_equal


def test_a_column_that_may_be_null_now_is_told(tmp_path: Path) -> None:
    never = pa.table({"id": [1]}, pa.schema([pa.field("id", pa.int64(), nullable=False)]))
    assert compare(tmp_path, never, pa.table({"id": [1]})).schema == (SchemaChange("id", "int64, never null", "int64"),)


def test_another_key_is_a_difference_of_the_schema(tmp_path: Path) -> None:
    rows_of_one = table([(1, "a", 0.0)])
    one = reading(tmp_path, "one", rows_of_one, key="id")
    other = reading(tmp_path, "other", rows_of_one, key="id, text")
    assert readings.compare(one, other, KEYED).schema == (SchemaChange("key", "id", "id, text"),)


@pytest.mark.parametrize(
    ("was", "now", "differs"),
    [
        (pa.array([1], pa.int32()), pa.array([1], pa.int64()), 0),
        (pa.array([1], pa.uint64()), pa.array([2], pa.int64()), 1),
        (pa.array([1.5], pa.float32()), pa.array([1.5], pa.float64()), 0),
        (pa.array([Decimal("1.50")]), pa.array([Decimal("1.500")]), 0),
        (pa.array([1500], pa.timestamp("us")), pa.array([1], pa.timestamp("ms")), 1),
        (pa.array(["a"]).dictionary_encode(), pa.array(["a"]), 0),
        (pa.array([[1, None]]), pa.array([[1, 2]]), 1),
        (pa.array([{"a": [1]}]), pa.array([{"a": [1]}]), 0),
        (pa.array([b"\x00\xff"]), pa.array([b"\x00\xfe"]), 1),
        (pa.nulls(1), pa.array(["a"]), 1),
        (pa.array([float("nan")]), pa.array([float("nan")]), 0),
    ],
    ids=str,
)
def test_values_are_compared_in_a_type_that_holds_both(tmp_path: Path, was: Any, now: Any, differs: int) -> None:
    found = compare(tmp_path, pa.table({"id": [1], "value": was}), pa.table({"id": [1], "value": now}))
    assert (found.changed, found.uncompared) == (differs, ())


@pytest.mark.parametrize(
    ("was", "now"),
    [
        (pa.array([1]), pa.array(["1"])),
        (pa.array([1]), pa.array([1.0])),
        (pa.array([0], pa.timestamp("us")), pa.array([0], pa.timestamp("us", "UTC"))),
        (pa.array([Decimal("1.5")], pa.decimal256(50, 1)), pa.array([Decimal("1.5")], pa.decimal256(50, 1))),
    ],
    ids=str,
)
def test_what_cannot_be_compared_is_named_and_keeps_nothing_else_from_it(tmp_path: Path, was: Any, now: Any) -> None:
    one = pa.table({"id": [1], "value": was, "other": ["a"]})
    found = compare(tmp_path, one, pa.table({"id": [1], "value": now, "other": ["b"]}))
    assert (found.uncompared, found.columns) == (("value",), {"other": 1})


def test_names_of_any_kind_do_not_meet_our_own(tmp_path: Path) -> None:
    names = ["^id$", "rows", "rows:b", "digest", "new", "c0", "c1", "hash0", "a b", "*"]
    one = pa.table({name: [1, 2] for name in names})
    other = one.set_column(2, "rows:b", pa.array([1, 3]))
    for terms in (Terms(key=("^id$",)), Terms()):
        assert compare(tmp_path, one, one, terms).is_equal
        assert not compare(tmp_path, one, other, terms).is_equal
    assert compare(tmp_path, one, other, Terms(key=("^id$",))).columns == {"rows:b": 1}


def test_a_column_that_a_part_of_the_files_lacks_is_null_there(tmp_path: Path) -> None:
    early, late = pa.table({"id": [1]}), pa.table({"id": [2], "added": ["x"]})
    one = reading(tmp_path, "one", late, early)
    other = reading(tmp_path, "other", pa.table({"id": [1, 2], "added": [None, "x"]}))
    assert readings.compare(one, other, KEYED).is_equal


def test_no_file_is_no_row(tmp_path: Path) -> None:
    empty = Reading(SCHEMA, ())
    found = readings.compare(empty, reading(tmp_path, "other", table([(1, "a", 0.0)])), KEYED)
    assert (found.rows, found.candidate_only, found.is_equal) == ((0, 1), 1, False)
    assert readings.compare(empty, empty, KEYED).is_equal
    assert readings.compare(empty, empty, Terms()).is_equal


def test_rows_that_came_while_the_readings_were_made_do_not_count(tmp_path: Path) -> None:
    since = datetime(2026, 1, 2, tzinfo=UTC)
    before, after = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 3, tzinfo=UTC)
    schema = pa.schema([("id", pa.int64()), ("at", pa.timestamp("us", "UTC")), ("value", pa.int64())])
    one = pa.table({"id": [1, 2, 3], "at": [before, before, before], "value": [1, 2, 3]}, schema)
    # Row 2 was changed meanwhile, row 4 is new; row 3 differs and was not touched.
    other = pa.table({"id": [1, 2, 3, 4], "at": [before, after, before, after], "value": [1, 9, 9, 4]}, schema)
    terms = Terms(key=("id",), cursor="at", since=since)
    found = compare(tmp_path, one, other, terms)
    assert (found.rows, found.too_new) == ((3, 4), (0, 2))
    assert (found.present_only, found.candidate_only, found.changed, found.columns) == (0, 0, 1, {"value": 1})
    mine, others = (side.set_column(1, "at", side["at"].cast(pa.timestamp("us"))) for side in (one, other))
    assert compare(tmp_path, mine, others, terms).too_new == (0, 2)


def test_masked_values_are_never_shown_also_where_they_are_the_key(tmp_path: Path) -> None:
    terms = Terms(key=("text",), masked=frozenset({"text", "number"}))
    found = compare(tmp_path, table([(1, "ann@x", 1.0), (2, "bob@x", 2.0)]), table([(3, "ann@x", 4.0)]), terms)
    assert [(example.kind, dict(example.key), dict(example.columns)) for example in found.examples] == [
        ("changed", {"text": MASKED}, {"id": (1, 3), "number": (MASKED, MASKED)}),
        ("present_only", {"text": MASKED}, {}),
    ]


def test_no_more_examples_than_were_asked_for(tmp_path: Path) -> None:
    one = table([(number, "a", 0.0) for number in range(100)])
    found = compare(tmp_path, one, table([(number, "b", 0.0) for number in range(50)]), Terms(("id",), examples=2))
    assert [dict(example.key) for example in found.examples] == [{"id": 0}, {"id": 1}, {"id": 50}, {"id": 51}]
    assert (found.changed, found.present_only) == (50, 50)


def test_a_file_that_cannot_be_read_is_an_error_with_a_mend(tmp_path: Path) -> None:
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"PAR1")
    with pytest.raises(ConfigurationError) as caught:
        readings.compare(Reading(SCHEMA, (broken,)), Reading(SCHEMA, ()), KEYED)
    assert caught.value.code == readings.NOT_COMPARABLE
