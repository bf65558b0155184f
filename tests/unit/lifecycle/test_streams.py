"""Runs of the generator over a real socket, judged by what a reader of the table sees."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import duckdb
import pyarrow.parquet as pq
import pytest

from tests.unit.lifecycle.conftest import World
from wellhead.errors import ConfigurationError
from wellhead.ids import RunId
from wellhead.lifecycle import state as states
from wellhead.lifecycle.report import Status
from wellhead.registry import runs

pytestmark = pytest.mark.slow

INCREMENTAL = {"name": "rows", "mode": "incremental"}


def test_a_full_refresh_brings_every_row_once(world: World) -> None:
    report = world.run(world.connect(config={"rows": 2500}))
    assert (report.status, report.exit_code, report.attempts) == (Status.SUCCEEDED, 0, 1)
    assert world.ids() == list(range(2500))
    assert [stream.rows for stream in report.streams] == [2500]
    assert world.generations() == [(1, "swapped", "replace")]


def test_a_second_full_refresh_takes_the_place_of_the_first(world: World) -> None:
    world.run(world.connect(config={"rows": 30}))
    world.run(world.connect(config={"rows": 20, "seed": 1}))
    assert world.ids() == list(range(20))
    assert world.rows("distinct _generation") == [(2,)]


def test_an_appended_full_refresh_keeps_what_is_there(world: World) -> None:
    stream = {"name": "rows", "write": "append"}
    world.run(world.connect(stream, config={"rows": 3}))
    world.run(world.connect(stream, config={"rows": 3}))
    assert world.ids() == [0, 0, 1, 1, 2, 2]
    assert world.generations() == [(1, "complete", "append"), (2, "complete", "append")]


def test_partitions_are_read_side_by_side_and_each_counts_from_nought(world: World) -> None:
    world.run(world.connect({"name": "rows", "batch_size": 10}, config={"rows": 100, "partitions": 4}))
    assert world.ids() == list(range(100))
    unit = r"regexp_extract(filename, 'part-(part-\d+)-', 1) as unit"
    assert world.rows(
        f"{unit}, min(_sequence), max(_sequence), count(distinct _sequence)", "group by unit order by unit"
    ) == [(f"part-{number:02d}", 0, 24, 25) for number in range(4)]
    whole = world.units()["all"]
    assert whole.complete
    assert json.loads(whole.state) == {"unit": "all", "next": 100}


def test_an_incremental_stream_goes_on_where_it_stood(world: World) -> None:
    world.run(world.connect(INCREMENTAL, config={"rows": 10}))
    report = world.run(world.connect(INCREMENTAL, config={"rows": 15}))
    assert report.streams[0].rows == 5
    assert world.ids() == list(range(15))
    assert [row[0] for row in world.rows("_sequence", "order by 1")] == list(range(15))
    assert world.generations() == [(1, "complete", "append")]


def test_a_full_refresh_of_an_incremental_stream_replaces_it_and_later_rows_are_added(world: World) -> None:
    world.run(world.connect(INCREMENTAL, config={"rows": 10}))
    world.run(world.connect(INCREMENTAL, config={"rows": 12, "seed": 7}), full_refresh=True)
    assert world.ids() == list(range(12))
    report = world.run(world.connect(INCREMENTAL, config={"rows": 20, "seed": 7}))
    assert report.streams[0].rows == 8
    assert world.ids() == list(range(20))
    assert world.unpublished() == 0


@pytest.mark.parametrize(("first", "second"), [("full_refresh", "incremental"), ("incremental", "full_refresh")])
def test_another_mode_reads_everything_again_and_leaves_no_row_twice(world: World, first: str, second: str) -> None:
    world.run(world.connect({"name": "rows", "mode": first}, config={"rows": 10}))
    report = world.run(world.connect({"name": "rows", "mode": second}, config={"rows": 10}))
    assert report.streams[0].rows == 10
    assert world.ids() == list(range(10))
    world.run(world.connect({"name": "rows", "mode": second}, config={"rows": 12}))
    assert world.ids() == list(range(12))


def test_a_stream_whose_state_was_reset_is_read_anew_without_a_row_twice(world: World) -> None:
    world.run(world.connect(INCREMENTAL, config={"rows": 10}))
    with world.database.transaction() as tx:
        states.reset(tx, world.key())
    world.run(world.connect(INCREMENTAL, config={"rows": 10}))
    assert world.ids() == list(range(10))


@pytest.mark.parametrize("is_reset_first", [False, True], ids=["read", "reset"])
def test_a_state_that_an_operator_set_is_gone_on_from(world: World, is_reset_first: bool) -> None:
    world.run(world.connect(INCREMENTAL, config={"rows": 10}))
    with world.database.transaction() as tx:
        for _ in range(is_reset_first):
            states.reset(tx, world.key())
    _set_state(world, 8)
    report = world.run(world.connect(INCREMENTAL, config={"rows": 12}))
    assert report.streams[0].rows == 4
    assert world.ids() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 8, 9, 9, 10, 11]
    assert [row[0] for row in world.rows("_sequence", "order by 1")] == list(range(14))


def test_a_state_set_while_a_first_read_is_unfinished_is_gone_on_from(world: World) -> None:
    world.configure(commit={"max_bytes": 1}, run={"idle_attempts": 1})
    world.run(world.connect(INCREMENTAL | {"batch_size": 10}, config={"rows": 40, "fail_at": 20}))
    _set_state(world, 30)
    world.run(world.connect(INCREMENTAL | {"batch_size": 10}, config={"rows": 40}))
    assert world.ids() == [*range(20), *range(30, 40)]


def test_a_state_no_run_would_heed_is_refused(world: World) -> None:
    world.configure(commit={"max_bytes": 1}, run={"idle_attempts": 1})
    world.run(world.connect(config={"rows": 10}))
    with pytest.raises(ConfigurationError, match="full refresh") as caught:
        _set_state(world, 5)
    assert "mode: incremental" in (caught.value.hint or "")
    world.run(world.connect({"name": "rows", "batch_size": 5}, config={"rows": 40, "partitions": 2, "fail_at": 10}))
    with pytest.raises(ConfigurationError, match="in parts") as caught:
        _set_state(world, 5)
    assert "wellhead state reset flights rows" in (caught.value.hint or "")


def test_a_state_is_refused_where_no_generation_is_left_to_go_on_in(world: World) -> None:
    world.configure(commit={"max_bytes": 1}, run={"idle_attempts": 1})
    world.run(world.connect(INCREMENTAL | {"batch_size": 10}, config={"rows": 40, "fail_at": 20}))
    with world.database.transaction() as tx:
        states.reset(tx, world.key())
    with pytest.raises(ConfigurationError, match="no complete generation"):
        _set_state(world, 5)


def _set_state(world: World, position: int) -> None:
    state = json.dumps({"next": position, "unit": "all"}).encode()
    with world.database.transaction() as tx:
        states.replace(tx, world.key(), state=state, state_version=1)


def test_an_interrupted_full_refresh_is_gone_on_with_and_no_reader_saw_its_half(world: World) -> None:
    world.configure(commit={"max_bytes": 1}, run={"idle_attempts": 1})
    stream = {"name": "rows", "batch_size": 10}
    file = world.connect(stream, config={"rows": 40})
    with world.failing(fail_at=20):
        failing = world.run(file)
    assert (failing.status, failing.exit_code) == (Status.FAILED, 75)
    assert not world.table().exists()
    report = world.run(file)
    assert report.streams[0].rows == 20
    assert world.ids() == list(range(40))
    assert world.generations() == [(1, "swapped", "replace")]


def test_a_failed_attempt_is_tried_again_from_the_last_commit(world: World) -> None:
    world.configure(commit={"max_bytes": 1})
    report = world.run(
        world.connect({"name": "rows", "batch_size": 10}, config={"rows": 40, "fail_at": 20, "fail_once": True})
    )
    assert (report.status, report.attempts, world.launches) == (Status.SUCCEEDED, 2, 2)
    assert world.ids() == list(range(40))


@pytest.mark.parametrize(
    "change",
    [{"columns": ["id"]}, {"filters": {"id": {"<": 1000}}}, {"primary_key": ["value"]}],
    ids=["columns", "filters", "key"],
)
def test_an_unfinished_generation_of_another_selection_is_begun_again(world: World, change: dict[str, object]) -> None:
    world.configure(commit={"max_bytes": 1}, run={"idle_attempts": 1})
    stream = {"name": "rows", "batch_size": 10}
    with world.failing(fail_at=20):
        world.run(world.connect(stream, config={"rows": 40}))
    world.run(world.connect(stream | change, config={"rows": 40}))
    assert world.ids() == list(range(40))
    assert world.generations() == [(1, "abandoned", "replace"), (2, "swapped", "replace")]


def test_an_unfinished_generation_of_another_day_is_begun_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.configure(commit={"max_bytes": 1}, run={"idle_attempts": 1})
    file = world.connect({"name": "rows", "batch_size": 10}, config={"rows": 40})
    with world.failing(fail_at=20):
        world.run(file)
    monkeypatch.setattr("wellhead.lifecycle.stream.OLDEST_RESUMABLE", timedelta(0))
    assert world.run(file).streams[0].rows == 40
    assert world.ids() == list(range(40))


def test_an_empty_stream_gets_one_file_without_rows(world: World) -> None:
    world.run(world.connect("empty"))
    assert world.rows("count(*)", stream="empty") == [(0,)]
    assert len(list(world.table("empty").glob("*.parquet"))) == 1


def test_an_incremental_stream_without_news_gets_no_further_file(world: World) -> None:
    file = world.connect({"name": "empty", "mode": "incremental"})
    world.run(file)
    world.run(file)
    assert len(list(world.table("empty").glob("*.parquet"))) == 1


def test_partitions_without_rows_add_no_files(world: World) -> None:
    world.run(world.connect(config={"rows": 2, "partitions": 8}))
    assert world.ids() == [0, 1]


def test_a_schema_that_changes_on_the_way_keeps_every_row(world: World) -> None:
    world.run(world.connect({"name": "rows", "batch_size": 10}, config={"rows": 40, "change_schema_at": 20}))
    files = f"read_parquet('{world.table()}/*.parquet', union_by_name=true)"
    with duckdb.connect() as database:
        rows = database.execute(f"select id, added from {files} order by id").fetchall()
    assert rows == [(number, None) for number in range(20)] + [(number, number) for number in range(20, 40)]


def test_columns_and_filters_are_applied_whoever_applies_them(world: World) -> None:
    selection = {"name": "rows", "columns": ["value", "id"], "filters": {"id": {">=": 5}, "active": {"is_null": False}}}
    world.run(world.connect(selection, config={"rows": 10}))
    assert world.ids() == [5, 6, 7, 8, 9]
    columns = pq.read_schema(next(world.table().glob("*.parquet"))).names
    assert [name for name in columns if not name.startswith("_")] == ["value", "id"]


def test_a_filter_on_a_column_that_is_not_kept_still_holds(world: World) -> None:
    world.run(
        world.connect(
            {"name": "rows", "columns": ["id"], "filters": {"value": {"is_null": False}}}, config={"rows": 10}
        )
    )
    assert world.ids() == list(range(10))


def test_dead_letters_within_the_threshold_are_kept_beside_the_rows(world: World) -> None:
    report = world.run(world.connect(config={"rows": 50, "reject_every": 10}))
    assert (report.streams[0].rows, report.streams[0].dead_letters) == (45, 5)
    assert report.exit_code == 0
    assert [row[0] for row in world.rows("_sequence", "order by 1")] == list(range(45))


def test_more_dead_letters_than_allowed_end_the_stream_before_its_checkpoint(world: World) -> None:
    world.configure(dead_letters={"max_rows": 4, "max_share": 0.0})
    report = world.run(world.connect(config={"rows": 50, "reject_every": 10}))
    assert (report.status, report.exit_code) == (Status.FAILED, 65)
    assert report.error is not None
    assert report.error.code == "WH-RUN-030"
    assert not world.table().exists()
    assert world.units()["all"].state == b""


def test_counters_of_every_attempt_and_unit_add_up(world: World) -> None:
    world.configure(commit={"max_bytes": 1})
    config = {"rows": 80, "partitions": 2, "fail_at": 20, "fail_once": True}
    report = world.run(world.connect({"name": "rows", "batch_size": 10}, config=config))
    assert (report.status, report.attempts) == (Status.SUCCEEDED, 2)
    with world.database.read() as tx:
        outcome = runs.get(tx, RunId(report.run_id)).outcome
    assert outcome is not None
    assert outcome.metrics is not None
    assert outcome.metrics["pages_processed_total"] == 8


def test_bad_rows_at_the_head_of_a_stream_are_judged_by_their_share(world: World) -> None:
    world.configure(dead_letters={"max_rows": 0, "max_share": 0.2})
    report = world.run(world.connect(config={"rows": 50, "reject_every": 10}))
    assert report.exit_code == 0


def test_a_long_wait_parks_the_run_with_what_was_read(world: World) -> None:
    file = world.connect({"name": "rows", "batch_size": 10}, config={"rows": 40})
    before = datetime.now(UTC)
    with world.failing(wait_at=20, retry_after_s=3600):
        report = world.run(file, max_wait_s=1)
    assert (report.status, report.exit_code) == (Status.PARKED, 75)
    assert report.retry_at is not None
    assert report.retry_at - before > timedelta(minutes=59)
    assert report.error is not None
    assert report.error.code == "WH-RUN-033"
    assert world.units()["all"].rows_generation == 20
    assert world.run(file).streams[0].rows == 20
    assert world.ids() == list(range(40))
