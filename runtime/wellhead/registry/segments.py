"""``segments``: the log of committed files; a row here *is* the commit of its rows.

committed ──published, idempotently──▶ published
    └──its generation was abandoned──▶ discarded
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa

from wellhead.ids import ConnectionKey, RunId, StreamKey, StreamName, UnitKey
from wellhead.registry.database import Transaction
from wellhead.registry.tables import belongs_to, key_of, key_values
from wellhead.registry.tables import segments as table

Write = Literal["replace", "append"]


@dataclass(frozen=True, slots=True)
class NewSegment:
    """One finished file to commit; ``name`` is relative to the sink, ``crc32c`` covers the file's bytes."""

    stream: StreamKey
    unit: UnitKey
    generation: int
    epoch: int
    commit_no: int
    run_id: RunId
    write: Write
    name: str
    size_bytes: int
    crc32c: int
    rows: int
    min_sequence: int | None
    max_sequence: int | None


@dataclass(frozen=True, slots=True)
class Segment:
    """One committed file; ``number`` gives the order of publishing."""

    number: int
    stream: StreamKey
    unit: UnitKey
    generation: int
    epoch: int
    commit_no: int
    run_id: RunId
    write: Write
    name: str
    size_bytes: int
    crc32c: int
    rows: int
    min_sequence: int | None
    max_sequence: int | None
    status: str
    committed_at: datetime
    published_at: datetime | None


def commit(tx: Transaction, segment: NewSegment) -> Segment:
    """Add one row; call it in the transaction that advances the unit.

    Raises:
        FatalError: this commit of the unit already has its segment (WH-REG-009).
    """
    row = tx.execute(
        sa.insert(table)
        .values(
            **key_values(segment.stream.connection),
            stream=segment.stream.stream,
            unit=segment.unit,
            generation=segment.generation,
            epoch=segment.epoch,
            commit_no=segment.commit_no,
            run_id=segment.run_id,
            write=segment.write,
            name=segment.name,
            size_bytes=segment.size_bytes,
            crc32c=segment.crc32c,
            rows=segment.rows,
            min_sequence=segment.min_sequence,
            max_sequence=segment.max_sequence,
            status="committed",
            committed_at=tx.time(),
        )
        .returning(table)
    ).one()
    return _segment(row)


def unpublished(tx: Transaction, connection: ConnectionKey) -> list[Segment]:
    """Return what is committed and not yet published, in commit order."""
    rows = tx.execute(
        sa.select(table).where(belongs_to(table, connection), table.c.status == "committed").order_by(table.c.id)
    )
    return [_segment(row) for row in rows]


def mark_published(tx: Transaction, numbers: Iterable[int]) -> None:
    """Say that these files are in their table."""
    tx.execute(
        sa.update(table)
        .where(table.c.id.in_(list(numbers)), table.c.status == "committed")
        .values(status="published", published_at=tx.time())
    )


def discard(tx: Transaction, stream: StreamKey, generation: int) -> list[Segment]:
    """Give up the segments of an abandoned generation and return them, so that their files can go."""
    rows = tx.execute(
        sa.update(table)
        .where(_of(stream), table.c.generation == generation, table.c.status != "discarded")
        .values(status="discarded")
        .returning(table)
    )
    return sorted((_segment(row) for row in rows), key=lambda segment: segment.number)


def of_generation(tx: Transaction, stream: StreamKey, generation: int) -> list[Segment]:
    """Return the segments of one generation that were not discarded, in commit order."""
    rows = tx.execute(
        sa.select(table)
        .where(_of(stream), table.c.generation == generation, table.c.status != "discarded")
        .order_by(table.c.id)
    )
    return [_segment(row) for row in rows]


def of_run(tx: Transaction, run_id: RunId) -> list[Segment]:
    """Return what one run committed, in commit order."""
    return [_segment(row) for row in tx.execute(sa.select(table).where(table.c.run_id == run_id).order_by(table.c.id))]


def names(tx: Transaction, connection: ConnectionKey) -> set[str]:
    """Return the names of all files that are committed and not discarded; a staged file not among them is an orphan."""
    return set(
        tx.execute(
            sa.select(table.c.name).where(belongs_to(table, connection), table.c.status != "discarded")
        ).scalars()
    )


def _of(stream: StreamKey) -> sa.ColumnElement[bool]:
    return belongs_to(table, stream.connection, stream.stream)


def _segment(row: sa.Row[Any]) -> Segment:
    return Segment(
        number=row.id,
        stream=StreamKey(key_of(row), StreamName(row.stream)),
        unit=row.unit,
        generation=row.generation,
        epoch=row.epoch,
        commit_no=row.commit_no,
        run_id=row.run_id,
        write=row.write,
        name=row.name,
        size_bytes=row.size_bytes,
        crc32c=row.crc32c,
        rows=row.rows,
        min_sequence=row.min_sequence,
        max_sequence=row.max_sequence,
        status=row.status,
        committed_at=row.committed_at,
        published_at=row.published_at,
    )
