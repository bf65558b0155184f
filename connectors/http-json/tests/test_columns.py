from __future__ import annotations

import datetime
import json
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wellhead_http_json.columns import Refused, convert, json_text
from wellhead_sdk.column_types import column_type


def converted(records: list[Any], **declared: str) -> tuple[list[dict[str, Any]], list[Refused]]:
    schema = pa.schema([(name, column_type(word)) for name, word in declared.items()])
    rows, refused = convert(records, schema, declared, ["id"])
    assert rows.schema == schema
    return rows.to_pylist(), refused


def test_every_type_takes_its_json_exactly() -> None:
    text = """[{"a": "x", "b": 9007199254740993, "c": 0.1, "d": true, "e": "2026-03-01", "f": "12:30:00",
        "g": "2026-03-01T12:30:00", "h": "2026-03-01T12:30:00+02:00", "i": 12345678901234567890.0123456789}, {}]"""
    rows, refused = converted(
        json.loads(text, parse_float=Decimal),
        a="text",
        b="int",
        c="float",
        d="bool",
        e="date",
        f="time",
        g="timestamp",
        h="timestamptz",
        i="decimal(30,10)",
    )
    assert refused == []
    assert rows[0] == {
        "a": "x",
        "b": 9007199254740993,
        "c": 0.1,
        "d": True,
        "e": datetime.date(2026, 3, 1),
        "f": datetime.time(12, 30),
        "g": datetime.datetime(2026, 3, 1, 12, 30),  # noqa: DTZ001 - a timestamp without a zone
        "h": datetime.datetime(2026, 3, 1, 10, 30, tzinfo=datetime.UTC),
        "i": Decimal("12345678901234567890.0123456789"),
    }
    assert set(rows[1].values()) == {None}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("int", Decimal("1.5")),
        ("int", Decimal("1.0")),
        ("int", True),
        ("int", "1"),
        ("int", 2**63),
        ("float", True),
        ("float", "1.5"),
        ("float", Decimal("1E+999")),
        ("bool", 1),
        ("bool", "true"),
        ("decimal(4,2)", Decimal("1.234")),
        ("decimal(4,2)", Decimal("123.45")),
        ("decimal(4,2)", "1.5"),
        ("date", "2026-02-30"),
        ("date", 20260301),
        ("timestamptz", "2026-03-01T12:00:00"),
        ("timestamptz", 1772366400),
        ("time", "12:30:00.1234567"),
        ("time", "12:30:00+02:00"),
        ("time", "25:00"),
        ("timestamp", "2026-03-01T12:00:00Z"),
        ("text", "half a surrogate \ud800"),
        ("int", [1]),
        ("int", {}),
    ],
)
def test_a_value_that_its_type_cannot_hold_exactly_sets_the_record_aside(word: str, value: Any) -> None:
    rows, (refused,) = converted([{"id": 1}, {"id": 2, "v": value}, {"id": 3}], id="int", v=word)
    assert [row["id"] for row in rows] == [1, 3]
    assert (refused.reason, refused.column, refused.key) == ("unrepresentable", "v", {"id": 2})
    assert refused.text == json_text(value)


def test_text_holds_any_json_as_it_was_written() -> None:
    value = json.loads('{"n": 1.10, "l": [1, null, true, "é"]}', parse_float=Decimal)
    rows, _ = converted([{"a": value}, {"a": Decimal("1.10")}, {"a": True}, {"a": 7}], a="text")
    assert [row["a"] for row in rows] == ['{"n":1.10,"l":[1,null,true,"é"]}', "1.10", "true", "7"]


def test_several_faults_in_one_page_cost_each_record_once() -> None:
    records = [{"id": "x", "v": "y"}, {"id": 1, "v": "y"}, {"id": 2, "v": 2}]
    rows, refused = converted(records, id="int", v="int")
    assert rows == [{"id": 2, "v": 2}]
    assert [(one.column, one.text) for one in refused] == [("id", '"x"'), ("v", '"y"')]


def test_elements_that_are_no_objects_are_set_aside() -> None:
    rows, refused = converted([{"id": 1}, 5, None, [1], Decimal("1.5")], id="int")
    assert rows == [{"id": 1}]
    assert [(one.reason, one.record) for one in refused] == [
        ("malformed", b"5"),
        ("malformed", b"null"),
        ("malformed", b"[1]"),
        ("malformed", b"1.5"),
    ]


def test_fields_nobody_declared_are_kept_as_json() -> None:
    schema = pa.schema([("id", pa.int64()), ("undeclared", pa.string())])
    rows, _ = convert([{"id": 1, "x": Decimal("1.50"), "y": {}}, {"id": 2}], schema, {"id": "int"}, [])
    assert rows.to_pylist() == [{"id": 1, "undeclared": '{"x":1.50,"y":{}}'}, {"id": 2, "undeclared": None}]


def test_without_declared_columns_the_record_itself_is_the_column() -> None:
    rows, _ = convert([{"a": Decimal("0.10")}, {}], pa.schema([("record", pa.string())]), {}, [])
    assert rows.to_pylist() == [{"record": '{"a":0.10}'}, {"record": "{}"}]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_json_text_read_again_is_the_same_value(value: Any) -> None:
    again = json.loads(json_text(value), parse_float=Decimal)
    assert json_text(again) == json_text(json.loads(json_text(again), parse_float=Decimal))
    assert again == value
