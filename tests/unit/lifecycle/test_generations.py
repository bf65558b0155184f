"""Who may begin a generation, what an unfinished one is bound to, and what is left of one that was given up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.lifecycle.conftest import World
from wellhead.errors import TransientError
from wellhead.ids import RunId
from wellhead.lifecycle import commit, recover, stream
from wellhead.lifecycle.claim import Claim
from wellhead.lifecycle.report import Report, Status
from wellhead.registry import connections, generations, run_state
from wellhead.registry.database import FENCED
from wellhead.registry.run_state import MOVED_ON
from wellhead.sinks.parquet import Parquet

pytestmark = pytest.mark.slow

STREAM = {"name": "rows", "batch_size": 10}
INCREMENTAL = {**STREAM, "mode": "incremental"}


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
    file = world.connect(selection, config={"rows": 40, "fail_at": 20}, **rest)
    assert world.run(file).exit_code == 75
    return file
