"""``kept_checkpoints``: the last checkpoint of every state format a stream has left behind, for going back."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from wellhead.ids import ConnectionKey, StreamKey, StreamName
from wellhead.registry.database import Transaction
from wellhead.registry.tables import belongs_to, key_of, key_values
from wellhead.registry.tables import kept_checkpoints as table


@dataclass(frozen=True, slots=True)
class Kept:
    """One checkpoint of a whole stream.

    ``rows_total`` is how many rows had been written when it was committed: what was written since is read again by
    whoever goes on from it. ``at`` is when it was left behind.
    """

    stream: StreamKey
    state_version: int
    state: bytes
    generation: int
    rows_total: int
    at: datetime | None = None


def keep(tx: Transaction, kept: Kept) -> None:
    """Keep a checkpoint; an earlier one of the same format is forgotten."""
    tx.execute(sa.delete(table).where(_of(kept.stream), table.c.state_version == kept.state_version))
    tx.execute(
        sa.insert(table).values(
            **key_values(kept.stream.connection),
            stream=kept.stream.stream,
            state_version=kept.state_version,
            state=kept.state,
            generation=kept.generation,
            rows_total=kept.rows_total,
            kept_at=tx.time(),
        )
    )


def newest(tx: Transaction, stream: StreamKey, generation: int, readable: Collection[int]) -> Kept | None:
    """Return the checkpoint of a generation that was written last among those of the formats named."""
    row = tx.execute(
        sa.select(table)
        .where(_of(stream), table.c.generation == generation, table.c.state_version.in_(readable))
        .order_by(table.c.rows_total.desc(), table.c.state_version.desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else _kept(row)


def versions(tx: Transaction) -> dict[ConnectionKey, set[int]]:
    """Return the state formats each connection has a kept checkpoint of."""
    found: dict[ConnectionKey, set[int]] = {}
    columns = (table.c.tenant_id, table.c.project_id, table.c.connection, table.c.state_version)
    for row in tx.execute(sa.select(*columns).distinct()):
        found.setdefault(key_of(row), set()).add(row.state_version)
    return found


def _of(stream: StreamKey) -> sa.ColumnElement[bool]:
    return belongs_to(table, stream.connection, stream.stream)


def _kept(row: sa.Row[Any]) -> Kept:
    return Kept(
        StreamKey(key_of(row), StreamName(row.stream)),
        row.state_version,
        row.state,
        row.generation,
        row.rows_total,
        row.kept_at,
    )
