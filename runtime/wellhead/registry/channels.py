"""``channels``: append-only pointers from a connector's channel to a release; the newest one counts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from wellhead.ids import ConnectorId, Digest
from wellhead.registry.database import Transaction
from wellhead.registry.tables import channels as table


@dataclass(frozen=True, slots=True)
class Pointer:
    """Where a channel points, since when and why."""

    connector_id: ConnectorId
    channel: str
    version: str
    index_digest: Digest
    who: str
    reason: str
    at: datetime


def point(
    tx: Transaction,
    connector_id: ConnectorId,
    channel: str,
    *,
    version: str,
    index_digest: Digest,
    who: str,
    reason: str,
) -> Pointer:
    """Let a channel point to a release from now on."""
    row = tx.execute(
        sa.insert(table)
        .values(
            connector_id=connector_id,
            channel=channel,
            version=version,
            index_digest=index_digest,
            who=who,
            reason=reason,
            pointed_at=tx.time(),
        )
        .returning(table)
    ).one()
    return _pointer(row)


def current(tx: Transaction, connector_id: ConnectorId) -> dict[str, Pointer]:
    """Return where each channel of a connector points now."""
    return {pointer.channel: pointer for pointer in history(tx, connector_id)}


def history(tx: Transaction, connector_id: ConnectorId, channel: str | None = None) -> list[Pointer]:
    """Return every pointer there ever was, oldest first."""
    query = sa.select(table).where(table.c.connector_id == connector_id).order_by(table.c.id)
    if channel is not None:
        query = query.where(table.c.channel == channel)
    return [_pointer(row) for row in tx.execute(query)]


def _pointer(row: sa.Row[Any]) -> Pointer:
    return Pointer(
        row.connector_id,
        row.channel,
        row.version,
        row.index_digest,
        row.who,
        row.reason,
        row.pointed_at,
    )
