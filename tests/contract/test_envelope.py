"""The envelope and its ids, which readers of Bronze and other programs rely on."""

from __future__ import annotations

import pyarrow as pa
import pytest

from tests.contract import envelope_rows as rows
from tests.golden import Golden
from wellhead.sinks import event_id
from wellhead.sinks.event_id import Identity


@pytest.mark.parametrize("name", ["schema.txt", "event_ids.json", "canonical_key_row_1.hex", "row.json"])
def test_the_golden_files_still_hold(name: str, golden: Golden) -> None:
    golden.check(f"envelope/{name}", rows.golden()[name])


@pytest.mark.parametrize("row", [0, 1, 2])
@pytest.mark.parametrize(("kind", "letter", "key"), [("key", "k", ["id"]), ("content", "c", [])])
def test_ids_are_what_the_page_says(kind: str, letter: str, key: list[str], row: int) -> None:
    found = rows.wrapped(kind).column("_event_id")[row].as_py()
    assert found == rows.expected(letter, key, "r", 10 + row, row)[1]


@pytest.mark.parametrize("row", [0, 1, 2])
def test_canonical_bytes_are_what_the_page_says(row: int) -> None:
    prefix, content = event_id.canonical(Identity(str(rows.STREAM), "key", ("id",)), rows.batch(), None, 0)
    assert prefix + content[row].as_py() == rows.expected("k", ["id"], "r", 0, row)[0]


def test_a_slice_of_a_batch_has_the_ids_of_the_whole() -> None:
    identity = Identity(str(rows.STREAM), "key", ("id",))
    whole = event_id.ids(identity, rows.batch(), None, 0)
    for at in range(3):
        assert event_id.ids(identity, rows.batch().slice(at, 1), None, 0)[0] == whole[at]


def test_operations_are_part_of_the_id() -> None:
    identity = Identity(str(rows.STREAM), "key", ("id",))
    found = event_id.ids(identity, rows.batch(), pa.array(["d", "u", "r"]), 0).to_pylist()
    assert found == [rows.expected("k", ["id"], op, 0, row)[1] for row, op in enumerate("dur")]


def test_widening_a_column_keeps_the_ids() -> None:
    identity = Identity("s", "content")
    narrow = pa.record_batch({"a": pa.array([1, None], pa.int16()), "b": pa.array([1.5, None], pa.float32())})
    wide = pa.record_batch({"b": pa.array([1.5, None], pa.float64()), "a": pa.array([1, None], pa.int64())})
    assert event_id.ids(identity, narrow, None, 0) == event_id.ids(identity, wide, None, 0)


def test_values_cannot_move_from_one_column_to_the_next() -> None:
    identity = Identity("s", "key", ("k",))
    first = pa.record_batch({"k": ["1"], "a": ["xy"], "b": ["z"]})
    second = pa.record_batch({"k": ["1"], "a": ["x"], "b": ["yz"]})
    third = pa.record_batch({"k": ["1"], "a": ["xyz"], "b": pa.array([None], pa.utf8())})
    ids = {event_id.ids(identity, batch, None, 0)[0].as_py() for batch in (first, second, third)}
    assert len(ids) == 3


def test_equal_rows_are_told_apart_by_their_ordinal_where_there_is_no_key() -> None:
    batch = pa.record_batch({"a": ["x", "x"]})
    first, second = event_id.ids(Identity("s", "content"), batch, None, 7).to_pylist()
    assert first != second
    assert event_id.ids(Identity("s", "content"), batch.slice(1), None, 8)[0].as_py() == second


def test_a_position_alone_makes_the_id() -> None:
    ids = rows.wrapped("position").column("_event_id").to_pylist()
    alone = pa.record_batch({"_pos": ["0/1:0", "0/1:1", "0/2:0"]})
    assert event_id.ids(Identity(str(rows.STREAM), "position", ("_pos",)), alone, None, 0).to_pylist() == ids


def test_a_batch_without_rows_has_no_ids() -> None:
    assert event_id.ids(Identity("s", "key", ("id",)), rows.batch().slice(0, 0), None, 0).to_pylist() == []
