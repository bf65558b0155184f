"""Onboarding, holds and the lease with its epoch."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from wellhead.errors import ConfigurationError, TransientError
from wellhead.ids import ConnectorId, Digest, RunId
from wellhead.registry import approvals, connections
from wellhead.registry.connections import Holder, Lease
from wellhead.registry.database import Database
from wellhead.registry.migrations import upgrade

from .conftest import KEY, LATER, until_one_waits

FIRST, SECOND = RunId("run-1"), RunId("run-2")


def claim(database: Database, run_id: RunId, ttl_s: float = 30) -> Lease | Holder:
    with database.transaction() as tx:
        return connections.claim_lease(tx, KEY, run_id=run_id, host_id=f"host-of-{run_id}", ttl_s=ttl_s)


def lease(database: Database, run_id: RunId, ttl_s: float = 30) -> Lease:
    claimed = claim(database, run_id, ttl_s)
    assert isinstance(claimed, Lease)
    return claimed


def require(database: Database, run_id: RunId, epoch: int) -> None:
    with database.transaction() as tx:
        connections.require_epoch(tx, KEY, run_id=run_id, epoch=epoch)


def test_a_free_connection_is_claimed_with_the_next_epoch(onboarded: Database) -> None:
    assert lease(onboarded, FIRST).epoch == 1
    require(onboarded, FIRST, 1)


def test_a_held_connection_names_its_holder(onboarded: Database) -> None:
    held = lease(onboarded, FIRST)
    assert claim(onboarded, SECOND) == Holder(FIRST, "host-of-run-1", 1, held.until)
    require(onboarded, FIRST, 1)


def test_a_lease_that_ran_out_is_taken_and_its_holder_fenced(onboarded: Database) -> None:
    lease(onboarded, FIRST, ttl_s=-1)
    assert lease(onboarded, SECOND).epoch == 2
    with pytest.raises(TransientError) as caught:
        require(onboarded, FIRST, 1)
    assert caught.value.code.name == "WH-REG-010"


def test_a_fenced_run_cannot_renew(onboarded: Database) -> None:
    lease(onboarded, FIRST, ttl_s=-1)
    lease(onboarded, SECOND)
    with pytest.raises(TransientError), onboarded.transaction() as tx:
        connections.renew_lease(tx, KEY, run_id=FIRST, epoch=1, ttl_s=30)


def test_a_run_that_claims_twice_is_fenced_from_its_first_epoch(onboarded: Database) -> None:
    lease(onboarded, FIRST, ttl_s=-1)
    lease(onboarded, FIRST)
    with pytest.raises(TransientError):
        require(onboarded, FIRST, 1)
    require(onboarded, FIRST, 2)


def test_a_lease_that_ran_out_is_renewed_while_nobody_took_it(onboarded: Database) -> None:
    ended = lease(onboarded, FIRST, ttl_s=-1)
    with onboarded.transaction() as tx:
        assert connections.renew_lease(tx, KEY, run_id=FIRST, epoch=1, ttl_s=30) > ended.until
    assert isinstance(claim(onboarded, SECOND), Holder)


def test_a_released_lease_keeps_its_epoch(onboarded: Database) -> None:
    lease(onboarded, FIRST)
    with onboarded.transaction() as tx:
        assert connections.release_lease(tx, KEY, run_id=FIRST, epoch=1)
        assert not connections.release_lease(tx, KEY, run_id=FIRST, epoch=1)
    assert lease(onboarded, SECOND).epoch == 2


def test_a_released_lease_commits_nothing_more(onboarded: Database) -> None:
    lease(onboarded, FIRST)
    with onboarded.transaction() as tx:
        connections.release_lease(tx, KEY, run_id=FIRST, epoch=1)
    with pytest.raises(TransientError):
        require(onboarded, FIRST, 1)


def test_releasing_does_not_take_the_lease_of_another(onboarded: Database) -> None:
    lease(onboarded, FIRST, ttl_s=-1)
    lease(onboarded, SECOND)
    with onboarded.transaction() as tx:
        assert not connections.release_lease(tx, KEY, run_id=FIRST, epoch=1)
    require(onboarded, SECOND, 2)


def test_an_operator_can_take_a_lease_away(onboarded: Database) -> None:
    held = lease(onboarded, FIRST)
    with onboarded.transaction() as tx:
        assert connections.force_release_lease(tx, KEY) == held
        assert connections.force_release_lease(tx, KEY) is None
    with pytest.raises(TransientError):
        require(onboarded, FIRST, 1)
    assert lease(onboarded, SECOND).epoch == 3


def test_of_many_claims_at_once_one_wins(onboarded: Database) -> None:
    won: list[Lease | Holder] = []
    threads = [threading.Thread(target=lambda n=n: won.append(claim(onboarded, RunId(f"run-{n}")))) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [claimed for claimed in won if isinstance(claimed, Lease)]
    losers = {(claimed.run_id, claimed.epoch) for claimed in won if isinstance(claimed, Holder)}
    assert len(won) == 8
    assert len(winners) == 1
    assert losers == {(winners[0].run_id, 1)}


def test_an_unknown_connection_cannot_be_claimed(database: Database) -> None:
    with pytest.raises(ConfigurationError) as caught:
        claim(database, FIRST)
    assert caught.value.code.name == "WH-REG-030"


def onboard(database: Database, **changes: object) -> connections.TenantConnection:
    said = {
        "connector_id": "wellhead/postgres",
        "version_range": "^1",
        "channel": "stable",
        "enabled": True,
        "file_sha256": "00",
    } | changes
    with database.transaction() as tx:
        return connections.onboard(tx, KEY, **said)  # type: ignore[arg-type]


def decide(database: Database) -> None:
    with database.transaction() as tx:
        connections.hold(tx, KEY, version="1.0.0", who="op", reason="1.1.0 is slow", until=LATER)
        connections.set_resolved(tx, KEY, version="1.0.0", digest=Digest("sha256:aa"), decision={"chosen": "1.0.0"})
        connections.approve_surface(tx, KEY, {"hosts": ["db.example.com:5432"]})


def test_onboarding_the_same_file_again_changes_nothing(onboarded: Database) -> None:
    with onboarded.read() as tx:
        before = connections.get(tx, KEY)
    assert onboard(onboarded) == before


def test_a_changed_file_keeps_lease_hold_and_approvals(onboarded: Database) -> None:
    lease(onboarded, FIRST)
    decide(onboarded)
    after = onboard(onboarded, version_range="^2", file_sha256="01")
    assert (after.version_range, after.file_sha256, after.status) == ("^2", "01", "configured")
    assert after.hold is not None
    assert (after.hold.version, after.hold.who, after.hold.until) == ("1.0.0", "op", LATER)
    assert after.approved_surface == {"hosts": ["db.example.com:5432"]}
    assert after.resolved is not None
    assert after.resolved.decision == {"chosen": "1.0.0"}
    assert after.lease is not None
    assert after.lease.run_id == FIRST


def test_another_connector_under_the_same_name_starts_without_decisions(onboarded: Database) -> None:
    lease(onboarded, FIRST)
    decide(onboarded)
    after = onboard(onboarded, connector_id="wellhead/http-json")
    assert (after.hold, after.resolved, after.approved_surface) == (None, None, None)
    assert after.epoch == 1


def test_a_hold_is_released_once(onboarded: Database) -> None:
    decide(onboarded)
    with onboarded.transaction() as tx:
        assert connections.release_hold(tx, KEY).version == "1.0.0"
    with pytest.raises(ConfigurationError) as caught, onboarded.transaction() as tx:
        connections.release_hold(tx, KEY)
    assert caught.value.code.name == "WH-REG-031"


def test_connections_are_listed_by_key_and_removed(onboarded: Database) -> None:
    with onboarded.transaction() as tx:
        connections.set_enabled(tx, KEY, enabled=False)
        connections.set_status(tx, KEY, "ready")
        assert [(found.connection, found.enabled, found.status) for found in connections.all_of(tx, "default")] == [
            (KEY, False, "ready")
        ]
        assert connections.all_of(tx, "elsewhere") == []
        connections.remove(tx, KEY)
        assert connections.find(tx, KEY) is None
    with pytest.raises(ConfigurationError), onboarded.transaction() as tx:
        connections.set_enabled(tx, KEY, enabled=True)


def test_a_connection_is_bound_to_the_place_it_was_written_to(onboarded: Database) -> None:
    with onboarded.transaction() as tx:
        connections.bind_sink(tx, KEY, "here")
        connections.bind_sink(tx, KEY, "here")
    with pytest.raises(ConfigurationError) as caught, onboarded.transaction() as tx:
        connections.bind_sink(tx, KEY, "elsewhere")
    assert caught.value.code.name == "WH-REG-032"
    with onboarded.transaction() as tx:
        connections.bind_sink(tx, KEY, "elsewhere", rebind=True)
        assert connections.get(tx, KEY).sink_id == "elsewhere"


POSTGRES, OTHER = ConnectorId("wellhead/postgres"), ConnectorId("dev/other")


def test_an_approval_opens_exactly_one_host_and_port_until_revoked(onboarded: Database) -> None:
    with onboarded.transaction() as tx:
        assert approvals.approve(tx, KEY, POSTGRES, "db.example.com", 5432, who="op", reason="ticket 7")
        assert not approvals.approve(tx, KEY, POSTGRES, "db.example.com", 5432, who="op", reason="again")
        assert set(approvals.active(tx, KEY, POSTGRES)) == {("db.example.com", 5432)}
        assert approvals.revoke(tx, KEY, "db.example.com", 5432)
        assert not approvals.revoke(tx, KEY, "db.example.com", 5432)
        assert approvals.active(tx, KEY, POSTGRES) == {}
        assert approvals.approve(tx, KEY, POSTGRES, "db.example.com", 5432, who="op", reason="once more")
        assert [approval.reason for approval in approvals.history(tx, KEY)] == ["ticket 7", "once more"]


def test_a_host_opened_for_one_connector_is_closed_to_another(onboarded: Database) -> None:
    with onboarded.transaction() as tx:
        approvals.approve(tx, KEY, POSTGRES, "db.example.com", 5432, who="op", reason="ticket 7")
        assert approvals.active(tx, KEY, OTHER) == {}
        assert approvals.approve(tx, KEY, OTHER, "db.example.com", 5432, who="op", reason="ticket 8")
        assert [approval.reason for approval in approvals.active(tx, KEY, OTHER).values()] == ["ticket 8"]
        assert approvals.revoke(tx, KEY, "db.example.com", 5432)
        assert (approvals.active(tx, KEY, POSTGRES), approvals.active(tx, KEY, OTHER)) == ({}, {})


def test_an_approval_of_before_connectors_were_written_down_counts_for_none(tmp_path: Path) -> None:
    database = Database.open(f"sqlite:///{tmp_path}/registry.db")
    with database.transaction() as tx:
        upgrade.to("0004", tx._connection)
        tx.execute(
            sa.text(
                "insert into approvals (tenant_id, project_id, connection, host, port, who, reason, approved_at)"
                " values ('default', 'default', 'flights', 'db.example.com', 5432, 'op', 'ticket 7', '2026-01-02')"
            )
        )
    assert database.migrate()
    with database.read() as tx:
        assert approvals.active(tx, KEY, POSTGRES) == {}
        (told,) = approvals.history(tx, KEY)
    database.close()
    assert (told.host, told.reason, told.connector_id) == ("db.example.com", "ticket 7", None)


@pytest.mark.real
def test_of_two_first_calls_at_once_one_has_the_connection_and_the_other_hears_of_it(
    empty_postgresql: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    find, both_looked = connections.find, threading.Barrier(2)

    def look(*arguments: Any, **options: Any) -> Any:
        found = find(*arguments, **options)
        for _ in [None] * (found is None):
            both_looked.wait(20)
        return found

    monkeypatch.setattr(connections, "find", look)

    def call(run_id: RunId) -> Lease | Holder:
        with empty_postgresql.transaction() as tx:
            connections.onboard(
                tx, KEY, connector_id=ConnectorId("dev/g"), version_range="*", channel="stable", enabled=True,
                file_sha256="00",
            )  # fmt: skip
            return connections.claim_lease(tx, KEY, run_id=run_id, host_id="h", ttl_s=30)

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(call, (FIRST, SECOND)))
    assert {type(answer) for answer in answers} == {Lease, Holder}
    assert len({answer.run_id for answer in answers}) == 1


@pytest.mark.real
def test_a_hold_that_is_set_while_another_is_released_is_the_one_that_is_told(empty_postgresql: Database) -> None:
    onboard(empty_postgresql)
    decide(empty_postgresql)

    def release() -> connections.Hold:
        with empty_postgresql.transaction() as tx:
            return connections.release_hold(tx, KEY)

    with ThreadPoolExecutor(1) as pool:
        with empty_postgresql.transaction() as tx:
            connections.hold(tx, KEY, version="0.9.0", who="op", reason="1.0.0 loses rows", until=None)
            released = pool.submit(release)
            until_one_waits(empty_postgresql)
        assert released.result().version == "0.9.0"
