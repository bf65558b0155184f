"""What one commit writes: unit state by compare-and-set, segments, dead letters; and generations around it."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from wellhead.errors import ConfigurationError, FatalError, TransientError
from wellhead.ids import WHOLE_STREAM, RunId, StreamKey, StreamName, UnitKey
from wellhead.registry import deadletters, generations, run_state, segments
from wellhead.registry.database import Database
from wellhead.registry.generations import Basis, Place
from wellhead.registry.migrations import upgrade
from wellhead.registry.run_state import Checkpoint, PlannedUnit, UnitState
from wellhead.registry.tables import connector_run_state

from .conftest import KEY, LATER, RUN, STREAM

BASIS = Basis("full_refresh", "replace", "sel", "fp", "1")


def plan(database: Database, *keys: str, generation: int = 1, epoch: int = 1) -> list[UnitState]:
    with database.transaction() as tx:
        units = [PlannedUnit(UnitKey(key), f"part {key}".encode(), 10) for key in keys]
        return run_state.plan_units(tx, STREAM, generation=generation, epoch=epoch, units=units)


def advance(
    database: Database, before: UnitState, *, epoch: int = 1, rows: int = 5, complete: bool = False
) -> UnitState:
    with database.transaction() as tx:
        checkpoint = Checkpoint(b"\x00cursor\xff", 2, rows, 1, "offset", LATER, complete)
        return run_state.advance(tx, before, epoch=epoch, checkpoint=checkpoint)


def test_a_plan_gives_units_without_state_in_its_order(database: Database) -> None:
    units = plan(database, "p2", "p1")
    assert [(unit.unit, unit.descriptor, unit.state, unit.commit_no) for unit in units] == [
        ("p2", b"part p2", b"", 0),
        ("p1", b"part p1", b"", 0),
    ]


def test_a_commit_stores_the_checkpoint_and_counts(database: Database) -> None:
    [unit] = plan(database, "all")
    after = advance(database, advance(database, unit), epoch=3)
    assert (after.epoch, after.commit_no, after.rows_total, after.rows_generation, after.rejected_total) == (
        3,
        2,
        10,
        10,
        2,
    )
    assert (after.state, after.state_version, after.checkpoint_type, after.watermark) == (
        b"\x00cursor\xff",
        2,
        "offset",
        LATER,
    )
    with database.read() as tx:
        assert run_state.load(tx, STREAM, 1) == [after]


def test_the_same_commit_again_is_refused(database: Database) -> None:
    [unit] = plan(database, "all")
    after = advance(database, unit)
    with pytest.raises(TransientError) as caught:
        advance(database, unit)
    assert caught.value.code.name == "WH-REG-050"
    with database.read() as tx:
        assert run_state.load(tx, STREAM, 1) == [after]


def test_a_commit_over_another_epochs_row_is_refused(database: Database) -> None:
    [read_before_takeover] = plan(database, "all")
    [same_number] = plan(database, "all", epoch=2)
    with database.transaction() as tx:
        tx.execute(connector_run_state.update().values(commit_no=read_before_takeover.commit_no))
    assert same_number.epoch == 2
    with pytest.raises(TransientError):
        advance(database, read_before_takeover)


def test_planning_anew_refuses_who_holds_the_old_plan(database: Database) -> None:
    [old] = plan(database, "all")
    plan(database, "all", generation=2)
    with pytest.raises(TransientError):
        advance(database, old)


def test_sequence_and_commit_number_go_on_over_generations(database: Database) -> None:
    [unit] = plan(database, "all")
    advance(database, unit, rows=7)
    [again] = plan(database, "all", generation=2, epoch=2)
    assert (again.state, again.rows_total, again.rows_generation, again.complete) == (b"", 7, 0, False)
    assert again.commit_no == 2
    assert advance(database, again, epoch=2, rows=3).rows_total == 10


def test_units_that_a_new_plan_lacks_are_retired(database: Database) -> None:
    plan(database, "p1", "p2")
    assert [unit.unit for unit in plan(database, "p2", "p3", generation=2)] == ["p2", "p3"]
    with database.read() as tx:
        assert [(unit.unit, unit.retired) for unit in run_state.all_of(tx, KEY)] == [
            ("p1", True),
            ("p2", False),
            ("p3", False),
        ]


def test_partitions_leave_the_streams_own_state_alone_until_the_last_is_complete(database: Database) -> None:
    [whole] = plan(database, "all")
    advance(database, whole)
    units = plan(database, "p1", "p2", generation=2)
    with database.read() as tx:
        kept = run_state.whole_stream(tx, STREAM)
    assert kept is not None
    assert kept.state == b"\x00cursor\xff"
    for unit in units:
        with database.read() as tx:
            assert not run_state.all_complete(tx, STREAM, 2)
        advance(database, unit, complete=True)
    with database.transaction() as tx:
        assert run_state.all_complete(tx, STREAM, 2)
        final = run_state.finish_partitions(
            tx, STREAM, generation=2, epoch=2, final_state=b"final", final_state_version=4
        )
        assert [unit.unit for unit in run_state.load(tx, STREAM, 2)] == [WHOLE_STREAM]
    assert (final.state, final.state_version, final.complete, final.rows_total) == (b"final", 4, True, 5)


def test_the_first_partitioned_read_makes_the_streams_row(database: Database) -> None:
    plan(database, "p1")
    with database.transaction() as tx:
        assert run_state.whole_stream(tx, STREAM) is None
        final = run_state.finish_partitions(
            tx, STREAM, generation=1, epoch=1, final_state=b"final", final_state_version=1
        )
    assert (final.unit, final.state, final.commit_no) == (WHOLE_STREAM, b"final", 1)


def test_an_unplanned_generation_is_not_complete(database: Database) -> None:
    with database.read() as tx:
        assert not run_state.all_complete(tx, STREAM, 1)


def test_a_unit_that_caught_up_is_reopened_with_its_state(database: Database) -> None:
    [unit] = plan(database, "all")
    advance(database, unit, complete=True)
    with database.transaction() as tx:
        run_state.reopen(tx, STREAM)
        [reopened] = run_state.load(tx, STREAM, 1)
    assert (reopened.complete, reopened.state) == (False, b"\x00cursor\xff")


def test_an_operators_state_refuses_who_holds_the_old_one(database: Database) -> None:
    [unit] = plan(database, "all")
    with database.transaction() as tx:
        assert run_state.set_state(tx, STREAM, generation=1, state=b"older", state_version=9).state == b"older"
    with pytest.raises(TransientError):
        advance(database, unit)


def test_there_is_no_state_to_set_before_the_first_read(database: Database) -> None:
    with pytest.raises(ConfigurationError) as caught, database.transaction() as tx:
        run_state.set_state(tx, STREAM, generation=1, state=b"x", state_version=1)
    assert caught.value.code.name == "WH-REG-051"


def test_a_reset_forgets_the_state_and_keeps_the_sequence(database: Database) -> None:
    [unit] = plan(database, "all")
    after = advance(database, unit)
    with database.transaction() as tx:
        assert run_state.reset(tx, STREAM) == 1
        assert run_state.load(tx, STREAM, 1) == []
    with pytest.raises(TransientError):
        advance(database, after)
    [again] = plan(database, "all", generation=2)
    assert (again.state, again.rows_total) == (b"", 5)


def test_two_connections_of_one_connector_share_no_state(database: Database) -> None:
    plan(database, "all")
    other = StreamKey(type(KEY)("default", "default", "other"), STREAM.stream)
    with database.read() as tx:
        assert run_state.load(tx, other, 1) == []
        assert run_state.whole_stream(tx, other) is None


def segment(commit_no: int, *, generation: int = 1) -> segments.NewSegment:
    return segments.NewSegment(
        stream=STREAM,
        unit=WHOLE_STREAM,
        generation=generation,
        epoch=1,
        commit_no=commit_no,
        run_id=RUN,
        write="append",
        name=f"t/{generation}-{commit_no}.parquet",
        size_bytes=2**40,
        crc32c=0xFFFFFFFF,
        rows=3,
        min_sequence=0,
        max_sequence=2,
    )


def test_segments_are_published_in_the_order_of_their_commits(database: Database) -> None:
    with database.transaction() as tx:
        rows = [segments.commit(tx, segment(number)) for number in (1, 2, 3)]
        assert segments.unpublished(tx, KEY) == rows
        segments.mark_published(tx, [rows[0].number])
        assert segments.unpublished(tx, KEY) == rows[1:]
        assert [found.status for found in segments.of_run(tx, RUN)] == ["published", "committed", "committed"]
    assert (rows[0].crc32c, rows[0].size_bytes) == (0xFFFFFFFF, 2**40)


def test_one_commit_of_a_unit_has_one_segment(database: Database) -> None:
    def commit_twice() -> None:
        with database.transaction() as tx:
            segments.commit(tx, segment(1))
            segments.commit(tx, segment(1))

    with pytest.raises(FatalError) as caught:
        commit_twice()
    assert caught.value.code.name == "WH-REG-009"
    with database.read() as tx:
        assert segments.unpublished(tx, KEY) == []


def test_an_abandoned_generations_segments_are_discarded(database: Database) -> None:
    with database.transaction() as tx:
        segments.commit(tx, segment(1))
        segments.commit(tx, segment(2, generation=2))
        assert [found.name for found in segments.discard(tx, STREAM, 1)] == ["t/1-1.parquet"]
        assert [found.generation for found in segments.unpublished(tx, KEY)] == [2]
        assert segments.of_generation(tx, STREAM, 1) == []
        assert segments.names(tx, KEY) == {"t/2-2.parquet"}


def test_generations_count_from_one_and_the_open_one_gives_way(database: Database) -> None:
    with database.transaction() as tx:
        assert generations.current(tx, STREAM) is None
        first = generations.begin(tx, STREAM, BASIS, RUN)
        second = generations.begin(tx, STREAM, BASIS, RUN)
        assert (first.number, second.number) == (1, 2)
        assert generations.current(tx, STREAM) == second
        assert [found.status for found in generations.all_of(tx, STREAM)] == ["abandoned", "open"]


def test_a_generation_is_complete_before_it_is_swapped(database: Database) -> None:
    with database.transaction() as tx:
        generations.begin(tx, STREAM, BASIS, RUN)
        generations.store_plan(tx, STREAM, 1, final_state=b"f", final_state_version=3)
    with pytest.raises(FatalError) as caught, database.transaction() as tx:
        generations.mark_swapped(tx, STREAM, 1)
    assert caught.value.code.name == "WH-REG-060"
    with database.transaction() as tx:
        assert generations.to_swap(tx, KEY) == []
        generations.mark_complete(tx, STREAM, 1)
        [waiting] = generations.to_swap(tx, KEY)
        assert (waiting.final_state, waiting.final_state_version, waiting.basis) == (b"f", 3, BASIS)
        generations.mark_swapped(tx, STREAM, 1)
        assert generations.to_swap(tx, KEY) == []


def test_a_generation_knows_its_sink_and_a_folder_that_was_moved_is_the_same(database: Database) -> None:
    place = Place("parquet:1", "/here")
    with database.transaction() as tx:
        assert generations.begin(tx, STREAM, BASIS, RUN).basis.sink is None
        generations.bind(tx, STREAM, 1, place, RunId("run-2"))
        found = generations.current(tx, STREAM)
    assert found is not None
    assert str(found.basis.sink) == "/here (parquet)"
    assert found.basis.sink == Place("parquet:1", "/there") != Place("jsonl:1", "/here")


def test_a_generation_of_before_sinks_were_written_down_knows_none(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path}/registry.db")
    with database.transaction() as tx:
        upgrade.to("0007", tx._connection)
        tx.execute(
            sa.text(
                "insert into generations (tenant_id, project_id, connection, stream, number, status, mode, write,"
                " selection_hash, schema_fingerprint, state_writes, final_state, final_state_version, run_id,"
                " started_at) values ('default', 'default', 'flights', 'public.flights', 1, 'open', 'full_refresh',"
                " 'replace', 'sel', 'fp', '1', x'', 0, 'run-1', '2026-01-02')"
            )
        )
    assert database.migrate()
    with database.read() as tx:
        found = generations.current(tx, STREAM)
    database.close()
    assert found is not None
    assert found.basis == BASIS


def test_an_appended_generation_never_waits_for_an_exchange(database: Database) -> None:
    with database.transaction() as tx:
        generations.begin(tx, STREAM, Basis("full_refresh", "append", "sel", "fp", "1"), RUN)
        generations.mark_complete(tx, STREAM, 1)
        assert generations.to_swap(tx, KEY) == []


def test_a_complete_generation_cannot_be_abandoned(database: Database) -> None:
    with database.transaction() as tx:
        generations.begin(tx, STREAM, BASIS, RUN)
        generations.mark_complete(tx, STREAM, 1)
        assert generations.abandon(tx, STREAM) is None
        generations.begin(tx, STREAM, BASIS, RUN)
        assert generations.abandon(tx, STREAM) == 2
        found = generations.current(tx, STREAM)
    assert found is not None
    assert (found.number, found.status) == (1, "complete")


def test_dead_letters_are_stored_with_their_commit_and_counted_by_run(database: Database) -> None:
    place = deadletters.Place(STREAM, WHOLE_STREAM, 1, 1, 1, RUN)
    records = [
        deadletters.Rejected("too_large", "ab" * 32, 20_000_000, '{"id": 1}', "body", "text", b"\x00\xff"),
        deadletters.Rejected("malformed", "cd" * 32, 7),
    ]
    with database.transaction() as tx:
        deadletters.set_aside(tx, place, records)
        deadletters.set_aside(tx, place, [])
        found = deadletters.latest(tx, KEY)
        assert [letter.rejected for letter in found] == records[::-1]
        assert {letter.place for letter in found} == {place}
        assert deadletters.get(tx, found[0].number) == found[0]
        assert deadletters.count(tx, STREAM, run_id=RUN) == 2
        assert deadletters.latest(tx, KEY, stream=StreamName("other")) == []
        assert len(deadletters.latest(tx, KEY, stream=STREAM.stream, run_id=RUN, limit=1)) == 1


def test_a_dead_letter_that_is_not_there_is_a_configuration_error(database: Database) -> None:
    with pytest.raises(ConfigurationError) as caught, database.read() as tx:
        deadletters.get(tx, 4711)
    assert caught.value.code.name == "WH-REG-080"


def test_a_dead_letters_content_stays_out_of_its_repr() -> None:
    shown = repr(deadletters.Rejected("malformed", "00", 1, text="private text", sample=b"private bytes"))
    assert "private" not in shown
