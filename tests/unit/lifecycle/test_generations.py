"""Who may begin a generation, what an unfinished one is bound to, and what is left of one that was given up."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from typing import Any

import duckdb
import pytest
import sqlalchemy as sa

from tests.unit.lifecycle.conftest import World
from wellhead.errors import ConfigurationError, TransientError
from wellhead.ids import ConnectorId, RunId
from wellhead.lifecycle import commit, recover, stream
from wellhead.lifecycle import state as states
from wellhead.lifecycle.claim import Claim
from wellhead.lifecycle.report import Report, Status
from wellhead.registry import connections, generations, run_state, segments, tables
from wellhead.registry.database import FENCED
from wellhead.registry.run_state import MOVED_ON
from wellhead.sinks.parquet import Parquet
from wellhead.sinks.segments import DISK_FULL
from wellhead_generator.connector import Generator

pytestmark = pytest.mark.slow

pytestmark = pytest.mark.slow

STREAM = {"name": "rows", "batch_size": 10}
INCREMENTAL = {**STREAM, "mode": "incremental"}
FORTY = {"rows": 40}


def _once_before(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, act: Callable[[], object]) -> None:
    """Let ``act`` happen right before the first call of a function."""
    called, acts = getattr(owner, name), [act]

    def calling(*arguments: Any, **named: Any) -> Any:
        while acts:
            acts.pop()()
        return called(*arguments, **named)

    monkeypatch.setattr(owner, name, calling)


def _once_after(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, act: Callable[[], object]) -> None:
    """Let ``act`` happen right after the first call of a function."""
    called, acts = getattr(owner, name), [act]

    def calling(*arguments: Any, **named: Any) -> Any:
        answer = called(*arguments, **named)
        while acts:
            acts.pop()()
        return answer

    monkeypatch.setattr(owner, name, calling)


def _lose_lease(world: World) -> None:
    """Let the lease of whoever has it have run out."""
    with world.database.transaction() as tx:
        connections.force_release_lease(tx, world.key().connection)


def _fenced(report: Report) -> bool:
    return report.error is not None and (report.status, report.error.code) == (Status.FAILED, FENCED.name)


# ----- who may begin one


def test_a_run_that_lost_its_lease_does_not_give_up_what_its_successor_is_reading(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.configure(commit={"max_bytes": 1})
    file = world.connect(STREAM, config={"rows": 40})
    reports: list[Report] = []
    successor = threading.Thread(target=lambda: reports.append(world.run(file)))
    published, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        published.set()
        go_on.wait(20)

    def overtake() -> None:
        _lose_lease(world)
        successor.start()
        assert published.wait(20)

    _once_after(monkeypatch, Parquet, "publish", hold)
    _once_before(monkeypatch, stream, "_begin", overtake)
    overtaken = world.run(file)
    go_on.set()
    successor.join(30)
    assert _fenced(overtaken)
    assert [report.status for report in reports] == [Status.SUCCEEDED]
    assert world.ids() == list(range(40))
    assert world.generations() == [(1, "swapped", "replace")]


def test_a_run_that_lost_its_lease_opens_no_stream_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.run(world.connect(INCREMENTAL, config={"rows": 10}))
    file = world.connect(INCREMENTAL, config={"rows": 12})
    reports = _overtaken_at(world, monkeypatch, stream, "_open", lambda: world.run(file))
    assert _fenced(world.run(file))
    assert [report.status for report in reports] == [Status.SUCCEEDED]
    assert world.units()["all"].complete


@pytest.mark.parametrize("place", ["_store_plan", "finish_table"])
def test_a_run_that_lost_its_lease_neither_plans_nor_finishes(
    world: World, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    file = world.connect(STREAM, config={"rows": 40})
    reports = _overtaken_at(world, monkeypatch, stream, place, lambda: world.run(file))
    assert _fenced(world.run(file))
    assert [report.status for report in reports] == [Status.SUCCEEDED]
    assert world.ids() == list(range(40))
    assert world.generations()[-1] == (2, "swapped", "replace")


def test_a_run_that_lost_its_lease_does_not_say_that_a_table_changed_place(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = world.connect(STREAM, config={"rows": 40})
    reports: list[Report] = []

    def overtake() -> None:
        _lose_lease(world)
        reports.append(world.run(file))

    _once_after(monkeypatch, Parquet, "swap", overtake)
    assert _fenced(world.run(file))
    assert [report.status for report in reports] == [Status.SUCCEEDED]
    assert world.generations() == [(1, "swapped", "replace"), (2, "swapped", "replace")]


def test_a_run_that_lost_its_lease_recovers_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    file = world.connect(STREAM, config={"rows": 40})
    reports = _overtaken_at(world, monkeypatch, recover, "settle", lambda: world.run(file))
    assert _fenced(world.run(file))
    assert [report.status for report in reports] == [Status.SUCCEEDED]
    assert world.launches == 1


def _overtaken_at(
    world: World, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, successor: Callable[[], Report]
) -> list[Report]:
    """Let another run take over and end before a function is first called; its report is in the list by then."""
    reports: list[Report] = []

    def overtake() -> None:
        _lose_lease(world)
        reports.append(successor())

    _once_before(monkeypatch, owner, name, overtake)
    return reports


def test_the_last_unit_of_a_generation_that_was_given_up_is_not_committed(world: World) -> None:
    file = _half_done(world, STREAM)
    with world.database.transaction() as tx:
        lease = connections.claim_lease(tx, file.key, run_id=RunId("run"), host_id="h", ttl_s=60)
        current = generations.current(tx, world.key())
        assert current is not None
        generations.begin(tx, world.key(), current.basis, RunId("run"))
    before = world.units()["all"]
    work = commit.Work(None, (), run_state.Checkpoint(b"end", 1, 0, complete=True))
    with pytest.raises(TransientError) as caught:
        commit.commit(world.database, Claim(RunId("run"), file.key, "h", lease.epoch), before, work)
    assert caught.value.code == MOVED_ON
    assert world.units()["all"] == before


def _half_done(world: World, selection: dict[str, Any], **rest: Any) -> Any:
    """Let a run fail after twenty of forty rows, and return the connection."""
    world.configure(commit={"max_bytes": 1}, run={"idle_attempts": 1})
    file = world.connect(selection, config=FORTY, **rest)
    with world.failing(fail_at=20):
        assert world.run(file).exit_code == 75
    return file


# ----- the sink it is in


ELSEWHERE = {"sink": {"path": "elsewhere/bronze"}}
AS_LINES = {"sink": {"type": "jsonl", "path": "bronze"}}


@pytest.mark.parametrize("sink", [ELSEWHERE, AS_LINES], ids=["folder", "format"])
def test_an_unfinished_generation_is_not_gone_on_with_in_another_sink(world: World, sink: dict[str, Any]) -> None:
    _half_done(world, STREAM)
    report = world.run(world.connect(STREAM, config=FORTY, **sink))
    assert (report.status, report.streams[0].rows) == (Status.SUCCEEDED, 40)
    assert _ids_in(world, sink) == list(range(40))
    assert world.generations() == [(1, "abandoned", "replace"), (2, "swapped", "replace")]


@pytest.mark.parametrize("sink", [ELSEWHERE, AS_LINES], ids=["folder", "format"])
def test_a_stream_does_not_go_on_from_its_state_in_another_sink(world: World, sink: dict[str, Any]) -> None:
    world.run(world.connect(INCREMENTAL, config={"rows": 30}))
    report = world.run(world.connect(INCREMENTAL, config=FORTY, **sink))
    assert report.exit_code == 78
    assert report.error is not None
    assert report.error.code == stream.OTHER_SINK.name
    assert f"{world.folder}/bronze (parquet)" in report.error.message
    assert f"{world.folder}/{sink['sink']['path']} ({sink['sink'].get('type', 'parquet')})" in report.error.message
    assert world.run(world.connect(INCREMENTAL, config=FORTY)).exit_code == 0
    assert world.ids() == list(range(40))


def test_a_first_read_that_readers_see_does_not_go_on_in_another_sink(world: World) -> None:
    _half_done(world, INCREMENTAL)
    report = world.run(world.connect(INCREMENTAL, config=FORTY, **ELSEWHERE))
    assert report.error is not None
    assert report.error.code == stream.OTHER_SINK.name


def test_a_first_read_that_wrote_nothing_goes_on_wherever_the_sink_is(world: World) -> None:
    world.configure(run={"idle_attempts": 1})
    assert world.run(world.connect(INCREMENTAL, config={**FORTY, "fail_at": 0})).exit_code == 75
    for config in ({**FORTY, "rows": 30}, FORTY):
        assert world.run(world.connect(INCREMENTAL, config=config, **ELSEWHERE)).exit_code == 0
    assert _ids_in(world, ELSEWHERE) == list(range(40))


@pytest.mark.parametrize("sink", [ELSEWHERE, AS_LINES], ids=["folder", "format"])
@pytest.mark.parametrize("is_reset", [False, True], ids=["full refresh", "reset"])
def test_each_way_out_brings_every_row_into_the_new_sink(world: World, sink: dict[str, Any], is_reset: bool) -> None:
    world.run(world.connect(INCREMENTAL, config={"rows": 30}))
    assert world.run(world.connect(INCREMENTAL, config=FORTY, **sink)).exit_code == 78
    with world.database.transaction() as tx:
        for _ in range(is_reset):
            states.reset(tx, world.key())
    file = world.connect(INCREMENTAL, config=FORTY, **sink)
    assert world.run(file, full_refresh=not is_reset).exit_code == 0
    assert _ids_in(world, sink) == list(range(40))
    assert world.run(world.connect(INCREMENTAL, config={"rows": 50}, **sink)).exit_code == 0
    assert _ids_in(world, sink) == list(range(50))


def test_a_folder_that_was_moved_with_its_staging_is_the_same_sink(world: World) -> None:
    world.run(world.connect(INCREMENTAL, config={"rows": 30}))
    moved = world.connect(INCREMENTAL, config=FORTY, **ELSEWHERE)
    assert world.run(moved).exit_code == 78
    for name in ("bronze", "bronze.staging"):
        shutil.rmtree(world.folder / "elsewhere" / name)
        (world.folder / name).rename(world.folder / "elsewhere" / name)
    assert world.run(moved).exit_code == 0
    assert _ids_in(world, ELSEWHERE) == list(range(40))


def test_a_complete_generation_changes_place_in_the_sink_it_is_in(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.configure(run={"idle_attempts": 1})
    with monkeypatch.context() as patch:
        patch.setattr(Parquet, "swap", _full)
        world.run(world.connect(STREAM, config=FORTY))
    report = world.run(world.connect(STREAM, config=FORTY, **ELSEWHERE))
    assert report.error is not None
    assert report.error.code == connections.OTHER_SINK.name
    monkeypatch.setattr("wellhead.lifecycle.run._attempts", lambda *_: None)
    world.run(world.connect(STREAM, config=FORTY))
    assert world.ids() == list(range(40))
    assert world.generations() == [(1, "swapped", "replace")]


def test_what_was_committed_in_one_format_is_published_in_a_folder_that_has_another_by_now(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.configure(run={"idle_attempts": 1})
    with monkeypatch.context() as patch:
        patch.setattr(Parquet, "publish", _full)
        world.run(world.connect(STREAM, config={"rows": 10}))
    assert world.run(world.connect(STREAM, config=FORTY, **AS_LINES)).exit_code == 0
    assert _ids_in(world, AS_LINES) == list(range(40))


def test_generations_of_before_sinks_were_written_down_begin_anew_or_go_on(world: World) -> None:
    _half_done(world, STREAM)
    _forget_sinks(world)
    world.run(world.connect(STREAM, config=FORTY))
    assert world.generations() == [(1, "abandoned", "replace"), (2, "swapped", "replace")]
    world.run(world.connect(INCREMENTAL, config=FORTY))
    _forget_sinks(world)
    world.run(world.connect(INCREMENTAL, config={"rows": 50}))
    assert world.ids() == list(range(50))
    assert world.run(world.connect(INCREMENTAL, config={"rows": 60}, **ELSEWHERE)).exit_code == 78


def _full(*_: Any, **__: Any) -> None:
    raise TransientError("the disk is full", code=DISK_FULL)


def _forget_sinks(world: World) -> None:
    with world.database.transaction() as tx:
        tx.execute(sa.update(tables.generations).values(sink_id=None, sink_path=None))


def _ids_in(world: World, sink: dict[str, Any]) -> list[int]:
    """Return every id in the table of another sink, in order, repetitions included."""
    table = world.folder / sink["sink"]["path"] / "default" / "default" / "flights" / "rows"
    wanted = {"parquet": "id from read_parquet", "jsonl": "data.id from read_json"}[sink["sink"].get("type", "parquet")]
    with duckdb.connect() as database:
        return [row[0] for row in database.execute(f"select {wanted}('{table}/part-*') order by 1").fetchall()]


# ----- the source it describes


HALF_AND_NONE = [(1, "abandoned", "replace"), (2, "swapped", "replace")]


def test_an_unfinished_generation_of_another_config_is_begun_again(world: World) -> None:
    _half_done(world, STREAM)
    report = world.run(world.connect(STREAM, config={**FORTY, "seed": 7}))
    assert report.streams[0].rows == 40
    assert world.generations() == HALF_AND_NONE
    found = world.rows("value", "order by id")
    world.run(world.connect(STREAM, config={**FORTY, "seed": 7}))
    assert world.rows("value", "order by id") == found


def test_an_unfinished_generation_of_another_connector_is_begun_again(world: World) -> None:
    _half_done(world, STREAM)
    assert world.run(world.connect(STREAM, config=FORTY, connector="dev/other")).streams[0].rows == 40
    assert world.ids() == list(range(40))
    assert world.generations() == HALF_AND_NONE


def test_a_state_is_not_handed_to_another_connector(world: World) -> None:
    world.run(world.connect(INCREMENTAL, config={"rows": 30}))
    handed: list[Any] = []

    class Other(Generator):
        def read(self, session: Any, request: Any, out: Any) -> None:
            handed.append(request.cursor)
            super().read(session, request, out)

    world.connector = Other
    assert world.run(world.connect(INCREMENTAL, config=FORTY, connector="dev/other")).exit_code == 0
    assert world.run(world.connect(INCREMENTAL, config={"rows": 50}, connector="dev/other")).exit_code == 0
    assert [cursor is None for cursor in handed] == [True, False]
    assert world.ids() == list(range(50))


def test_an_incremental_stream_whose_config_alone_changed_goes_on_from_its_state(world: World) -> None:
    world.run(world.connect(INCREMENTAL, config={"rows": 30}))
    assert world.run(world.connect(INCREMENTAL, config={**FORTY, "seed": 7})).streams[0].rows == 10
    assert world.ids() == list(range(40))


# ----- what is left of one that was given up


def _staged(world: World) -> list[str]:
    """Return the names of what lies beside the table on its way there, but for the lock."""
    folder = world.folder / "bronze.staging" / "default" / "default" / "flights" / "rows"
    return sorted(path.name for path in folder.iterdir() if path.name != "publish.lock")


def test_the_files_of_a_generation_that_was_reset_go_with_the_next_run(world: World) -> None:
    file = _half_done(world, STREAM)
    assert _staged(world) == ["g1"]
    with world.database.transaction() as tx:
        states.reset(tx, world.key())
        assert segments.of_generation(tx, world.key(), 1) == []
    for _ in range(2):
        assert world.run(file).exit_code == 0
    assert _staged(world) == ["old-3"]
    assert world.ids() == list(range(40))


def test_a_reset_publishes_nothing_that_was_forgotten(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Parquet, "publish", _full)
        _half_done(world, STREAM)
    assert world.unpublished() == 1
    with world.database.transaction() as tx:
        states.reset(tx, world.key())
    assert world.unpublished() == 0
    assert world.run(world.connect(STREAM, config=FORTY, **ELSEWHERE)).exit_code == 0
    assert _ids_in(world, ELSEWHERE) == list(range(40))


def test_files_that_a_crash_left_of_a_generation_go_with_the_next_run(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    _half_done(world, STREAM)
    with monkeypatch.context() as patch:
        patch.setattr(Parquet, "discard_generation", _full)
        assert world.run(world.connect(STREAM, config={"rows": 30})).exit_code == 75
    assert _staged(world) == ["g1"]
    assert world.run(world.connect(STREAM, config={"rows": 30})).exit_code == 0
    assert _staged(world) == []
    assert world.ids() == list(range(30))


def test_files_of_a_generation_that_goes_on_stay(world: World) -> None:
    file = _half_done(world, STREAM)
    assert world.run(file).streams[0].rows == 20
    assert world.ids() == list(range(40))
    assert world.generations() == [(1, "swapped", "replace")]


def test_a_state_from_before_connectors_were_compared_is_gone_on_from_once_and_again(world: World) -> None:
    world.run(world.connect(INCREMENTAL, config={"rows": 30}))
    with world.database.transaction() as tx:
        tx.execute(sa.update(tables.generations).values(sink_id=None, sink_path=None))
    for rows in (FORTY["rows"], 50):
        report = world.run(world.connect(INCREMENTAL, config={"rows": rows}, connector="dev/other"))
        assert report.streams[0].rows == 10
    assert world.ids() == list(range(50))


def test_a_state_that_another_connector_would_not_be_handed_is_refused(world: World) -> None:
    world.run(world.connect(INCREMENTAL, config={"rows": 30}))
    with world.database.transaction() as tx, pytest.raises(ConfigurationError) as caught:
        states.replace(tx, world.key(), state=b"{}", state_version=1, connector=ConnectorId("dev/other"))
    assert caught.value.code == states.NOT_HEEDED
    with world.database.transaction() as tx:
        states.replace(tx, world.key(), state=b"{}", state_version=1, connector=ConnectorId("dev/generator"))
