"""``compat_alerts``: drift, violations and other things a person should judge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from wellhead.errors import Code, ConfigurationError
from wellhead.ids import ConnectionKey, ConnectorId, RunId, StreamName
from wellhead.registry.database import Transaction
from wellhead.registry.tables import belongs_to, key_of, key_values
from wellhead.registry.tables import compat_alerts as table

UNKNOWN_ALERT = Code("WH-REG-070", "There is no such alert.")


@dataclass(frozen=True, slots=True)
class NewAlert:
    """What was found; ``severity`` is info, warning or breaking. A finding at publish has no connection."""

    kind: str
    severity: str
    connector_id: ConnectorId
    message: str
    version: str | None = None
    connection: ConnectionKey | None = None
    stream: StreamName | None = None
    run_id: RunId | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert as stored."""

    number: int
    raised_at: datetime
    alert: NewAlert
    acknowledged_at: datetime | None
    acknowledged_by: str | None


def note(tx: Transaction, alert: NewAlert) -> int:
    """Store an alert and return its number."""
    owner: dict[str, Any] = {} if alert.connection is None else key_values(alert.connection)
    return int(
        tx.execute(
            sa.insert(table)
            .values(
                **owner,
                raised_at=tx.time(),
                kind=alert.kind,
                severity=alert.severity,
                connector_id=alert.connector_id,
                version=alert.version,
                stream=alert.stream,
                run_id=alert.run_id,
                message=alert.message,
                details=dict(alert.details),
            )
            .returning(table.c.id)
        ).scalar_one()
    )


def latest(
    tx: Transaction,
    *,
    connection: ConnectionKey | None = None,
    connector_id: ConnectorId | None = None,
    only_open: bool = False,
    limit: int = 100,
) -> list[Alert]:
    """Return the newest alerts first; ``only_open`` leaves out what somebody has acknowledged."""
    query = sa.select(table).order_by(table.c.id.desc()).limit(limit)
    if connection is not None:
        query = query.where(belongs_to(table, connection))
    if connector_id is not None:
        query = query.where(table.c.connector_id == connector_id)
    if only_open:
        query = query.where(table.c.acknowledged_at.is_(None))
    return [_alert(row) for row in tx.execute(query)]


def acknowledge(tx: Transaction, number: int, who: str) -> None:
    """Say that a person has judged an alert; the first to say so stays.

    Raises:
        ConfigurationError: there is no such alert (WH-REG-070).
    """
    is_open = table.c.acknowledged_at.is_(None)
    tx.execute(
        sa.update(table).where(table.c.id == number, is_open).values(acknowledged_at=tx.time(), acknowledged_by=who)
    )
    if tx.execute(sa.select(table.c.id).where(table.c.id == number)).one_or_none() is None:
        raise ConfigurationError(
            f"there is no alert {number}", code=UNKNOWN_ALERT, hint="`wellhead alerts list --all` shows them"
        )


def _alert(row: sa.Row[Any]) -> Alert:
    return Alert(
        number=row.id,
        raised_at=row.raised_at,
        alert=NewAlert(
            kind=row.kind,
            severity=row.severity,
            connector_id=row.connector_id,
            message=row.message,
            version=row.version,
            connection=None if row.connection is None else key_of(row),
            stream=row.stream,
            run_id=row.run_id,
            details=row.details,
        ),
        acknowledged_at=row.acknowledged_at,
        acknowledged_by=row.acknowledged_by,
    )
