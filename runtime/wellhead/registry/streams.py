"""``stream_registry``: the versions of each stream's schema, as they were met."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from wellhead.ids import ConnectionKey, RunId, StreamKey, StreamName
from wellhead.registry.database import Transaction
from wellhead.registry.tables import belongs_to, key_of, key_values
from wellhead.registry.tables import stream_registry as table


@dataclass(frozen=True, slots=True)
class Shape:
    """A stream as a connector offers it; ``arrow_schema`` is the encapsulated Arrow IPC message."""

    fingerprint: str
    arrow_schema: bytes
    primary_key: tuple[str, ...] = ()
    cursor_fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a stream's shape; ``number`` counts from 1 per stream."""

    stream: StreamKey
    number: int
    shape: Shape
    release_version: str
    run_id: RunId
    first_seen_at: datetime


def observe(tx: Transaction, stream: StreamKey, shape: Shape, *, release_version: str, run_id: RunId) -> Version:
    """Return the version that ``shape`` is: the latest one where nothing changed, else a new one."""
    last = latest(tx, stream)
    if last is not None and last.shape == shape:
        return last
    row = tx.execute(
        sa.insert(table)
        .values(
            **key_values(stream.connection),
            stream=stream.stream,
            version=1 if last is None else last.number + 1,
            fingerprint=shape.fingerprint,
            arrow_schema=shape.arrow_schema,
            primary_key=list(shape.primary_key),
            cursor_fields=list(shape.cursor_fields),
            release_version=release_version,
            run_id=run_id,
            first_seen_at=tx.time(),
        )
        .returning(table)
    ).one()
    return _version(row)


def latest(tx: Transaction, stream: StreamKey) -> Version | None:
    """Return the newest version, or None."""
    row = tx.execute(
        sa.select(table)
        .where(belongs_to(table, stream.connection, stream.stream))
        .order_by(table.c.version.desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else _version(row)


def all_of(tx: Transaction, connection: ConnectionKey) -> list[Version]:
    """Return every version of every stream of a connection, by stream and number."""
    rows = tx.execute(sa.select(table).where(belongs_to(table, connection)).order_by(table.c.stream, table.c.version))
    return [_version(row) for row in rows]


def _version(row: sa.Row[Any]) -> Version:
    return Version(
        stream=StreamKey(key_of(row), StreamName(row.stream)),
        number=row.version,
        shape=Shape(row.fingerprint, row.arrow_schema, tuple(row.primary_key), tuple(row.cursor_fields)),
        release_version=row.release_version,
        run_id=row.run_id,
        first_seen_at=row.first_seen_at,
    )
