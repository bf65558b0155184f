"""``channels``: append-only pointers from a connector's channel to a release.

What the rows together offer to whom is for `wellhead.catalog.channels` to say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa

from wellhead.ids import ConnectorId, Digest
from wellhead.registry.database import Transaction
from wellhead.registry.tables import channels as table

Kind = Literal["promote", "back", "halt"]


@dataclass(frozen=True, slots=True)
class Pointer:
    """One row: what was done with a version in a channel, when and why; ``rollout`` None means for everybody."""

    connector_id: ConnectorId
    channel: str
    version: str
    index_digest: Digest
    who: str
    reason: str
    at: datetime
    kind: Kind = "promote"
    rollout: Mapping[str, Any] | None = None


def point(
    tx: Transaction,
    connector_id: ConnectorId,
    channel: str,
    *,
    version: str,
    index_digest: Digest,
    who: str,
    reason: str,
    kind: Kind = "promote",
    rollout: Mapping[str, Any] | None = None,
) -> Pointer:
    """Promote a release in a channel, go back to it, or halt it, from now on."""
    row = tx.execute(
        sa.insert(table)
        .values(
            connector_id=connector_id,
            channel=channel,
            version=version,
            index_digest=index_digest,
            kind=kind,
            rollout=sa.null() if rollout is None else dict(rollout),
            who=who,
            reason=reason,
            pointed_at=tx.time(),
        )
        .returning(table)
    ).one()
    return _pointer(row)


def current(tx: Transaction, connector_id: ConnectorId) -> dict[str, Pointer]:
    """Return what each channel of a connector was last pointed to, or taken back to."""
    return {pointer.channel: pointer for pointer in history(tx, connector_id) if pointer.kind != "halt"}


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
        row.kind,
        row.rollout,
    )
