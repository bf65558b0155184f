"""``pending_revocations``: tokens that exist and have to go; written before use, removed after revocation."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from wellhead.ids import RunId
from wellhead.registry.database import Transaction
from wellhead.registry.tables import pending_revocations as table


@dataclass(frozen=True, slots=True)
class Pending:
    """One token that may still live; after ``expires_at`` the secret store has ended it by itself."""

    accessor: str
    run_id: RunId
    created_at: datetime
    expires_at: datetime


def add(tx: Transaction, accessor: str, run_id: RunId, *, ttl_s: float) -> None:
    """Remember a token before anything is read with it."""
    tx.execute(
        sa.insert(table).values(
            accessor=accessor, run_id=run_id, created_at=tx.time(), expires_at=tx.time(after_s=ttl_s)
        )
    )


def prolong(tx: Transaction, accessor: str, *, ttl_s: float) -> None:
    """Store the new end of a renewed token."""
    tx.execute(sa.update(table).where(table.c.accessor == accessor).values(expires_at=tx.time(after_s=ttl_s)))


def remove(tx: Transaction, accessor: str) -> None:
    """Forget a token that was revoked or has expired; a second call does nothing."""
    tx.execute(sa.delete(table).where(table.c.accessor == accessor))


def all_of(tx: Transaction, run_id: RunId | None = None) -> list[Pending]:
    """Return the tokens of one run or of all, oldest first."""
    query = sa.select(table).order_by(table.c.created_at, table.c.accessor)
    if run_id is not None:
        query = query.where(table.c.run_id == run_id)
    return [Pending(row.accessor, row.run_id, row.created_at, row.expires_at) for row in tx.execute(query)]
