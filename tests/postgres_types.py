"""Values of every PostgreSQL type, those that have no place in Arrow, and what psql prints for them.

psql is the judge: an Arrow value is printed as psql would print it, by code that shares nothing with the connector.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pyarrow as pa

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


def as_psql(value: pa.Scalar, text: str) -> str | None:
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


def cells_of(psql: Callable[..., str], table: str) -> list[list[str | None]]:
    """What psql prints for the table, in order of id; unit and record separators of ASCII keep every text apart."""
    options = ("--tuples-only", "--no-align", "--field-separator=\x1f", "--record-separator=\x1e", "--pset=null=\x1a")
    printed = psql(f"set timezone to 'UTC'; select * from {table} order by id", options=options)
    rows = [row.split("\x1f") for row in printed.removesuffix("\n").removesuffix("\x1e").split("\x1e")]
    return [[None if cell == "\x1a" else cell for cell in row] for row in rows]


def as_cells(table: pa.Table, oracle: list[list[str | None]]) -> list[list[str | None]]:
    """Print the first columns of an Arrow table as psql would; ``oracle`` is the same table by psql."""
    table = table.combine_chunks()
    return [
        [as_psql(table.column(at)[row], str(text)) for at, text in enumerate(texts)] for row, texts in enumerate(oracle)
    ]


def create(psql: Callable[[str], str], table: str, key: str = "primary key") -> None:
    """Make a table with a column of each type, in which every row takes the next value of each."""
    columns = ", ".join(f"c{at} {kind}" for at, kind in enumerate(TYPES))
    psql(f"create table {table} (id int {key}, {columns})")
    for row in range(1 + max(map(len, TYPES.values()))):
        values = [f"({values[row]})::{kind}" if row < len(values) else "null" for kind, values in TYPES.items()]
        psql(f"insert into {table} values ({row}, {', '.join(values)})")
