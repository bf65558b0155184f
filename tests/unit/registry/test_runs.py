"""Runs, their events and tokens, and the smaller tables around releases and streams."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from wellhead.errors import ConfigurationError, FatalError, RefusedError
from wellhead.ids import ConnectorId, Digest, RunId
from wellhead.registry import (
    alerts,
    catalog_events,
    channels,
    definitions,
    egress_audit,
    revocations,
    runs,
    streams,
)
from wellhead.registry.database import Database
from wellhead.registry.definitions import PlatformImage, Release
from wellhead.registry.runs import Failure, Kind, Outcome, Run, Start

from .conftest import KEY, LATER, RUN, STREAM, until_one_waits

RELEASE = Release(
    connector_id=ConnectorId("wellhead/postgres"),
    version="1.0.0",
    index_digest=Digest("sha256:aa"),
    manifest_sha256="bb",
    platforms={"linux/amd64": PlatformImage(Digest("sha256:cc"), Digest("sha256:dd"))},
    manifest={"metadata": {"id": "wellhead/postgres"}},
    key_id="key",
    published_at=LATER,
)


def begin(
    database: Database, run_id: str, *, epoch: int | None = 1, kind: Kind = "run", logical: str | None = None
) -> Run:
    with database.transaction() as tx:
        return runs.start(tx, Start(RunId(run_id), KEY, kind, "host", RELEASE.connector_id, epoch, logical))


def test_a_run_records_what_happened_to_it(database: Database) -> None:
    begin(database, RUN, logical="2026-01-01")
    outcome = Outcome(
        "failed",
        75,
        Failure("TRANSIENT", "WH-X-1", "what", "mend"),
        LATER,
        {"public.flights": {"rows": 3}},
        {"requests_total": 1},
        {"bytes": 2},
        {"launch_s": 0.2},
        {"image": "sha256:aa"},
    )
    with database.transaction() as tx:
        runs.set_plan(tx, RUN, version="1.0.0", index_digest=Digest("sha256:aa"), plan={"streams": []})
        runs.set_accessor(tx, RUN, "accessor")
        runs.set_image(tx, RUN, Digest("sha256:dd"))
        runs.note_attempt(tx, RUN, 2)
        runs.heartbeat(tx, RUN)
        runs.finish(tx, RUN, outcome)
        found = runs.get(tx, RUN)
    assert found.outcome == outcome
    assert (found.status, found.attempt, found.token_accessor, found.image_id) == ("failed", 2, "accessor", "sha256:dd")
    assert (found.version, found.plan, found.logical_run_id, found.epoch) == ("1.0.0", {"streams": []}, "2026-01-01", 1)
    assert found.finished_at is not None
    assert found.finished_at >= found.heartbeat_at >= found.started_at


def test_a_run_is_closed_once(database: Database) -> None:
    begin(database, RUN)
    with database.transaction() as tx:
        runs.finish(tx, RUN, Outcome("succeeded", 0))
        runs.finish(tx, RUN, Outcome("succeeded", 0))
    with pytest.raises(FatalError) as caught, database.transaction() as tx:
        runs.finish(tx, RUN, Outcome("failed", 70))
    assert caught.value.code.name == "WH-REG-041"
    with database.read() as tx:
        assert runs.get(tx, RUN).status == "succeeded"


def test_dead_runs_of_lower_epochs_are_closed_and_named(database: Database) -> None:
    begin(database, "run-1", epoch=1)
    begin(database, "run-2", epoch=2)
    begin(database, "run-3", epoch=3)
    begin(database, "run-4", epoch=None, kind="probe")
    with database.transaction() as tx:
        runs.set_accessor(tx, RunId("run-1"), "accessor-1")
        lost = runs.mark_lost(tx, KEY, below_epoch=3)
        assert [(run.run_id, run.status, run.token_accessor) for run in lost] == [
            ("run-1", "lost", "accessor-1"),
            ("run-2", "lost", None),
        ]
        assert [run.run_id for run in runs.open_runs(tx, KEY)] == ["run-3", "run-4"]
        runs.close_probe(tx, RunId("run-4"))
        runs.close_probe(tx, RunId("run-3"))
        assert [run.run_id for run in runs.open_runs(tx)] == ["run-3"]


def test_the_newest_run_of_a_logical_id_is_found(database: Database) -> None:
    begin(database, "run-1", logical="day-1")
    begin(database, "run-2", logical="day-1")
    begin(database, "run-3", logical="day-2")
    with database.read() as tx:
        found = runs.by_logical_id(tx, KEY, "day-1")
        assert found is not None
        assert found.run_id == "run-2"
        assert runs.by_logical_id(tx, KEY, "day-3") is None
        assert [run.run_id for run in runs.latest(tx, KEY, limit=2)] == ["run-3", "run-2"]
        assert runs.latest(tx, kind="probe") == []


def test_a_run_that_is_not_there_is_a_configuration_error(database: Database) -> None:
    with pytest.raises(ConfigurationError) as caught, database.transaction() as tx:
        runs.heartbeat(tx, RUN)
    assert caught.value.code.name == "WH-REG-040"


def test_audit_events_keep_their_order(database: Database) -> None:
    with database.transaction() as tx:
        runs.note_event(tx, RUN, "connector.run.started", {"attempt": 1})
        runs.note_event(tx, RUN, "connector.run.failed", {})
        assert [(event.event, event.details) for event in runs.events(tx, RUN)] == [
            ("connector.run.started", {"attempt": 1}),
            ("connector.run.failed", {}),
        ]


def test_a_token_is_pending_until_it_is_removed(database: Database) -> None:
    with database.transaction() as tx:
        revocations.add(tx, "accessor", RUN, ttl_s=60)
        [pending] = revocations.all_of(tx, RUN)
        revocations.prolong(tx, "accessor", ttl_s=120)
        [longer] = revocations.all_of(tx)
        assert longer.expires_at > pending.expires_at > pending.created_at
        revocations.remove(tx, "accessor")
        revocations.remove(tx, "accessor")
        assert revocations.all_of(tx) == []


def test_a_runs_contacts_are_kept_in_order(database: Database) -> None:
    contacts = [
        egress_audit.Contact(LATER, "db.example.com", 5432, "allow", "listed", "192.0.2.1", 10, 2**33, 5),
        egress_audit.Contact(LATER, "evil.example", 443, "deny", "not_listed"),
    ]
    with database.transaction() as tx:
        egress_audit.note(tx, RUN, contacts)
        egress_audit.note(tx, RUN, [])
        assert egress_audit.of_run(tx, RUN) == contacts


def test_a_release_is_registered_once_and_never_changes(database: Database) -> None:
    with database.transaction() as tx:
        assert definitions.register(tx, RELEASE)
        definitions.set_status(tx, RELEASE.connector_id, "1.0.0", "yanked", "wrong totals")
        assert not definitions.register(tx, RELEASE)
        assert definitions.get(tx, RELEASE.connector_id, "1.0.0") == replace(
            RELEASE, status="yanked", status_reason="wrong totals"
        )
        assert definitions.all_of(tx, RELEASE.connector_id) == definitions.all_of(tx)
    with pytest.raises(RefusedError) as caught, database.transaction() as tx:
        definitions.register(tx, replace(RELEASE, index_digest=Digest("sha256:ee")))
    assert caught.value.code.name == "WH-REG-020"


def register(database: Database, release: Release) -> bool:
    with database.transaction() as tx:
        return definitions.register(tx, release)


@pytest.mark.real
def test_of_two_who_register_a_release_at_once_the_second_changes_nothing(empty_postgresql: Database) -> None:
    with ThreadPoolExecutor(1) as pool:
        with empty_postgresql.transaction() as tx:
            assert definitions.register(tx, RELEASE)
            second = pool.submit(register, empty_postgresql, replace(RELEASE, key_id="another"))
            until_one_waits(empty_postgresql)
        assert not second.result()
    with empty_postgresql.read() as tx:
        assert definitions.all_of(tx) == [RELEASE]


@pytest.mark.real
def test_of_two_who_register_a_version_at_once_with_other_bytes_the_second_is_refused(
    empty_postgresql: Database,
) -> None:
    with ThreadPoolExecutor(1) as pool:
        with empty_postgresql.transaction() as tx:
            assert definitions.register(tx, RELEASE)
            second = pool.submit(register, empty_postgresql, replace(RELEASE, index_digest=Digest("sha256:ee")))
            until_one_waits(empty_postgresql)
        with pytest.raises(RefusedError) as caught:
            second.result()
    assert caught.value.code.name == "WH-REG-020"


def test_the_bytes_of_a_release_are_no_other_release(database: Database) -> None:
    register(database, RELEASE)
    with pytest.raises(FatalError) as caught:
        register(database, replace(RELEASE, version="1.0.1"))
    assert caught.value.code.name == "WH-REG-009"


def test_a_release_that_is_not_there_is_a_configuration_error(database: Database) -> None:
    with pytest.raises(ConfigurationError) as caught, database.transaction() as tx:
        definitions.set_status(tx, RELEASE.connector_id, "9.9.9", "blocked", None)
    assert caught.value.code.name == "WH-REG-021"


def test_a_channel_points_where_it_was_pointed_last(database: Database) -> None:
    with database.transaction() as tx:
        for version in ("1.0.0", "1.1.0", "1.0.0"):
            channels.point(
                tx,
                RELEASE.connector_id,
                "stable",
                version=version,
                index_digest=Digest(f"sha256:{version}"),
                who="op",
                reason="test",
            )
        channels.point(
            tx,
            RELEASE.connector_id,
            "candidate",
            version="2.0.0",
            index_digest=Digest("sha256:2"),
            who="op",
            reason="try",
        )
        assert {name: at.version for name, at in channels.current(tx, RELEASE.connector_id).items()} == {
            "stable": "1.0.0",
            "candidate": "2.0.0",
        }
        assert [at.version for at in channels.history(tx, RELEASE.connector_id, "stable")] == [
            "1.0.0",
            "1.1.0",
            "1.0.0",
        ]


def test_catalog_events_tell_who_did_what(database: Database) -> None:
    with database.transaction() as tx:
        catalog_events.note(tx, "published", RELEASE.connector_id, who="op", version="1.0.0", details={"key": "k"})
        [event] = catalog_events.all_of(tx, RELEASE.connector_id)
    assert (event.event, event.version, event.who, event.details) == ("published", "1.0.0", "op", {"key": "k"})


def test_a_streams_shape_gets_a_new_version_only_when_it_changes(database: Database) -> None:
    narrow = streams.Shape("f1", b"schema 1", ("id",), ("updated_at",))
    wide = streams.Shape("f2", b"schema 2", ("id",))
    with database.transaction() as tx:
        assert streams.latest(tx, STREAM) is None
        seen = [
            streams.observe(tx, STREAM, shape, release_version="1.0.0", run_id=RUN)
            for shape in (narrow, narrow, wide, narrow)
        ]
        assert [version.number for version in seen] == [1, 1, 2, 3]
        assert streams.all_of(tx, KEY) == seen[1:]
        assert seen[0].shape == narrow


def test_alerts_are_kept_until_acknowledged(database: Database) -> None:
    about_release = alerts.NewAlert("local_state", "breaking", RELEASE.connector_id, "writes /var", "1.0.0")
    about_stream = alerts.NewAlert(
        "column_removed",
        "warning",
        RELEASE.connector_id,
        "b is gone",
        "1.0.0",
        KEY,
        STREAM.stream,
        RUN,
        {"column": "b"},
    )
    with database.transaction() as tx:
        alerts.note(tx, about_release)
        number = alerts.note(tx, about_stream)
        assert [found.alert for found in alerts.latest(tx)] == [about_stream, about_release]
        assert [found.alert for found in alerts.latest(tx, connection=KEY)] == [about_stream]
        alerts.acknowledge(tx, number, "op")
        alerts.acknowledge(tx, number, "another")
        assert [found.acknowledged_by for found in alerts.latest(tx, connector_id=RELEASE.connector_id)] == ["op", None]
        assert [found.alert for found in alerts.latest(tx, only_open=True)] == [about_release]
    with pytest.raises(ConfigurationError) as caught, database.transaction() as tx:
        alerts.acknowledge(tx, 4711, "op")
    assert caught.value.code.name == "WH-REG-070"
