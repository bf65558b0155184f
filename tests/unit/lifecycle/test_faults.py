"""What goes wrong around a read: lost answers, lost leases, units that fail, runs at the same time."""

from __future__ import annotations

import errno
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import wellhead_sdk as sdk
from tests.unit.lifecycle.conftest import World
from wellhead.clock import SystemClock
from wellhead.connections import ConnectionFile
from wellhead.errors import ConfigurationError, TransientError
from wellhead.ids import ConnectorId, RunId
from wellhead.lifecycle import claim, commit, record
from wellhead.lifecycle.claim import HeldError
from wellhead.lifecycle.governance import WAITS
from wellhead.lifecycle.host import Host
from wellhead.lifecycle.report import Status
from wellhead.lifecycle.stop import Reason, Stop
from wellhead.registry import connections, runs
from wellhead.registry.database import OUTCOME_UNKNOWN, Database, Transaction
from wellhead.session.client import CHECKPOINT_UNANSWERED, Session
from wellhead.sinks.parquet import Parquet
from wellhead.sinks.segments import DISK_FULL, NOT_WRITABLE
from wellhead_generator.rows import Rows

pytestmark = pytest.mark.slow

STREAM = {"name": "rows", "batch_size": 10}


@pytest.mark.real
def test_a_run_on_postgresql_brings_every_row_once(world_on_postgresql: World) -> None:
    world = world_on_postgresql
    world.configure(commit={"max_bytes": 1})
    world.run(world.connect(STREAM, config={"rows": 40, "partitions": 2}))
    assert world.ids() == list(range(40))
    world.run(world.connect({**STREAM, "mode": "incremental"}, config={"rows": 50}))
    assert world.ids() == list(range(50))


class Odd(sdk.Connector):
    """Sets aside a record with a character no database takes, and fails with another."""

    def authenticate(self, config: Any, secrets: Mapping[str, str]) -> None:
        return None

    def discover(self, session: None) -> Iterator[sdk.Stream]:
        yield sdk.Stream("rows", schema=pa.schema([("id", pa.int64())]))

    def read(self, session: None, request: sdk.ReadRequest, out: sdk.Out) -> None:
        out.reject(b"a\0b", reason="malformed", key={"id": "a\0b"}, column="a\0b", text="a\0b")
        out.checkpoint({"next": 1})
        raise sdk.Fatal("there is a \0 in it", hint="take the \0 out")


@pytest.mark.real
def test_no_character_of_a_source_keeps_postgresql_from_storing_what_came_of_a_run(world_on_postgresql: World) -> None:
    world = world_on_postgresql
    world.configure(dead_letters={"max_rows": 1}, commit={"max_bytes": 1})
    world.connector = Odd
    report = world.run(world.connect())
    assert (report.status, report.exit_code, report.streams[0].dead_letters) == (Status.FAILED, 70, 1)
    with world.database.read() as tx:
        found = runs.get(tx, RunId(report.run_id))
    assert (found.status, found.outcome and found.outcome.exit_code) == ("failed", 70)


def test_what_a_failed_checkpoint_left_unpublished_is_in_the_table_before_it_is_swapped(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.configure(commit={"max_bytes": 1})
    deliver, failures = Session.checkpoint, [TransientError("not taken", code=CHECKPOINT_UNANSWERED)]

    def checkpoint(self: Session, committed: Any) -> None:
        for failure in failures[: committed.commit_no - 1]:
            failures.clear()
            raise failure
        deliver(self, committed)

    monkeypatch.setattr(Session, "checkpoint", checkpoint)
    report = world.run(world.connect(STREAM, config={"rows": 40}))
    assert (report.status, report.attempts) == (Status.SUCCEEDED, 2)
    assert world.ids() == list(range(40))
    assert world.unpublished() == 0


def test_a_lost_answer_to_a_commit_that_happened_is_found_in_the_registry(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = _losing_answers(monkeypatch, happened=True)
    report = world.run(world.connect(STREAM, config={"rows": 40}))
    assert (report.status, report.attempts, lost) == (Status.SUCCEEDED, 1, ["lost"])
    assert world.ids() == list(range(40))


def test_a_lost_answer_to_a_commit_that_did_not_happen_is_read_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = _losing_answers(monkeypatch, happened=False)
    report = world.run(world.connect(STREAM, config={"rows": 40}))
    assert (report.status, report.attempts, lost) == (Status.SUCCEEDED, 2, ["lost"])
    assert world.ids() == list(range(40))


def _losing_answers(monkeypatch: pytest.MonkeyPatch, *, happened: bool) -> list[str]:
    """Lose the answer to the first transaction that commits a segment."""
    write, lost = commit._write, list[str]()
    transaction = Database.transaction
    armed = threading.local()

    def writing(tx: Transaction, *arguments: Any) -> commit.Committed:
        armed.now = not lost
        return write(tx, *arguments)

    @contextmanager
    def losing(self: Database) -> Iterator[Transaction]:
        armed.now = False
        with transaction(self) as tx:
            yield tx
            _lose(lost, armed.now and not happened)
        _lose(lost, armed.now and happened)

    monkeypatch.setattr(commit, "_write", writing)
    monkeypatch.setattr(Database, "transaction", losing)
    return lost


def _lose(lost: list[str], now: bool) -> None:
    for _ in range(now):
        lost.append("lost")
        raise TransientError("no answer", code=OUTCOME_UNKNOWN)


def test_a_run_that_lost_its_lease_commits_nothing_and_does_not_try_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = commit._write

    def overtaken(tx: Transaction, claim: Any, *rest: Any) -> commit.Committed:
        connections.release_lease(tx, claim.connection, run_id=claim.run_id, epoch=claim.epoch)
        connections.claim_lease(tx, claim.connection, run_id=RunId("other"), host_id="h", ttl_s=60)
        return write(tx, claim, *rest)

    monkeypatch.setattr(commit, "_write", overtaken)
    report = world.run(world.connect(STREAM, config={"rows": 40}))
    assert (report.status, report.exit_code, report.attempts) == (Status.FAILED, 75, 1)
    assert world.units()["all"].rows_total == 0
    assert not world.table().exists()


class Stuck(sdk.Connector):
    """Sends two pages, then waits for the test in the midst of a third."""

    max_parallel = 2
    schema = pa.schema([("id", pa.int64())])
    here = threading.Event()
    go_on = threading.Event()

    def authenticate(self, config: Any, secrets: Mapping[str, str]) -> None:
        type(self).here, type(self).go_on = threading.Event(), threading.Event()

    def discover(self, session: None) -> Iterator[sdk.Stream]:
        yield sdk.Stream("rows", schema=self.schema, primary_key=["id"])

    def read(self, session: None, request: sdk.ReadRequest, out: sdk.Out) -> None:
        cursor = request.cursor if isinstance(request.cursor, dict) else {"next": 0}
        for page in range(cursor["next"], 4):
            out.emit([{"id": page * 10 + row} for row in range(10)])
            out.checkpoint({"next": page + 1})
            for event in [self.here] * (page == 1):
                event.set()
                self.go_on.wait(20)


@pytest.mark.parametrize(
    ("reason", "exit_code"), [(Reason.TERMINATED, 143), (Reason.INTERRUPTED, 130), (Reason.DEADLINE, 75)]
)
def test_a_run_asked_to_stop_commits_what_is_covered_and_is_gone_on_with(
    world: World, reason: Reason, exit_code: int
) -> None:
    world.connector = Stuck
    stop = Stop()
    file = world.connect("rows")
    reports: list[Any] = []
    runner = threading.Thread(target=lambda: reports.append(world.run(file, stop)))
    Stuck.here = threading.Event()
    first = Stuck.here
    runner.start()
    while not (first.is_set() or Stuck.here.wait(0.05)):
        assert runner.is_alive()
    stop.request(reason)
    Stuck.go_on.set()
    runner.join(30)
    assert (reports[0].status, reports[0].exit_code) == (Status.STOPPED, exit_code)
    assert world.units()["all"].rows_generation >= 20
    world.connector = Unstuck
    world.run(file)
    assert world.ids() == list(range(40))


class Unstuck(Stuck):
    """The same without the wait."""

    def read(self, session: None, request: sdk.ReadRequest, out: sdk.Out) -> None:
        self.go_on.set()
        super().read(session, request, out)


def test_a_unit_that_fails_ends_the_others_and_what_they_committed_stays(world: World) -> None:
    world.configure(commit={"max_bytes": 1}, run={"idle_attempts": 1})
    file = world.connect(STREAM, config={"rows": 400, "partitions": 4, "page_sleep_ms": 5})
    with world.failing(fail_at=320):
        report = world.run(file)
    assert (report.status, report.exit_code) == (Status.FAILED, 75)
    assert [
        thread.name for thread in threading.enumerate() if thread.name.startswith(("unit", "segment", "keeper"))
    ] == []
    world.run(file)
    assert world.ids() == list(range(400))
    assert world.generations() == [(1, "swapped", "replace")]


class Pausing(sdk.Connector):
    """Two units: `busy` sends a page and waits for room; then `slow` asks for an hour's pause, in one of two ways."""

    max_parallel = 2
    schema = pa.schema([("id", pa.int64())])
    way = "wait"
    sent = threading.Event()

    def authenticate(self, config: Any, secrets: Mapping[str, str]) -> None:
        type(self).sent = threading.Event()

    def discover(self, session: None) -> Iterator[sdk.Stream]:
        yield sdk.Stream("rows", schema=self.schema, primary_key=["id"])

    def plan(self, session: None, request: sdk.ReadRequest) -> sdk.Plan:
        return sdk.Plan((sdk.Unit("busy"), sdk.Unit("slow")))

    def check_plan(self, session: None, request: sdk.ReadRequest, units: Any) -> None:
        return None

    def read(self, session: None, request: sdk.ReadRequest, out: sdk.Out) -> None:
        getattr(self, request.unit.key)(out)

    def busy(self, out: sdk.Out) -> None:
        out.emit([{"id": number} for number in range(10)])
        out.checkpoint({"next": 10})
        self.sent.set()
        out.wait(datetime.now(UTC) + timedelta(seconds=2), "for the other unit")
        raise sdk.Fatal("nobody asked this unit to end")

    def slow(self, out: sdk.Out) -> None:
        self.sent.wait(20)
        if self.way == "wait":
            out.wait(datetime.now(UTC) + timedelta(hours=1), "the quota is used up")
        raise sdk.Throttled("the quota is used up", retry_after_s=3600)


@pytest.mark.parametrize("way", ["wait", "failure"])
def test_a_unit_that_has_to_pause_lets_the_others_commit_what_they_have(
    world: World, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(Pausing, "way", way)
    world.connector = Pausing
    report = world.run(world.connect("rows"), max_wait_s=60)
    assert (report.status, report.exit_code) == (Status.PARKED, 75)
    assert world.units()["busy"].rows_generation == 10
    assert report.streams[0].rows == 10


def test_a_stream_that_cannot_be_read_leaves_the_others_be(world: World) -> None:
    file = world.connect({"name": "rows", "columns": ["nonsense"]}, "events", config={"rows": 10})
    report = world.run(file)
    assert (report.status, report.exit_code) == (Status.PARTIAL, 3)
    assert [stream.error is None for stream in report.streams] == [False, True]
    assert world.rows("count(*)", stream="events") == [(10,)]


@pytest.mark.parametrize(
    ("fault", "exit_code", "attempts"),
    [
        ("transient", 75, 2),
        ("auth", 77, 2),
        ("configuration", 78, 1),
        ("data", 65, 1),
        ("fatal", 70, 1),
        ("exception", 70, 1),
    ],
)
def test_each_class_of_failure_has_its_exit_code(world: World, fault: str, exit_code: int, attempts: int) -> None:
    report = world.run(world.connect(config={"rows": 10, "fail_at": 0, "fail_as": fault}))
    assert (report.exit_code, report.attempts) == (exit_code, attempts)
    assert report.error is not None


def test_a_stream_the_source_does_not_have_is_the_users_mistake(world: World) -> None:
    report = world.run(world.connect("nonsense"))
    assert report.exit_code == 78
    assert report.error is not None
    assert "nonsense" in report.error.message


def test_a_call_while_it_runs_is_skipped_or_fails_or_waits(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    file = world.connect(config={"rows": 10})
    world.run(file)
    with world.database.transaction() as tx:
        connections.claim_lease(tx, file.key, run_id=RunId("other"), host_id="h", ttl_s=600)
    skipped = world.run(file)
    assert (skipped.status, skipped.exit_code, skipped.run_id) == (Status.SKIPPED, 0, "other")
    with pytest.raises(HeldError, match="other"):
        world.run(file, if_running="fail")
    stop = Stop()
    stop.request(Reason.INTERRUPTED)
    waiting = world.run(file, stop, if_running="wait")
    assert (waiting.status, waiting.exit_code) == (Status.STOPPED, 130)
    monkeypatch.setattr(Stop, "wait", lambda self, seconds: _released(world))
    assert world.run(file, if_running="wait").status is Status.SUCCEEDED


def _released(world: World) -> bool:
    with world.database.transaction() as tx:
        connections.release_lease(tx, world.key().connection, run_id=RunId("other"), epoch=2)
    return False


def test_a_logical_run_is_done_once(world: World) -> None:
    file = world.connect(config={"rows": 10})
    first = world.run(file, logical_run_id="2026-01-01")
    again = world.run(file, logical_run_id="2026-01-01")
    assert (again.status, again.exit_code, again.run_id) == (Status.ALREADY_DONE, 0, first.run_id)
    assert again.streams[0].rows == 10
    assert world.launches == 1


def test_a_logical_run_that_was_done_while_a_call_waited_is_not_done_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = world.connect(config={"rows": 10})
    world.run(file, logical_run_id="2026-01-01")
    monkeypatch.setattr("wellhead.lifecycle.run.earlier", _at_second_call(record.earlier))
    assert world.run(file, logical_run_id="2026-01-01").status is Status.ALREADY_DONE
    assert world.launches == 1


def _at_second_call(earlier: Any) -> Any:
    answers = iter([lambda *_: None, earlier])
    return lambda *arguments: next(answers)(*arguments)


def test_a_disabled_connection_is_skipped(world: World) -> None:
    report = world.run(world.connect(enabled=False))
    assert (report.status, report.exit_code, world.launches) == (Status.SKIPPED, 0, 0)


def test_a_plan_the_connector_cannot_serve_any_more_begins_a_new_generation(world: World) -> None:
    world.configure(commit={"max_bytes": 1}, run={"idle_attempts": 1})
    file = world.connect(STREAM)
    with world.failing(rows=40, fail_at=20):
        world.run(file)
    world.connector = Forgetful
    world.run(file)
    assert world.generations() == [(1, "abandoned", "replace"), (2, "swapped", "replace")]
    assert world.rows("count(*)") == [(40,)]


class Forgetful(Stuck):
    """Cannot serve a plan made by another process."""

    def check_plan(self, session: None, request: sdk.ReadRequest, units: Any) -> None:
        raise sdk.PlanStale("the snapshot is gone")

    def discover(self, session: None) -> Iterator[sdk.Stream]:
        yield sdk.Stream(
            "rows", schema=Rows("mixed", 0).schema, primary_key=["id"], cursor="updated_at", event_time="updated_at"
        )

    def read(self, session: None, request: sdk.ReadRequest, out: sdk.Out) -> None:
        out.emit(Rows("mixed", 0).batch(0, 40))
        out.checkpoint({"next": 40})


@pytest.mark.parametrize("place", ["publish", "swap"])
def test_a_run_that_could_not_finish_its_table_is_finished_by_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    world.configure(run={"idle_attempts": 1})
    file = world.connect(config={"rows": 10})
    with monkeypatch.context() as patch:
        patch.setattr(Parquet, place, _full)
        assert world.run(file).exit_code == 75
    assert not world.table().exists()
    claims: list[str] = []
    monkeypatch.setattr("wellhead.lifecycle.run._attempts", lambda *_: claims.append("read"))
    world.run(file)
    assert world.ids() == list(range(10))
    assert claims == ["read"]


def _full(*_: Any, **__: Any) -> None:
    raise TransientError("the disk is full", code=DISK_FULL)


def test_a_run_whose_end_cannot_be_stored_still_reports(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: Any) -> None:
        raise TransientError("the registry is away", code=OUTCOME_UNKNOWN)

    monkeypatch.setattr(runs, "finish", away)
    report = world.run(world.connect(config={"rows": 10}))
    assert (report.status, report.exit_code) == (Status.FAILED, 75)
    assert report.error is not None
    assert world.ids() == list(range(10))


def test_a_sink_that_moved_is_refused_while_it_holds_what_is_not_published(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.configure(run={"idle_attempts": 1})
    with monkeypatch.context() as patch:
        patch.setattr(Parquet, "publish", _full)
        world.run(world.connect(config={"rows": 10}))
    report = world.run(world.connect(config={"rows": 10}, sink={"path": "elsewhere"}))
    assert report.exit_code == 78


def test_what_was_committed_is_finished_although_the_connection_is_refused_now(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.configure(run={"idle_attempts": 1})
    with monkeypatch.context() as patch:
        patch.setattr(Parquet, "publish", _full)
        world.run(world.connect(STREAM, config={"rows": 10}))
    assert world.unpublished() == 1
    monkeypatch.setattr("wellhead.lifecycle.run.freeze", _refuse)
    report = world.run(world.connect(STREAM, config={"rows": 10}))
    assert (report.status, report.exit_code, world.unpublished()) == (Status.FAILED, 78, 0)
    assert world.ids() == list(range(10))


def test_that_recovery_fails_too_does_not_hide_why_a_connection_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wellhead.lifecycle.run.freeze", _refuse)
    (world.folder / "bronze").write_text("a file where the folder belongs")
    report = world.run(world.connect(config={"rows": 10}))
    assert report.error is not None
    assert report.error.code == WAITS.name
    lines = [json.loads(line) for line in world.host().log_file(RunId(report.run_id)).read_text().splitlines()]
    assert [line["code"] for line in lines if line["message"] == "not_recovered"] == [NOT_WRITABLE.name]


def test_nor_does_a_disk_that_is_full_when_it_is_recovered(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("wellhead.lifecycle.run.freeze", _refuse)
    monkeypatch.setattr(Parquet, "identity", full)
    report = world.run(world.connect(config={"rows": 10}))
    assert report.error is not None
    assert report.error.code == WAITS.name


def _refuse(*_: Any) -> None:
    raise ConfigurationError("a policy asks for approval", code=WAITS, hint="ask for it")


def test_recovery_ends_what_a_dead_run_left(world: World) -> None:
    file = world.connect(config={"rows": 10})
    _leave_dead(world, file)
    assert world.run(file).exit_code == 0
    with world.database.read() as tx:
        assert runs.get(tx, RunId("dead")).status == "lost"
    assert world.tape == ["reaped", "started", "stopped"]


def test_what_a_dead_run_left_is_ended_although_the_sink_is_refused(world: World) -> None:
    (world.folder / "bronze").write_text("a file where the folder belongs")
    file = world.connect(config={"rows": 10})
    _leave_dead(world, file)
    assert world.run(file).exit_code == 78
    with world.database.read() as tx:
        assert runs.get(tx, RunId("dead")).status == "lost"
    assert world.tape == ["reaped"]


def _leave_dead(world: World, file: ConnectionFile) -> None:
    with world.database.transaction() as tx:
        connections.onboard(
            tx, file.key, connector_id=ConnectorId("dev/generator"), version_range="*", channel="stable",
            enabled=True, file_sha256=file.sha256,
        )  # fmt: skip
        lease = connections.claim_lease(tx, file.key, run_id=RunId("dead"), host_id="h", ttl_s=-1)
        assert isinstance(lease, connections.Lease)
        runs.start(tx, runs.Start(RunId("dead"), file.key, "run", "h", ConnectorId("dev/generator"), lease.epoch))


def test_a_refused_filter_is_told_before_anything_is_read(world: World) -> None:
    with pytest.raises(ConfigurationError, match="takes one value"):
        world.connect({"name": "rows", "filters": {"id": {"=": [1, 2]}}})


def test_a_connection_that_was_removed_and_comes_back_goes_on_counting_epochs(world: World) -> None:
    file = world.connect({"name": "rows", "mode": "incremental"}, config={"rows": 10})
    world.run(file)
    with world.database.transaction() as tx:
        connections.remove(tx, file.key)
    world.run(world.connect({"name": "rows", "mode": "incremental"}, config={"rows": 20}))
    assert world.units()["all"].epoch == 2
    assert world.ids() == list(range(20))


class Plain(sdk.Connector):
    """Forty lines of an author who offers no checkpoint: the SDK offers one at the end, with the state of the start."""

    def authenticate(self, config: Any, secrets: Mapping[str, str]) -> str:
        return "session"

    def discover(self, session: str) -> Iterator[sdk.Stream]:
        yield sdk.Stream("rows", schema=pa.schema([("id", pa.int64())]))

    def read(self, session: str, request: sdk.ReadRequest, out: sdk.Out) -> None:
        out.emit([{"id": number} for number in range(20)])


class Standing(Plain):
    """Offers checkpoints that lead nowhere."""

    def read(self, session: str, request: sdk.ReadRequest, out: sdk.Out) -> None:
        for start in (0, 10):
            out.emit([{"id": number} for number in range(start, start + 10)])
            out.checkpoint(b"")


@pytest.mark.parametrize("connector", [Plain, Standing])
def test_rows_of_a_position_that_did_not_move_are_committed_once_whatever_fails(
    world: World, monkeypatch: pytest.MonkeyPatch, connector: type[Plain]
) -> None:
    """Committed before the unit's end they would be read once more, by the attempt after the one that failed."""
    world.configure(commit={"max_bytes": 1}, run={"idle_attempts": 3})
    world.connector = connector
    publish, failed = Parquet.publish, list[Any]()

    def fail_once(self: Parquet, segment: Any) -> None:
        if not failed:
            failed.append(segment)
            raise TransientError("the disk is away", code=DISK_FULL)
        publish(self, segment)

    monkeypatch.setattr(Parquet, "publish", fail_once)
    report = world.run(world.connect())
    assert (report.exit_code, report.attempts, len(failed)) == (0, 2, 1)
    assert world.ids() == list(range(20))


def test_a_source_that_delivers_again_is_committed_where_its_position_stands(world: World) -> None:
    class Queue(Standing):
        def discover(self, session: str) -> Iterator[sdk.Stream]:
            yield sdk.Stream("rows", schema=pa.schema([("id", pa.int64())]), replay="redelivery")

    world.configure(commit={"max_bytes": 1})
    world.connector = Queue
    assert world.run(world.connect()).exit_code == 0
    assert world.units()["all"].commit_no >= 2


def test_a_log_that_cannot_be_written_changes_nothing_of_a_run_but_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Host, "log_file", lambda *_: Path("/dev/full"))
    report = world.run(world.connect(config={"rows": 10, "fail_at": 0, "fail_as": "transient", "log_every": 1}))
    assert (report.status, report.exit_code, report.attempts) == (Status.FAILED, 75, 2)
    assert report.log_loss is not None
    with world.database.read() as tx:
        assert runs.get(tx, RunId(report.run_id)).status == "failed"
        assert [event.event for event in runs.events(tx, RunId(report.run_id))][-1] == record.LOG_EVENT
    whole = world.run(world.connect(config={"rows": 10, "log_every": 1}))
    assert whole.exit_code == 0
    assert world.ids() == list(range(10))


def test_a_keeper_that_meets_a_defect_ends_the_run_and_not_only_itself(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: object) -> bool:
        raise RuntimeError("a defect")

    told: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    monkeypatch.setattr(claim._Keeper, "_renew", fail)
    stop = Stop()
    with claim.claimed(
        world.database, world.connect(), host="h", ttl_s=0.03, logical_run_id=None, stop=stop, clock=SystemClock()
    ):
        assert stop.wait(20)
    assert stop.reason is Reason.FENCED
    assert [str(one.exc_value) for one in told] == ["a defect"]


def test_a_run_whose_sink_cannot_be_opened_is_recorded_with_that_error(world: World) -> None:
    (world.folder / "bronze").write_text("a file where the folder belongs")
    report = world.run(world.connect(config={"rows": 10}))
    assert (report.status, report.exit_code, report.streams[0].table) == (Status.FAILED, 78, None)
    assert report.error is not None
    assert report.error.code == NOT_WRITABLE.name
    with world.database.read() as tx:
        found = runs.get(tx, RunId(report.run_id))
    assert found.outcome is not None
    assert found.outcome.failure is not None
    assert (found.status, found.outcome.failure.code) == ("failed", NOT_WRITABLE.name)


class Wordy(Plain):
    """Sets records aside whose column takes more room than the record."""

    def read(self, session: str, request: sdk.ReadRequest, out: sdk.Out) -> None:
        for _ in range(200):
            out.reject(b"x", reason="malformed", column="c" * 4000)


def test_all_that_a_dead_letter_says_counts_towards_what_may_gather_in_memory(world: World) -> None:
    world.configure(commit={"max_bytes": 64 * 1024}, dead_letters={"max_rows": 1, "max_share": 0.0})
    world.connector = Wordy
    report = world.run(world.connect())
    told = report.error or report.streams[0].error
    assert told is not None
    assert told.message.startswith("15 of 15 records of rows were set aside")
