from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.parts import Postgres as Server
from tests.postgres_source import Source, StoppedError, Tape, source
from wellhead_sdk import Configuration, LogLevel, SyncMode
from wellhead_sdk import cursor as cursors

pytestmark = pytest.mark.real


@pytest.fixture
def database(postgres: Server) -> Iterator[Source]:
    with source(postgres, "behind") as lent:
        lent.psql("create table t (id int primary key, v text, at timestamptz)")
        yield lent


@dataclass
class LogTape(Tape):
    """Keeps what was logged with its level and its fields."""

    logs: list[tuple[object, str, dict[str, Any]]] = field(default_factory=list)

    def log(self, level: object, message: str, **fields: object) -> None:
        self.logs.append((level, message, fields))


def _next(database: Source, before: Tape, **wanted: object) -> Tape:
    return database.behind("public.t", "at", before.state, **wanted)


def test_inserts_and_updates_arrive_and_nothing_else(database: Source) -> None:
    database.psql("insert into t select i, 'first', now() - i * interval '1 hour' from generate_series(1, 100) i")
    first = database.behind("public.t", "at")
    assert sorted(first.column("id")) == list(range(1, 101))
    assert _next(database, first).rows() == []
    database.psql("insert into t values (101, 'new', now()); update t set v = 'changed', at = now() where id = 50")
    second = _next(database, first)
    assert {(row["id"], row["v"]) for row in second.rows()} == {(101, "new"), (50, "changed")}
    assert _next(database, second).rows() == []


def test_a_row_that_commits_late_with_an_earlier_time_is_not_lost(database: Source) -> None:
    database.psql("insert into t values (1, 'early', now() - interval '1 hour')")
    with database.connect() as late:
        late.execute("insert into t values (2, 'late', now() - interval '300 s')")
        database.psql("insert into t values (3, 'in time', now())")
        first = database.behind("public.t", "at")
        late.commit()
    assert first.column("id") == [1, 3]
    second = _next(database, first)
    assert second.column("id") == [2]
    assert _next(database, second).rows() == []


def test_a_clock_set_back_within_the_lookback_loses_nothing(database: Source) -> None:
    database.psql("insert into t values (1, 'before', now())")
    first = database.behind("public.t", "at")
    database.psql("insert into t values (2, 'clock went back', now() - interval '400 s')")
    assert _next(database, first).column("id") == [2]


def test_a_row_from_the_future_hides_no_row_of_the_present(database: Source) -> None:
    database.psql("insert into t values (1, 'future', now() + interval '2 days')")
    first = database.behind("public.t", "at")
    database.psql("insert into t values (2, 'present', now())")
    second = _next(database, first)
    assert second.column("id") == [2]
    assert _next(database, second).rows() == []


def test_ties_on_the_cursor_are_neither_lost_nor_repeated_across_runs(database: Source) -> None:
    database.psql("insert into t select i, 'tie', '2024-01-01' from generate_series(1, 500) i")
    first = database.behind("public.t", "at", batch_size=10)
    database.psql("insert into t select i, 'tie', '2024-01-01' from generate_series(501, 700) i")
    second = _next(database, first, batch_size=10)
    assert Counter(first.column("id") + second.column("id")) == Counter(range(1, 701))


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_an_interrupted_read_loses_and_repeats_nothing(database: Source, stop_after: int) -> None:
    database.psql(
        "insert into t select i, repeat(md5(i::text), 20), case when i % 1000 > 0 then "
        "now() - (30000 - i) * interval '1 minute' end from generate_series(1, 30000) i"
    )
    interrupted = Tape(stop_after=stop_after)
    with pytest.raises(StoppedError):
        database.behind("public.t", "at", tape=interrupted)
    kept = [key for batch in interrupted.committed for key in batch.column("id").to_pylist()]
    resumed = _next(database, interrupted)
    assert Counter(kept + resumed.column("id")) == Counter(range(1, 30001))
    assert _next(database, resumed).rows() == []


def test_rows_without_a_cursor_are_read_by_the_first_run(database: Source) -> None:
    database.psql("insert into t values (1, 'none', null), (2, 'some', now())")
    first = database.behind("public.t", "at")
    assert sorted(first.column("id")) == [1, 2]
    assert _next(database, first).rows() == []


def test_rows_are_not_read_again_while_none_has_a_cursor(database: Source) -> None:
    database.psql("insert into t values (1, 'none', null), (2, 'none', null)")
    first = database.behind("public.t", "at")
    assert sorted(first.column("id")) == [1, 2]
    second = _next(database, first)
    assert second.rows() == []
    database.psql("update t set at = now() where id = 2; insert into t values (3, 'old', '2020-01-01')")
    assert sorted(_next(database, second).column("id")) == [2, 3]


def test_a_first_read_interrupted_before_any_usable_cursor_still_meets_the_rows_without_one(database: Source) -> None:
    database.psql(
        "insert into t select i, repeat(md5(i::text), 40), '-infinity' from generate_series(1, 8000) i; "
        "insert into t select i, 'none', null from generate_series(8001, 8010) i"
    )
    interrupted = Tape(stop_after=1)
    with pytest.raises(StoppedError):
        database.behind("public.t", "at", tape=interrupted)
    assert interrupted.batches == []
    resumed = _next(database, interrupted)
    assert sorted(resumed.column("id")) == list(range(8001, 8011))
    assert _next(database, resumed).rows() == []


@pytest.mark.parametrize("stop_after", [None, 1], ids=["whole", "interrupted"])
def test_a_position_in_one_column_is_not_gone_on_from_in_another(database: Source, stop_after: int | None) -> None:
    database.psql(
        "alter table t add version int; insert into t select i, repeat(md5(i::text), 40), now(), i % 3 + 7 "
        "from generate_series(1, 9000) i"
    )
    tape = Tape(stop_after=stop_after)
    with suppress(StoppedError):
        database.behind("public.t", "id", tape=tape)
    with pytest.raises(Configuration, match="was 'id'") as caught:
        database.behind("public.t", "version", tape.state)
    assert caught.value.reason == "cursor_changed"


def test_more_rows_in_the_lookback_than_a_state_remembers_are_told_with_what_mends_it(
    database: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cursors, "MAX_SEEN", 100)
    database.psql("insert into t select i, 'tie', '2024-01-01' from generate_series(1, 250) i")
    first, second = LogTape(), LogTape()
    _next(database, database.behind("public.t", "at", tape=first), tape=second)
    assert (len(first.logs), len(second.column("id"))) == (0, 150)
    ((level, message, fields),) = second.logs
    assert (level, fields["rows"]) == (LogLevel.WARNING, 150)
    assert "emitted again" in message
    assert "lookback_seconds" in fields["mend"]


def test_since_bounds_the_first_run_alone(database: Source) -> None:
    database.psql("insert into t values (1, 'old', '2020-01-01'), (2, 'new', now()), (3, 'none', null)")
    first = database.behind("public.t", "at", since=datetime.now(UTC) - timedelta(days=1))
    assert first.column("id") == [2]
    database.psql("insert into t values (4, 'within the lookback', now() - interval '5 s')")
    assert _next(database, first, since=datetime.now(UTC) + timedelta(days=1)).column("id") == [4]


def test_since_bounds_the_first_rows_however_late_they_come(database: Source) -> None:
    database.psql("insert into t values (1, 'old', '2020-01-01'), (2, 'none', null)")
    first = database.behind("public.t", "at", since=datetime.now(UTC) - timedelta(days=1))
    second = _next(database, first)
    assert (first.rows(), second.rows()) == ([], [])
    database.psql("insert into t values (3, 'new', now()), (4, 'still old', '2020-01-02')")
    third = _next(database, second)
    assert third.column("id") == [3]
    database.psql("insert into t values (5, 'older, and late', now() - interval '5 s')")
    assert _next(database, third).column("id") == [5]


def test_since_bounds_a_first_read_that_is_gone_on_with(database: Source) -> None:
    database.psql(
        "insert into t values (0, 'just before', now() - interval '1441 min'), (8001, 'none', null); "
        "insert into t select i, repeat(md5(i::text), 40), now() - interval '1439 min' + i * interval '1 ms' "
        "from generate_series(1, 8000) i"
    )
    interrupted = Tape(stop_after=1)
    with pytest.raises(StoppedError):
        database.behind("public.t", "at", since=datetime.now(UTC) - timedelta(days=1), tape=interrupted)
    kept = [key for batch in interrupted.committed for key in batch.column("id").to_pylist()]
    assert kept
    resumed = _next(database, interrupted)
    assert Counter(kept + resumed.column("id")) == Counter(range(1, 8001))


def test_the_cursor_need_not_be_among_the_columns(database: Source) -> None:
    database.psql("insert into t values (1, 'x', now())")
    first = database.behind("public.t", "at", columns=("v",))
    assert first.rows() == [{"v": "x"}]
    database.psql("insert into t values (2, 'y', now())")
    assert _next(database, first, columns=("v",)).rows() == [{"v": "y"}]


def test_filters_hold_for_incremental_reads_too(database: Source) -> None:
    database.psql("insert into t values (1, 'x', now()), (2, 'y', now())")
    assert database.behind("public.t", "at", filters=[("v", "=", ("y",))]).column("id") == [2]


@pytest.mark.parametrize(
    ("kind", "first", "later"),
    [
        ("int", "5", "6"),
        ("bigint", "9223372036854775806", "9223372036854775807"),
        ("date", "current_date - 3", "current_date"),
        ("timestamp", "localtimestamp - interval '1 hour'", "localtimestamp"),
    ],
)
def test_every_kind_of_cursor(database: Source, kind: str, first: str, later: str) -> None:
    database.psql(f"drop table t; create table t (id int primary key, at {kind}); insert into t values (1, {first})")
    before = database.behind("public.t", "at")
    database.psql(f"insert into t values (2, {first}), (3, {later})")
    after = _next(database, before)
    assert (before.column("id"), after.column("id")) == ([1], [2, 3])
    assert _next(database, after).rows() == []


def test_since_cannot_bound_a_number(database: Source) -> None:
    with pytest.raises(Configuration) as caught:
        database.behind("public.t", "id", since=datetime.now(UTC))
    assert caught.value.fields == {"since": "cannot bound id"}


def test_an_infinite_cursor_is_a_dead_letter_and_stops_nothing(database: Source) -> None:
    database.psql("insert into t values (1, 'x', 'infinity'), (2, 'y', now())")
    first = database.behind("public.t", "at")
    assert first.column("id") == [2]
    assert [letter["text"] for letter in first.rejected] == ["infinity"]
    database.psql("insert into t values (3, 'z', now())")
    assert _next(database, first).column("id") == [3]


def test_only_orderable_columns_are_offered_as_cursors(database: Source) -> None:
    database.psql("drop table t; create table t (a int, b text, c timestamptz, d numeric, e date, f float8, g bool)")
    stream = database.connector.describe(database.session, "public.t")
    assert stream is not None
    assert stream.cursor_fields == ("a", "c", "e")
    assert SyncMode.INCREMENTAL in stream.modes
