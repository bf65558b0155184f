"""Every value equals what psql prints, or is a dead letter; psql is the only judge."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from tests.parts import Postgres as Server
from tests.postgres_source import Source, Tape, source

pytestmark = pytest.mark.real

PREPARE = """
create type mood as enum ('sad', 'ok', 'it''s "fine"');
create type pair as (a int, b text);
create domain short as varchar(5);
create domain money_like as numeric(12, 2) check (value >= 0);
create domain deep as money_like;
"""

#: Column type → values as SQL; every row takes the next value of each column, NULL where it has no more.
TYPES: dict[str, list[str]] = {
    "boolean": ["true", "false"],
    "smallint": ["-32768", "32767"],
    "integer": ["-2147483648", "2147483647"],
    "bigint": ["-9223372036854775808", "9223372036854775807"],
    "oid": ["4294967295", "0"],
    "real": ["'NaN'", "'Infinity'", "1.1", "3.4028235e38", "-0"],
    "double precision": ["'NaN'", "'-Infinity'", "0.1", "1.7976931348623157e308", "5e-324"],
    "numeric": ["'NaN'", "'Infinity'", "1e-30", "123456789012345678901234567890123456789012.5", "0.00"],
    "numeric(10,2)": ["12345678.90", "-0.01", "0"],
    "numeric(38,10)": ["-9999999999999999999999999999.9999999999", "0.0000000001"],
    "numeric(3,5)": ["0.00123", "-0.00999"],
    "numeric(5,-2)": ["1234567", "-100"],
    "numeric(50,3)": ["99999999999999999999999999999999999999999999999.999"],
    "text": ["''", "E'tab\\tnewline\\nback\\\\slash'", "'🐘🇨🇭 é'", "repeat('x', 1048576)", "'NULL'", "'\\N'"],
    "varchar(20)": ["'short'", "'trailing  '"],
    "char(6)": ["'ab'", "''"],
    "name": ["'pg_class'"],
    '"char"': ["'a'", "''"],
    "bytea": ["'\\x00ff5c27'", "''", "decode(repeat('ab', 1000), 'hex')"],
    "uuid": ["'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"],
    "date": ["'0044-03-15 BC'", "'4713-01-01 BC'", "'5874897-12-31'", "'1970-01-01'", "'2024-02-29'"],
    "time": ["'23:59:59.999999'", "'00:00'"],
    "timetz": ["'12:00:00.5+02'", "'24:00:00-03:30'"],
    "timestamp": ["'4713-01-01 00:00:00 BC'", "'294246-12-31 23:59:59.999999'", "'1969-12-31 23:59:59.000001'"],
    "timestamptz": ["'2024-03-31 03:00:00+02'", "'0001-01-01 00:00:00 BC'", "'294246-12-31 23:59:59.999999+00'"],
    "timestamptz(3)": ["'2024-03-31 03:00:00.123456+02'"],
    "interval": ["'1 year 2 months -3 days 04:05:06.789'", "'-00:00:01'"],
    "json": ['\'{"b": 1,  "a": [null, "\\u00e9"]}\'', "'null'"],
    "jsonb": ['\'{"b": 1,  "a": 1.50}\''],
    "xml": ["'<a>&amp;é</a>'"],
    "mood": ["'sad'", "'it''s \"fine\"'"],
    "inet": ["'192.168.0.1'", "'192.168.0.1/24'", "'::1'"],
    "cidr": ["'10.0.0.0/8'", "'2001:db8::/32'"],
    "macaddr": ["'08:00:2b:01:02:03'"],
    "integer[]": ["'{1,NULL,3}'", "'{{1,2},{3,4}}'", "'[2:3]={7,8}'", "'{}'"],
    "text[]": ["array['a,b', 'c\"d', null, 'NULL', '']", "array[['x'],['\\y']]"],
    "numeric[]": ["array[1.50, 'NaN'::numeric]"],
    "int4range": ["'[1,5]'", "'empty'", "'(,3)'"],
    "tstzrange": ["'[2024-01-01 00:00+01, infinity)'"],
    "int8multirange": ["'{[1,3), [5,9)}'"],
    "pair": ["row(1, 'a,\"b')", "row(null, '')"],
    "point": ["'(1.5,-2)'"],
    "bit(5)": ["B'10110'"],
    "varbit": ["B'1'", "B''"],
    "money": ["'-1234.56'"],
    "tsvector": ["'a:1 fat:2 cat:3'"],
    "pg_lsn": ["'16/B374D848'"],
    "short": ["'abc'"],
    "deep": ["12.30", "0"],
    "short[]": ["'{a,b}'"],
}
#: Type, value, and the text a dead letter says.
UNREPRESENTABLE = [
    ("date", "'infinity'", "infinity"),
    ("date", "'-infinity'", "-infinity"),
    ("timestamp", "'infinity'", "infinity"),
    ("timestamp", "'-infinity'", "-infinity"),
    ("timestamp", "'294276-12-31 23:59:59'", "294276-12-31 23:59:59"),
    ("timestamptz", "'infinity'", "infinity"),
    ("timestamptz", "'-infinity'", "-infinity"),
    ("timestamptz", "'294276-12-31 00:00+00'", "294276-12-31 00:00:00+00"),
    ("time", "'24:00'", "24:00:00"),
    ("numeric(10,2)", "'NaN'", "NaN"),
    ("deep", "'NaN'", "NaN"),
]


@pytest.fixture(scope="module")
def database(postgres: Server) -> Iterator[Source]:
    with source(postgres, "types") as lent:
        lent.psql(PREPARE)
        yield lent


def _days(text: str) -> int:
    """Days since 1970 of PostgreSQL's ISO date, by the proleptic Gregorian calendar (Howard Hinnant's algorithm)."""
    found = re.fullmatch(r"(\d+)-(\d\d)-(\d\d)( BC)?", text)
    assert found, text
    year, month, day = int(found[1]), int(found[2]), int(found[3])
    year = 1 - year if found[4] else year
    year -= month <= 2
    era = year // 400
    of_era = year - era * 400
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


def _microseconds(text: str) -> int:
    found = re.fullmatch(r"(?:(\S+) )?(\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?(\+00)?( BC)?", text)
    assert found, text
    date, hour, minute, second, fraction, _, era = found.groups()
    days = _days(date + (era or "")) if date else 0
    seconds = days * 86400 + int(hour) * 3600 + int(minute) * 60 + int(second)
    return seconds * 1_000_000 + int((fraction or "").ljust(6, "0"))


def _as_psql(value: pa.Scalar, text: str) -> str | None:
    """Print an Arrow value as psql would; psql's own ``text`` where it means the same float, date or time."""
    kind = value.type
    if not value.is_valid:
        return None
    if pa.types.is_boolean(kind):
        return "t" if value.as_py() else "f"
    if pa.types.is_floating(kind):
        same = pa.scalar(float(text), pa.float64()).cast(kind, safe=False)
        return text if str(same.as_py()) == str(value.as_py()) else str(value.as_py())
    if pa.types.is_decimal(kind):
        return format(value.as_py(), "f")
    if pa.types.is_binary(kind):
        return f"\\x{value.as_py().hex()}"
    if pa.types.is_date32(kind):
        return text if _days(text) == value.cast(pa.int32()).as_py() else f"{value.cast(pa.int32()).as_py()} days"
    if pa.types.is_timestamp(kind) or pa.types.is_time64(kind):
        micros = value.cast(pa.int64()).as_py()
        return text if _microseconds(text) == micros else f"{micros} us"
    return str(value.as_py())


def _judged(database: Source, table: str) -> list[list[str | None]]:
    """What psql prints for the table, in order of id; unit and record separators of ASCII keep every text apart."""
    options = ("--tuples-only", "--no-align", "--field-separator=\x1f", "--record-separator=\x1e", "--pset=null=\x1a")
    printed = database.psql(f"set timezone to 'UTC'; select * from {table} order by id", options=options)
    rows = [row.split("\x1f") for row in printed.removesuffix("\n").removesuffix("\x1e").split("\x1e")]
    return [[None if cell == "\x1a" else cell for cell in row] for row in rows]


def _cells(tape: Tape, oracle: list[list[str | None]]) -> list[list[str | None]]:
    table = pa.Table.from_batches(tape.batches).combine_chunks()
    return [
        [_as_psql(table.column(at)[row], str(text)) for at, text in enumerate(texts)]
        for row, texts in enumerate(oracle)
    ]


def _create(database: Source, table: str, key: str = "primary key") -> list[str]:
    names = [f"c{at}" for at in range(len(TYPES))]
    columns = ", ".join(f"{name} {kind}" for name, kind in zip(names, TYPES, strict=True))
    database.psql(f"create table {table} (id int {key}, {columns})")
    for row in range(1 + max(map(len, TYPES.values()))):
        values = [f"({values[row]})::{kind}" if row < len(values) else "null" for kind, values in TYPES.items()]
        database.psql(f"insert into {table} values ({row}, {', '.join(values)})")
    return names


def test_every_type_equals_psql_cell_by_cell(database: Source) -> None:
    names = _create(database, "everything")
    assert len(names) >= 40
    oracle = _judged(database, "everything")
    tape = database.full("public.everything")
    assert tape.rejected == []
    cells = _cells(tape, oracle)
    kinds = ["id", *TYPES]
    differing = [
        (kinds[at], row, text and text[:80], cell and cell[:80])
        for row, (texts, got) in enumerate(zip(oracle, cells, strict=True))
        for at, (text, cell) in enumerate(zip(texts, got, strict=True))
        if text != cell
    ]
    assert differing == []


def test_every_type_is_read_so_through_a_view_without_a_key(database: Source) -> None:
    _create(database, "viewed")
    database.psql("create view the_view as select * from viewed")
    oracle = _judged(database, "viewed")
    tape = database.full("public.the_view")
    assert _cells(tape, oracle) == oracle


@pytest.mark.parametrize(("kind", "value", "text"), UNREPRESENTABLE)
def test_what_cannot_be_represented_is_a_dead_letter(database: Source, kind: str, value: str, text: str) -> None:
    database.psql(
        f"drop table if exists bad; create table bad (id int primary key, v {kind}); "
        f"insert into bad values (1, null), (2, {value}), (3, null)"
    )
    tape = database.full("public.bad")
    assert tape.column("id") == [1, 3]
    assert tape.rejected == [
        {
            "record": {"id": "2", "v": text},
            "reason": "out_of_range",
            "key": {"id": "2"},
            "column": "v",
            "text": text,
        }
    ]


def test_a_bad_value_in_a_column_nobody_wants_loses_no_row(database: Source) -> None:
    database.psql("create table half (id int primary key, v date); insert into half values (1, 'infinity')")
    tape = database.full("public.half", columns=("id",))
    assert (tape.column("id"), tape.rejected) == ([1], [])


def test_decimals_are_exact_and_text_says_what_it_was(database: Source) -> None:
    database.psql("create table kinds (id int primary key, a numeric(10,2), b numeric, c int[], d varchar(3), e deep)")
    stream = database.connector.describe(database.session, "public.kinds")
    assert stream is not None
    assert [str(field.type) for field in stream.schema] == [
        "int32",
        "decimal128(10, 2)",
        "string",
        "string",
        "string",
        "decimal128(12, 2)",
    ]
    metadata = {field.name: (field.metadata or {}).get(b"wellhead.source_type") for field in stream.schema}
    assert metadata == {"id": None, "a": None, "b": b"numeric", "c": b"integer[]", "d": None, "e": None}
    assert [field.nullable for field in stream.schema] == [False, True, True, True, True, True]


def test_the_databases_own_settings_do_not_change_what_is_read(postgres: Server) -> None:
    with source(postgres, "odd") as odd:
        odd.psql("create table t (id int primary key, i interval, z timestamptz, b bytea[], d date[], f float8[])")
        odd.psql(
            "insert into t values (1, '1 day 02:00', '2024-01-01 00:00+00', array['\\x00'::bytea], "
            "array['2024-12-31'::date], array[0.1::float8 + 0.2::float8])"
        )
        before = odd.full("public.t").rows()
        odd.psql(
            "alter database odd set datestyle = 'German'; alter database odd set intervalstyle = 'iso_8601'; "
            "alter database odd set timezone = 'Asia/Tokyo'; alter database odd set bytea_output = 'escape'; "
            "alter database odd set extra_float_digits = -5"
        )
        assert odd.full("public.t").rows() == before
    assert before[0]["i"] == "1 day 02:00:00"
    assert before[0]["d"] == "{2024-12-31}"


def test_random_decimals_survive(database: Source) -> None:
    database.psql(
        "create table decimals as select i as id, (random() * power(10, i % 25) * (i % 3 - 1))::numeric(38, 12) as v "
        "from generate_series(1, 5000) i; alter table decimals add primary key (id)"
    )
    oracle = {int(key or 0): Decimal(text or 0) for key, text in _judged(database, "decimals")}
    rows: list[dict[str, Any]] = database.full("public.decimals").rows()
    assert {row["id"]: row["v"] for row in rows} == oracle
