"""``catalog_events``: who published, promoted, held, rolled back or blocked what, and when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from wellhead.ids import ConnectorId
from wellhead.registry.database import Transaction
from wellhead.registry.tables import catalog_events as table


@dataclass(frozen=True, slots=True)
class CatalogEvent:
    """One thing that was done to a connector's releases."""

    at: datetime
    event: str
    connector_id: ConnectorId
    version: str | None
    who: str
    details: Mapping[str, Any]


def note(
    tx: Transaction,
    event: str,
    connector_id: ConnectorId,
    *,
    who: str,
    version: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Append an event."""
    tx.execute(
        sa.insert(table).values(
            happened_at=tx.time(),
            event=event,
            connector_id=connector_id,
            version=version,
            who=who,
            details=dict(details or {}),
        )
    )


def all_of(tx: Transaction, connector_id: ConnectorId) -> list[CatalogEvent]:
    """Return a connector's events, oldest first."""
    rows = tx.execute(sa.select(table).where(table.c.connector_id == connector_id).order_by(table.c.id))
    return [
        CatalogEvent(row.happened_at, row.event, row.connector_id, row.version, row.who, row.details) for row in rows
    ]
