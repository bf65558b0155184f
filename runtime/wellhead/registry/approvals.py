"""``approvals``: the hosts a person opened for a connection whose manifest leaves them to the operator."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from wellhead.ids import ConnectionKey, ConnectorId
from wellhead.registry.database import Transaction
from wellhead.registry.tables import approvals as table
from wellhead.registry.tables import belongs_to, key_values


@dataclass(frozen=True, slots=True)
class Approval:
    """Leave for exactly one rendered host and port, and for one connector; None where that was not written down."""

    connector_id: ConnectorId | None
    host: str
    port: int
    who: str
    reason: str
    at: datetime
    revoked_at: datetime | None


def approve(
    tx: Transaction,
    connection: ConnectionKey,
    connector_id: ConnectorId,
    host: str,
    port: int,
    *,
    who: str,
    reason: str,
) -> bool:
    """Open one host and port for a connection as long as it uses this connector; say whether that is new."""
    if (host, port) in active(tx, connection, connector_id):
        return False
    tx.execute(
        sa.insert(table).values(
            **key_values(connection),
            connector_id=connector_id,
            host=host,
            port=port,
            who=who,
            reason=reason,
            approved_at=tx.time(),
        )
    )
    return True


def revoke(tx: Transaction, connection: ConnectionKey, host: str, port: int) -> bool:
    """Close one host and port again, for whichever connector they were opened; say whether they were."""
    result = tx.execute(
        sa.update(table)
        .where(
            belongs_to(table, connection),
            table.c.host == host,
            table.c.port == port,
            table.c.revoked_at.is_(None),
        )
        .values(revoked_at=tx.time())
    )
    return result.rowcount > 0


def active(tx: Transaction, connection: ConnectionKey, connector_id: ConnectorId) -> dict[tuple[str, int], Approval]:
    """Return what is open now, by host and port; what was opened for another connector is closed to this one."""
    return {
        (approval.host, approval.port): approval
        for approval in history(tx, connection)
        if approval.revoked_at is None and approval.connector_id == connector_id
    }


def history(tx: Transaction, connection: ConnectionKey) -> list[Approval]:
    """Return every approval there ever was, oldest first."""
    rows = tx.execute(sa.select(table).where(belongs_to(table, connection)).order_by(table.c.id))
    return [_approval(row) for row in rows]


def _approval(row: sa.Row[Any]) -> Approval:
    return Approval(row.connector_id, row.host, row.port, row.who, row.reason, row.approved_at, row.revoked_at)
