from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from wellhead_csv_file.blocks import Block
from wellhead_csv_file.table import Layout, infer, parse
from wellhead_sdk.column_types import column_type


def layout(*wanted: str, delimiter: str = ",", **types: str) -> Layout:
    names = tuple(types)
    kinds = {name: column_type(word) for name, word in types.items()}
    return Layout(names, kinds, wanted or names, delimiter, ("",))


def parsed(data: bytes, shape: Layout) -> tuple[list[dict[str, Any]], list[tuple[int, str, str, str]]]:
    """Rows, and (position, reason, column, text) of each refused record."""
    found = parse(Block(data, 0), shape)
    assert found.rows.schema == shape.schema
    return found.rows.to_pylist(), [(one.position, one.reason, one.column, one.text) for one in found.refused]


def test_every_type_takes_its_text_exactly() -> None:
    shape = layout(
        a="text", b="int", c="float", d="bool", e="date", f="time", g="timestamp", h="timestamptz", i="decimal(30,10)"
    )
    line = b" x ,42,1.5,true,2026-03-01,12:30:00.25,2026-03-01 12:30:00,2026-03-01T12:30:00+02:00,"
    line += b"12345678901234567890.0123456789\n"
    rows, refused = parsed(line, shape)
    assert refused == []
    assert rows == [
        {
            "a": " x ",
            "b": 42,
            "c": 1.5,
            "d": True,
            "e": datetime.date(2026, 3, 1),
            "f": datetime.time(12, 30, 0, 250_000),
            "g": datetime.datetime(2026, 3, 1, 12, 30),  # noqa: DTZ001 - a timestamp without a zone
            "h": datetime.datetime(2026, 3, 1, 10, 30, tzinfo=datetime.UTC),
            "i": Decimal("12345678901234567890.0123456789"),
        }
    ]


def test_nothing_is_null_and_a_quoted_nothing_is_an_empty_text() -> None:
    rows, _ = parsed(b',1\n"",2\nNULL,3\n', layout(a="text", b="int"))
    assert [row["a"] for row in rows] == [None, "", "NULL"]


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("int", "1.5"),
        ("int", "9223372036854775808"),
        ("int", "x"),
        ("bool", "maybe"),
        ("date", "2026-02-30"),
        ("timestamp", "2026-03-01T12:00:00.1234567"),
        ("timestamptz", "2026-03-01T12:00:00"),
        ("decimal(4,2)", "1.234"),
        ("decimal(4,2)", "123.45"),
    ],
)
def test_a_field_that_its_type_cannot_hold_sets_the_record_aside_with_column_and_text(word: str, text: str) -> None:
    shape = layout(id="int", value=word, last="text")
    rows, refused = parsed(f"1,,a\n2,{text},b\n3,,c\n".encode(), shape)
    assert [row["id"] for row in rows] == [1, 3]
    assert refused == [(1, "unrepresentable", "value", text)]


def test_records_of_the_wrong_width_and_bytes_that_are_no_text_are_set_aside_in_place() -> None:
    rows, refused = parsed(b"1,a\n2\n3,b,c\n4,\xff\n\xfe,1,2\n6,d\n", layout(a="int", b="text"))
    assert [row["a"] for row in rows] == [1, 6]
    assert refused == [
        (1, "malformed", "", "1 field where 2 are expected"),
        (2, "malformed", "", "3 fields where 2 are expected"),
        (3, "unrepresentable", "b", "\\xff"),
        (4, "malformed", "", "3 fields where 2 are expected"),
    ]


def test_many_bad_records_among_many_good_ones_cost_only_themselves() -> None:
    good = [number for number in range(5000) if number % 97]
    data = b"".join(b"%d,%d\n" % (number, number) if number % 97 else b"%d,x\n" % number for number in range(5000))
    rows, refused = parsed(data, layout(a="int", b="int"))
    assert [row["a"] for row in rows] == good
    assert [position for position, *_ in refused] == list(range(0, 5000, 97))


def test_every_record_of_a_block_is_counted_once_and_keeps_its_bytes() -> None:
    data = b'1,"a\nb"\n2,"c ""d"""\nx,"e\nf"\n'
    found = parse(Block(data, 77), layout(a="int", b="text"))
    assert (found.rows.num_rows, found.end) == (2, 77)
    assert [one.record for one in found.refused] == [b'x,"e\nf"\n']


@pytest.mark.parametrize("wanted", [(), ("a",)])
@pytest.mark.parametrize(
    "record",
    [b'1,"open\n', b'1,"open\r\n', b'1,"open""\n', b'1,"open\n""\n', b'1,"open', b'1,"open\r', b'1,"open""', b'1,"'],
)
def test_a_quote_that_is_never_closed_swallows_nothing(record: bytes, wanted: tuple[str, ...]) -> None:
    rows, refused = parsed(record, layout(*wanted, a="int", b="text"))
    assert rows == []
    assert refused == [(0, "malformed", "", "a quote is opened and never closed")]


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("int", "5"),
        ("float", "1.5"),
        ("bool", "true"),
        ("date", "2026-03-01"),
        ("time", "12:30:00"),
        ("timestamp", "2026-03-01 12:00:00"),
        ("timestamptz", "2026-03-01T12:00:00Z"),
        ("decimal(4,2)", "1.25"),
    ],
)
def test_a_file_cut_off_within_quotes_loses_no_more_than_its_last_record(word: str, text: str) -> None:
    found = parse(Block(f'1,"{text}"\n2,"{text}'.encode(), 0), layout(a="int", b=word))
    assert found.rows.column("a").to_pylist() == [1]
    assert [(one.position, one.record) for one in found.refused] == [(1, f'2,"{text}'.encode())]


@pytest.mark.parametrize("record", [b'1,"a"', b'1,"a"""', b"1,a", b'1,""', b'1,a"', b'1,"a"\r'])
def test_a_last_record_without_a_line_end_is_a_record(record: bytes) -> None:
    found = parse(Block(b"0,x\n" + record, 0), layout(a="int", b="text"))
    assert found.rows.column("a").to_pylist() == [0, 1]
    assert found.refused == ()


def test_a_quote_within_an_unquoted_field_is_a_character() -> None:
    rows, refused = parsed(b'1,12" pipe\n', layout(a="int", b="text"))
    assert (rows, refused) == ([{"a": 1, "b": '12" pipe'}], [])


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_a_quoted_field_may_end_in_a_line_end(end: bytes) -> None:
    rows, refused = parsed(b'1,"x\n"' + end, layout(a="int", b="text"))
    assert (rows, refused) == ([{"a": 1, "b": "x\n"}], [])


def test_a_quoted_field_may_end_in_a_line_end_where_it_is_the_only_one() -> None:
    rows, refused = parsed(b'"x\n"\n', layout(a="text"))
    assert (rows, refused) == ([{"a": "x\n"}], [])


def test_unwanted_columns_are_neither_converted_nor_judged() -> None:
    rows, refused = parsed(b"1,x,2\n", layout("c", "a", a="int", b="int", c="int"))
    assert (rows, refused) == ([{"c": 2, "a": 1}], [])


def test_a_delimiter_of_ones_own_works_in_refusals_too() -> None:
    rows, refused = parsed(b"1\tx,y\n2\n", layout(delimiter="\t", a="int", b="text"))
    assert rows == [{"a": 1, "b": "x,y"}]
    assert refused == [(1, "malformed", "", "1 field where 2 are expected")]


def test_inference_says_what_the_sample_suggests_and_text_where_it_suggests_nothing() -> None:
    names = ("i", "f", "b", "d", "t", "z", "s", "n", "x")
    shape = Layout(names, {name: pa.string() for name in names}, names, ",", ("",))
    line = b"1,1.5,true,2026-03-01,2026-03-01 12:00:00,2026-03-01T12:00:00Z,x,,\xff\n"
    assert infer(line * 2, shape) == {
        "i": pa.int64(),
        "f": pa.float64(),
        "b": pa.bool_(),
        "d": pa.date32(),
        "t": pa.timestamp("us"),
        "z": pa.timestamp("us", "UTC"),
        "s": pa.string(),
        "n": pa.string(),
        "x": pa.string(),
    }
    assert set(infer(b"1,2\n", shape).values()) == {pa.string()}


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (("9223372036854775807", "-9223372036854775808"), pa.int64()),
        (("9223372036854775808",), pa.string()),
        (("-9223372036854775809",), pa.string()),
        (("1", "12345678901234567890"), pa.string()),
        ((" 12345678901234567890 ",), pa.string()),
        (("", "00012345678901234567890"), pa.string()),
        (("1.5", "12345678901234567890"), pa.string()),
        (("1.5", "9007199254740993"), pa.string()),
        (("1.5", "999999999999999"), pa.float64()),
        (("1.5", "0000000000000000001"), pa.float64()),
        (("1e300",), pa.float64()),
    ],
)
def test_no_integer_is_inferred_as_a_float_that_would_alter_it(texts: tuple[str, ...], kind: pa.DataType) -> None:
    shape = layout(n="text", other="text")
    sample = "".join(f"{text},x\n" for text in texts).encode()
    assert infer(sample, shape) == {"n": kind, "other": pa.string()}
