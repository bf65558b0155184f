"""``policy_approvals``: what a person allowed a connection although a policy asks for a person's word."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from wellhead.ids import ConnectionKey, ConnectorId
from wellhead.registry.database import Transaction
from wellhead.registry.tables import belongs_to, key_values
from wellhead.registry.tables import policy_approvals as table


@dataclass(frozen=True, slots=True)
class PolicyApproval:
    """Leave for one connection to use one connector under a policy as it read at the time (``sha256``)."""

    connector_id: ConnectorId
    policy: str
    sha256: str
    who: str
    reason: str
    at: datetime
    revoked_at: datetime | None


def approve(
    tx: Transaction,
    connection: ConnectionKey,
    connector_id: ConnectorId,
    policy: str,
    sha256: str,
    *,
    who: str,
    reason: str,
) -> bool:
    """Allow a connection what ``policy`` asks about; say whether that is new."""
    if (policy, sha256) in active(tx, connection, connector_id):
        return False
    tx.execute(
        sa.insert(table).values(
            **key_values(connection),
            connector_id=connector_id,
            policy=policy,
            sha256=sha256,
            who=who,
            reason=reason,
            approved_at=tx.time(),
        )
    )
    return True


def revoke(tx: Transaction, connection: ConnectionKey, policy: str) -> bool:
    """Take back whatever was allowed under ``policy``; say whether anything was."""
    result = tx.execute(
        sa.update(table)
        .where(belongs_to(table, connection), table.c.policy == policy, table.c.revoked_at.is_(None))
        .values(revoked_at=tx.time())
    )
    return result.rowcount > 0


def active(tx: Transaction, connection: ConnectionKey, connector_id: ConnectorId) -> set[tuple[str, str]]:
    """Return the (policy, sha256) that are allowed now; what was said about another connector does not count."""
    return {
        (one.policy, one.sha256)
        for one in history(tx, connection)
        if one.revoked_at is None and one.connector_id == connector_id
    }


def history(tx: Transaction, connection: ConnectionKey) -> list[PolicyApproval]:
    """Return every approval there ever was, oldest first."""
    rows = tx.execute(sa.select(table).where(belongs_to(table, connection)).order_by(table.c.id))
    return [_approval(row) for row in rows]


def _approval(row: sa.Row[Any]) -> PolicyApproval:
    return PolicyApproval(
        ConnectorId(row.connector_id), row.policy, row.sha256, row.who, row.reason, row.approved_at, row.revoked_at
    )
