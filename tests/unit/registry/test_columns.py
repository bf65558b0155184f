"""Values that no database takes are made storable; those that nobody but a person with an SQL shell can have written
are told with column, row and mend.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from wellhead.errors import FatalError
from wellhead.ids import ConnectorId, RunId, UnitKey
from wellhead.registry import alerts, catalog_events, connections, deadletters, runs
from wellhead.registry.columns import JsonArray, JsonObject, String, Text, Utc
from wellhead.registry.database import UNREADABLE_VALUE, Database, Transaction
from wellhead.registry.tables import metadata
from wellhead.registry.tables import tenant_connections as table

from .conftest import KEY, STREAM

#: A NUL, which PostgreSQL refuses, and half a surrogate pair, which has no UTF-8.
ODD = "a\0b\udc80c"
STORED = "a\ufffdb\ufffdc"


def begin(database: Database, *run_ids: str) -> None:
    with database.transaction() as tx:
        for run_id in run_ids:
            runs.start(tx, runs.Start(RunId(run_id), KEY, "run", "host-1", ConnectorId("dev/g"), 1))


def test_a_dead_letter_is_stored_whatever_characters_its_texts_have(onboarded: Database) -> None:
    place = deadletters.Place(STREAM, UnitKey("all"), 1, 1, 1, RunId("run-1"))
    odd = deadletters.Rejected(ODD, "00", 3, key_json=ODD, column=ODD, text=ODD, sample=b"a\0b\xff")
    with onboarded.transaction() as tx:
        deadletters.set_aside(tx, place, [odd])
    with onboarded.read() as tx:
        (stored,) = deadletters.latest(tx, KEY)
    assert stored.rejected == deadletters.Rejected(
        STORED, "00", 3, key_json=STORED, column=STORED, text=STORED, sample=b"a\0b\xff"
    )


def test_a_run_is_closed_whatever_characters_its_error_has(onboarded: Database) -> None:
    begin(onboarded, "run-1")
    failure = runs.Failure("FATAL", "WH-SES-045", ODD, ODD)
    with onboarded.transaction() as tx:
        runs.finish(tx, RunId("run-1"), runs.Outcome("failed", 70, failure, streams={ODD: {"error": ODD}}))
        runs.note_event(tx, RunId("run-1"), "connector.run.failed", {"said": ODD})
    with onboarded.read() as tx:
        found = runs.get(tx, RunId("run-1"))
    assert (found.status, found.outcome and found.outcome.failure) == (
        "failed",
        runs.Failure("FATAL", "WH-SES-045", STORED, STORED),
    )


def test_a_text_is_found_by_what_was_stored(onboarded: Database) -> None:
    with onboarded.transaction() as tx:
        connections.hold(tx, KEY, version=ODD, who="op", reason=ODD, until=None)
        found = tx.execute(sa.select(table.c.hold_reason).where(table.c.hold_version == ODD)).scalar_one()
    assert found == STORED


def test_every_text_of_the_registry_is_made_storable() -> None:
    texts = [
        c for table in metadata.tables.values() for c in table.columns if isinstance(c.type, (sa.String, String, Text))
    ]
    assert len(texts) > 100
    assert [column for column in texts if isinstance(column.type, sa.String)] == []


def spoil(database: Database, statement: str) -> None:
    with database.transaction() as tx:
        tx.execute(sa.text(statement))


def refused(database: Database, read: Callable[[Transaction], Any]) -> FatalError:
    with pytest.raises(FatalError) as caught, database.read() as tx:
        read(tx)
    assert caught.value.code == UNREADABLE_VALUE
    return caught.value


READS: dict[str, Callable[[Transaction], Any]] = {
    "show": lambda tx: runs.get(tx, RunId("run-2")),
    "list": runs.latest,
    "list of one connection": lambda tx: runs.latest(tx, KEY),
    "open": runs.open_runs,
}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("column", ["plan", "streams", "metrics", "cost", "timings", "receipt"])
def test_a_broken_document_of_a_run_is_told_with_its_run(onboarded_sqlite: Database, column: str, read: str) -> None:
    begin(onboarded_sqlite, "run-1", "run-2", "run-3")
    spoil(onboarded_sqlite, f"update connector_runs set {column} = '{{\"rows\": ' where run_id = 'run-2'")
    error = refused(onboarded_sqlite, READS[read])
    assert error.message == (
        f"in the registry, connector_runs.{column} is not a JSON object in the row of run_id run-2"
    )
    assert "restore the registry from its backup; it may also be set to NULL" in (error.hint or "")
    with onboarded_sqlite.read() as tx:
        assert runs.get(tx, RunId("run-1")).status == "running"


def test_a_document_of_another_kind_is_told_on_every_database(onboarded: Database) -> None:
    begin(onboarded, "run-1")
    spoil(onboarded, "update connector_runs set timings = '[1, 2]'")
    assert "connector_runs.timings is not a JSON object" in refused(onboarded, runs.latest).message


def test_a_time_that_is_none_is_told(onboarded_sqlite: Database) -> None:
    begin(onboarded_sqlite, "run-1")
    spoil(onboarded_sqlite, "update connector_runs set started_at = 'yesterday'")
    error = refused(onboarded_sqlite, runs.latest)
    assert "connector_runs.started_at is not a time" in error.message
    assert "yesterday" not in error.message
    assert "NULL" not in (error.hint or "")


SPOILT: dict[str, tuple[str, str, Callable[[Transaction], Any]]] = {
    "tenant_connections.decision": (
        "update tenant_connections set decision = '{'",
        "tenant_id default, project_id default, connection flights",
        connections.all_of,
    ),
    "run_events.details": (
        "insert into run_events (run_id, happened_at, event, details)"
        " values ('run-1', '2026-01-02 03:04:05.000000', 'said', 'no')",
        "id 1",
        lambda tx: runs.events(tx, RunId("run-1")),
    ),
    "catalog_events.details": (
        "insert into catalog_events (happened_at, event, connector_id, who, details)"
        " values ('2026-01-02 03:04:05.000000', 'published', 'dev/g', 'op', '')",
        "id 1",
        lambda tx: catalog_events.all_of(tx, ConnectorId("dev/g")),
    ),
    "compat_alerts.details": (
        "insert into compat_alerts (raised_at, kind, severity, connector_id, message, details)"
        " values ('2026-01-02 03:04:05.000000', 'k', 'info', 'dev/g', 'm', 'null')",
        "id 1",
        alerts.latest,
    ),
}


@pytest.mark.parametrize("column", SPOILT)
def test_the_other_tables_tell_it_as_well(onboarded_sqlite: Database, column: str) -> None:
    statement, row, read = SPOILT[column]
    spoil(onboarded_sqlite, statement)
    assert refused(onboarded_sqlite, read).message.endswith(f"{column} is not a JSON object in the row of {row}")


def test_a_value_that_cannot_be_read_rolls_a_change_back(onboarded_sqlite: Database) -> None:
    begin(onboarded_sqlite, "run-1")
    spoil(onboarded_sqlite, "update connector_runs set plan = 'x'")

    def disable_and_read() -> None:
        with onboarded_sqlite.transaction() as tx:
            connections.set_enabled(tx, KEY, enabled=False)
            runs.get(tx, RunId("run-1"))

    with pytest.raises(FatalError):
        disable_and_read()
    with onboarded_sqlite.read() as tx:
        assert connections.get(tx, KEY).enabled


def test_every_time_and_document_has_a_type_that_knows_its_column() -> None:
    special = [
        column
        for table in metadata.tables.values()
        for column in table.columns
        if isinstance(column.type, (sa.JSON, sa.DateTime, Utc, JsonObject, JsonArray))
    ]
    assert len(special) > 40
    assert [column for column in special if getattr(column.type, "column", None) is not column] == []
