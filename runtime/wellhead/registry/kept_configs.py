"""``kept_configs``: the config of a connection as people wrote it, the last one of every version, for going back.

Secrets are never here: a config holds none, and what the environment puts in for ``${VAR}`` is put in when it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from wellhead.ids import ConnectionKey, ConnectorId
from wellhead.registry.database import Transaction
from wellhead.registry.tables import belongs_to, key_values
from wellhead.registry.tables import kept_configs as table


@dataclass(frozen=True, slots=True)
class Kept:
    """One config, written for ``version`` of a connector's config; ``at`` is when it was last kept with other words."""

    version: int
    config: Mapping[str, Any]
    at: datetime


def keep(
    tx: Transaction, connection: ConnectionKey, connector_id: ConnectorId, version: int, config: Mapping[str, Any]
) -> bool:
    """Keep a config in place of an earlier one of the same version; say whether that is another."""
    known = newest(tx, connection, connector_id, version)
    if known is not None and known.version == version:
        if known.config == config:
            return False
        tx.execute(sa.delete(table).where(_of(connection, connector_id), table.c.config_version == version))
    tx.execute(
        sa.insert(table).values(
            **key_values(connection),
            connector_id=connector_id,
            config_version=version,
            config=dict(config),
            kept_at=tx.time(),
        )
    )
    return True


def newest(tx: Transaction, connection: ConnectionKey, connector_id: ConnectorId, version: int) -> Kept | None:
    """Return the config of the highest version up to ``version``; None where there is none."""
    row = tx.execute(
        sa.select(table)
        .where(_of(connection, connector_id), table.c.config_version <= version)
        .order_by(table.c.config_version.desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else Kept(row.config_version, row.config, row.kept_at)


def forget(tx: Transaction, connection: ConnectionKey) -> None:
    """Forget all of a connection: one that comes back under its name is another."""
    tx.execute(sa.delete(table).where(belongs_to(table, connection)))


def _of(connection: ConnectionKey, connector_id: ConnectorId) -> sa.ColumnElement[bool]:
    return sa.and_(belongs_to(table, connection), table.c.connector_id == connector_id)
