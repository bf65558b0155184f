"""Incremental runs: whatever happens to the source between and during them, each version of a row arrives.

The judge is a trigger in the source: it writes down every version of every row there ever was.
"""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from tests.kills import kill_at
from tests.lender import Lender
from tests.project import Project

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

TABLE = """
create table events (id int primary key, body text not null, updated_at timestamptz not null);
create schema judge;
create table judge.versions (like events);
create function judge.note() returns trigger language plpgsql security definer as
  $$ begin insert into judge.versions values (new.*); return new; end $$;
create trigger noted after insert or update on events for each row execute function judge.note();
"""
STREAM = "public.events"
SELECTION = {"name": STREAM, "mode": "incremental", "cursor_field": "updated_at", "primary_key": ["id"]}
#: Each offered checkpoint is committed, so that a kill falls into the middle of a table.
EAGER = {"WELLHEAD__COMMIT__MAX_BYTES": "1", "WELLHEAD__LEASE__TTL_S": "1"}

Version = tuple[int, str, int]


def _connected(shipped: Project, lender: Lender, folder: Path, name: str, **selection: object) -> Project:
    project = shipped.copy(folder)
    lender.create(name, TABLE)
    lender.introduce(project, name)
    lender.connect(project, name, name, [{**SELECTION, **selection}])
    return project


def _versions(lender: Lender, database: str) -> list[Version]:
    """Return every version of every row as the source's own judge holds them, times in microseconds."""
    moment = "(extract(epoch from updated_at) * 1000000)::bigint"
    asked = f"copy (select id, body, {moment} from judge.versions order by 1, 3, 2) to stdout"
    lines = [line.split("\t") for line in lender.psql(database, asked).splitlines()]
    return [(int(key), body, int(at)) for key, body, at in lines]


def _arrived(project: Project, name: str) -> list[Version]:
    """Return what Bronze holds, each event id once."""
    columns = "id, body, epoch_us(updated_at)"
    found = project.rows(name, STREAM, f"_event_id, {columns}", "group by all order by 2, 4, 3")
    assert len({row[0] for row in found}) == len(found), "one event id names two versions"
    return [(key, body, at) for _, key, body, at in found]


def _run(project: Project, name: str) -> int:
    """Run to the end and return how many rows it committed."""
    outcome = project.run(name, "--if-running", "wait", env=EAGER)
    assert outcome.exit_code == 0, outcome.stderr
    rows: int = outcome.document["streams"][0]["rows"]
    return rows


def test_nothing_is_lost_or_repeated_from_run_to_run(shipped: Project, lender: Lender, tmp_path: Path) -> None:
    name = "daily"
    project = _connected(shipped, lender, tmp_path, name)

    def change(sql: str) -> None:
        lender.psql(name, sql)

    change("insert into events select n, 'first', now() - n * interval '1 hour' from generate_series(1, 50) n")
    assert _run(project, name) == 50
    assert _run(project, name) == 0

    change(
        "insert into events values (51, 'inserted', now()); update events set body = 'x', updated_at = now()"
        " where id in (3, 7)"
    )
    with psycopg.connect(lender.postgres.url(name)) as late:
        late.execute("insert into events values (60, 'commits after the run', now() - interval '5 minutes')")
        assert _run(project, name) == 3
        late.commit()
    # The source's clock is set back by less than the lookback: what it writes now looks older than what was read.
    change(
        "insert into events values (61, 'by a clock set back', now() - interval '9 minutes');"
        "update events set body = 'y', updated_at = now() - interval '8 minutes' where id = 7"
    )
    assert _run(project, name) == 3
    assert _run(project, name) == 0

    assert _arrived(project, name) == _versions(lender, name)
    assert project.count(name, STREAM) == len(_versions(lender, name))


def test_ties_across_the_borders_of_pages_commits_and_runs(shipped: Project, lender: Lender, tmp_path: Path) -> None:
    """Nine in ten rows share one moment, and the first run dies in the middle of it."""
    name = "ties"
    project = _connected(shipped, lender, tmp_path, name, batch_size=500)
    rows = "select n, repeat(md5(n::text), 40), timestamptz '2024-01-01'"
    lender.psql(name, f"insert into events {rows} from generate_series(1, 18000) n")
    lender.psql(name, f"insert into events {rows} + n * interval '1 ms' from generate_series(18001, 20000) n")
    died = project.run(name, env={**EAGER, **kill_at("committed:2")})
    assert died.was_killed
    lender.psql(name, f"insert into events {rows} from generate_series(20001, 21000) n")
    assert 0 < _run(project, name) < 21_000, "the kill fell outside the table"
    lender.psql(
        name,
        "insert into events select n, 'tie with the last', (select max(updated_at) from events) "
        "from generate_series(21001, 21010) n",
    )
    assert _run(project, name) == 10
    assert _arrived(project, name) == _versions(lender, name)
    assert project.count(name, STREAM) == 21_010


def test_rows_that_are_emitted_again_keep_their_event_id(shipped: Project, lender: Lender, tmp_path: Path) -> None:
    """More rows lie within the lookback than the cursor can remember, so the next run emits them again."""
    name = "again"
    project = _connected(shipped, lender, tmp_path, name)
    lender.psql(
        name,
        "insert into events select n, 'busy', now() - interval '1 minute' + n * interval '1 ms' "
        "from generate_series(1, 40000) n",
    )
    assert _run(project, name) == 40_000
    lender.psql(name, "insert into events values (40001, 'one more', now())")
    assert _run(project, name) > 1
    assert project.count(name, STREAM) > 40_001
    assert _arrived(project, name) == _versions(lender, name)
