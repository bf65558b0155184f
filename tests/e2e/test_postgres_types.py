"""Every type of PostgreSQL through a whole run: Bronze equals what psql prints, or says why it does not."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.lender import Lender
from tests.postgres_types import PREPARE, TYPES, UNREPRESENTABLE, as_cells, cells_of, create
from tests.project import Project

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

#: Both streams travel in one run, which is what takes long.
STREAMS = ["public.everything", "public.strange"]


@pytest.fixture(scope="module")
def ran(shipped: Project, lender: Lender, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that has read a table of every type, and one with a value in each row that Arrow cannot hold."""
    project = shipped.copy(tmp_path_factory.mktemp("types"))
    lender.create("types", PREPARE)
    create(lambda sql: lender.psql("types", sql), "everything")
    columns = ", ".join(f"c{at} {kind}" for at, (kind, _, _) in enumerate(UNREPRESENTABLE))
    lender.psql("types", f"create table strange (id int primary key, {columns}, fine text)")
    for at, (_, value, _) in enumerate(UNREPRESENTABLE):
        lender.psql("types", f"insert into strange (id, c{at}, fine) values ({2 * at}, {value}, 'bad')")
        lender.psql("types", f"insert into strange (id, fine) values ({2 * at + 1}, 'good')")
    lender.introduce(project, "types")
    lender.connect(project, "types", "types", STREAMS)
    outcome = project.run("types")
    assert outcome.exit_code == 0, outcome.stderr
    return project


def _bronze(project: Project, stream: str) -> pa.Table:
    """Return the table as plain Arrow reads its files, in order of id."""
    files: list[Path] = sorted(project.table("types", stream).glob("*.parquet"))
    return pa.concat_tables([pq.ParquetFile(file).read() for file in files]).sort_by("id")


def test_bronze_equals_psql_cell_by_cell(ran: Project, lender: Lender) -> None:
    oracle = cells_of(lambda *args, **options: lender.psql("types", *args, **options), "everything")
    cells = as_cells(_bronze(ran, "public.everything"), oracle)
    kinds = ["id", *TYPES]
    assert len(kinds) > 40
    assert len(cells) == len(oracle) == 7
    differing = [
        (kinds[at], row, text and text[:80], cell and cell[:80])
        for row, (texts, got) in enumerate(zip(oracle, cells, strict=True))
        for at, (text, cell) in enumerate(zip(texts, got, strict=True))
        if text != cell
    ]
    assert differing == []


def test_an_inexact_type_says_in_the_file_what_it_was(ran: Project) -> None:
    schema = _bronze(ran, "public.everything").schema
    said = {
        kind: (schema.field(f"c{at}").metadata or {}).get(b"wellhead.source_type", b"").decode()
        for at, kind in enumerate(TYPES)
    }
    assert said["interval"] == "interval"
    assert said["integer[]"] == "integer[]"
    assert said["numeric(50,3)"] == "numeric(50,3)"
    assert said["bigint"] == said["text"] == said["numeric(10,2)"] == ""


def test_what_cannot_be_held_is_a_dead_letter_with_its_column_and_text(ran: Project) -> None:
    letters = json.loads(ran.must("deadletters", "list", "types", "--json").stdout)
    told = {(each["rejected"]["key_json"], each["rejected"]["column"], each["rejected"]["text"]) for each in letters}
    assert told == {(f'{{"id": "{2 * at}"}}', f"c{at}", text) for at, (_, _, text) in enumerate(UNREPRESENTABLE)}
    assert {each["rejected"]["reason"] for each in letters} == {"out_of_range"}
    assert _bronze(ran, "public.strange").column("id").to_pylist() == [2 * at + 1 for at in range(len(UNREPRESENTABLE))]
