"""``dead_letters``: records set aside with their reason; counted, never dropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from wellhead.errors import Code, ConfigurationError
from wellhead.ids import ConnectionKey, RunId, StreamKey, StreamName, UnitKey
from wellhead.registry.database import Transaction
from wellhead.registry.tables import belongs_to, key_of, key_values
from wellhead.registry.tables import dead_letters as table

UNKNOWN_LETTER = Code("WH-REG-080", "There is no such dead letter.")


@dataclass(frozen=True, slots=True)
class Place:
    """The commit that set records aside: they become visible with it or not at all."""

    stream: StreamKey
    unit: UnitKey
    generation: int
    epoch: int
    commit_no: int
    run_id: RunId


@dataclass(frozen=True, slots=True)
class Rejected:
    """One record; ``sha256`` is hex of the whole record, ``sample`` at most its first 4 KiB."""

    reason: str
    sha256: str
    size_bytes: int
    key_json: str = ""
    column: str = ""
    text: str = field(default="", repr=False)
    sample: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One record as stored; ``status`` is open, replayed or dropped."""

    number: int
    place: Place
    rejected: Rejected
    status: str
    set_aside_at: datetime


def set_aside(tx: Transaction, place: Place, records: Sequence[Rejected]) -> None:
    """Store the records of one commit; call it in the commit's transaction."""
    if not records:
        return
    where = {
        **key_values(place.stream.connection),
        "stream": place.stream.stream,
        "unit": place.unit,
        "generation": place.generation,
        "epoch": place.epoch,
        "commit_no": place.commit_no,
        "run_id": place.run_id,
        "status": "open",
    }
    tx.execute(
        sa.insert(table).values(set_aside_at=tx.time()),
        [
            where
            | {
                "reason": record.reason,
                "column_name": record.column,
                "text": record.text,
                "key_json": record.key_json,
                "sha256": record.sha256,
                "size_bytes": record.size_bytes,
                "sample": record.sample,
            }
            for record in records
        ],
    )


def latest(
    tx: Transaction,
    connection: ConnectionKey,
    *,
    stream: StreamName | None = None,
    run_id: RunId | None = None,
    limit: int = 100,
) -> list[DeadLetter]:
    """Return the newest dead letters first."""
    query = sa.select(table).where(belongs_to(table, connection, stream)).order_by(table.c.id.desc()).limit(limit)
    if run_id is not None:
        query = query.where(table.c.run_id == run_id)
    return [_letter(row) for row in tx.execute(query)]


def get(tx: Transaction, number: int) -> DeadLetter:
    """Return one dead letter.

    Raises:
        ConfigurationError: there is none (WH-REG-080).
    """
    row = tx.execute(sa.select(table).where(table.c.id == number)).one_or_none()
    if row is None:
        raise ConfigurationError(
            f"there is no dead letter {number}",
            code=UNKNOWN_LETTER,
            hint="`wellhead deadletters list CONNECTION` shows their numbers",
        )
    return _letter(row)


def count(tx: Transaction, stream: StreamKey, *, run_id: RunId) -> int:
    """Return how many records of a stream one run has set aside."""
    return int(
        tx.execute(
            sa.select(sa.func.count())
            .select_from(table)
            .where(belongs_to(table, stream.connection, stream.stream), table.c.run_id == run_id)
        ).scalar_one()
    )


def _letter(row: sa.Row[Any]) -> DeadLetter:
    return DeadLetter(
        number=row.id,
        place=Place(
            stream=StreamKey(key_of(row), StreamName(row.stream)),
            unit=row.unit,
            generation=row.generation,
            epoch=row.epoch,
            commit_no=row.commit_no,
            run_id=row.run_id,
        ),
        rejected=Rejected(
            reason=row.reason,
            sha256=row.sha256,
            size_bytes=row.size_bytes,
            key_json=row.key_json,
            column=row.column_name,
            text=row.text,
            sample=row.sample,
        ),
        status=row.status,
        set_aside_at=row.set_aside_at,
    )
