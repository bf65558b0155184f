"""Values that nobody but a person with an SQL shell can have written: told with column, row and mend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from wellhead.errors import FatalError
from wellhead.ids import ConnectorId, RunId
from wellhead.registry import alerts, catalog_events, connections, runs
from wellhead.registry.columns import JsonArray, JsonObject, Utc
from wellhead.registry.database import UNREADABLE_VALUE, Database, Transaction
from wellhead.registry.tables import metadata

from .conftest import KEY


def begin(database: Database, *run_ids: str) -> None:
    with database.transaction() as tx:
        for run_id in run_ids:
            runs.start(tx, runs.Start(RunId(run_id), KEY, "run", "host-1", ConnectorId("dev/g"), 1))


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
