"""Every value equals what psql prints, or is a dead letter; psql is the only judge."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from tests.parts import Postgres as Server
from tests.postgres_source import Source, Tape, source
from tests.postgres_types import PREPARE, TYPES, UNREPRESENTABLE, as_cells, cells_of, create

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def database(postgres: Server) -> Iterator[Source]:
    with source(postgres, "types") as lent:
        lent.psql(PREPARE)
        yield lent


def _cells(tape: Tape, oracle: list[list[str | None]]) -> list[list[str | None]]:
    return as_cells(pa.Table.from_batches(tape.batches), oracle)


def test_every_type_equals_psql_cell_by_cell(database: Source) -> None:
    create(database.psql, "everything")
    assert len(TYPES) >= 40
    oracle = cells_of(database.psql, "everything")
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
    create(database.psql, "viewed")
    database.psql("create view the_view as select * from viewed")
    oracle = cells_of(database.psql, "viewed")
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
    oracle = {int(key or 0): Decimal(text or 0) for key, text in cells_of(database.psql, "decimals")}
    rows: list[dict[str, Any]] = database.full("public.decimals").rows()
    assert {row["id"]: row["v"] for row in rows} == oracle
