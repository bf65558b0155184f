"""``generations``: each complete reading of a stream that was begun, and how far its table is.

    open ──every unit complete──▶ complete ──published, folder exchanged──▶ swapped     (write: replace)
      └──selection or schema changed, too old, --full-refresh──▶ abandoned

An appended generation stays ``complete``: its segments go straight into the table, as does what an incremental stream
adds later to a generation that is swapped.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa

from wellhead.errors import Code, FatalError
from wellhead.ids import ConnectionKey, RunId, StreamKey, StreamName
from wellhead.registry.database import Transaction
from wellhead.registry.tables import belongs_to, key_of, key_values
from wellhead.registry.tables import generations as table

OUT_OF_ORDER = Code("WH-REG-060", "A generation was moved on out of order.")

Mode = Literal["full_refresh", "incremental"]
Write = Literal["replace", "append"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where rows go: ``identity`` is the file format and what the sink says it is, ``path`` what people call it.

    A folder that was moved as a whole is the same place.
    """

    identity: str
    path: str = field(compare=False)

    def __str__(self) -> str:
        return f"{self.path} ({self.identity.partition(':')[0]})"


@dataclass(frozen=True, slots=True)
class Basis:
    """What a generation rests on; where any of it changes, what was read so far cannot be gone on with."""

    mode: Mode
    write: Write
    selection_hash: str
    schema_fingerprint: str
    state_writes: str
    sink: Place | None = None
    """None where it was not written down yet, before migration 0008."""


@dataclass(frozen=True, slots=True)
class Generation:
    """One generation's row; ``number`` counts from 1 per stream."""

    stream: StreamKey
    number: int
    status: str
    basis: Basis
    final_state: bytes
    final_state_version: int
    run_id: RunId
    started_at: datetime
    completed_at: datetime | None
    swapped_at: datetime | None


def begin(tx: Transaction, stream: StreamKey, basis: Basis, run_id: RunId) -> Generation:
    """Open the next generation and abandon the one that was still open."""
    tx.execute(sa.update(table).where(_of(stream), table.c.status == "open").values(status="abandoned"))
    last = tx.execute(sa.select(sa.func.max(table.c.number)).where(_of(stream))).scalar() or 0
    tx.execute(
        sa.insert(table).values(
            **key_values(stream.connection),
            stream=stream.stream,
            number=last + 1,
            status="open",
            mode=basis.mode,
            write=basis.write,
            selection_hash=basis.selection_hash,
            schema_fingerprint=basis.schema_fingerprint,
            state_writes=basis.state_writes,
            final_state=b"",
            final_state_version=0,
            run_id=run_id,
            started_at=tx.time(),
            **_placed(basis.sink),
        )
    )
    return _one(tx, stream, last + 1)


def adopt(tx: Transaction, generation: Generation) -> None:
    """Add a generation as another registry knows it."""
    basis = generation.basis
    tx.execute(
        sa.insert(table).values(
            **key_values(generation.stream.connection),
            stream=generation.stream.stream,
            number=generation.number,
            status=generation.status,
            mode=basis.mode,
            write=basis.write,
            selection_hash=basis.selection_hash,
            schema_fingerprint=basis.schema_fingerprint,
            state_writes=basis.state_writes,
            final_state=generation.final_state,
            final_state_version=generation.final_state_version,
            run_id=generation.run_id,
            started_at=generation.started_at,
            completed_at=generation.completed_at,
            swapped_at=generation.swapped_at,
            **_placed(basis.sink),
        )
    )


def bind(tx: Transaction, stream: StreamKey, number: int, sink: Place, run_id: RunId) -> None:
    """Say which sink a generation's rows go to from now on, and by which run; only right while no other has any."""
    changed = sa.update(table).where(_of(stream), table.c.number == number).values(run_id=run_id, **_placed(sink))
    tx.execute(changed)


def current(tx: Transaction, stream: StreamKey) -> Generation | None:
    """Return the newest generation that was not abandoned, or None."""
    row = tx.execute(
        sa.select(table).where(_of(stream), table.c.status != "abandoned").order_by(table.c.number.desc()).limit(1)
    ).one_or_none()
    return None if row is None else _generation(row)


def all_of(tx: Transaction, stream: StreamKey) -> list[Generation]:
    """Return every generation of a stream, oldest first."""
    return [_generation(row) for row in tx.execute(sa.select(table).where(_of(stream)).order_by(table.c.number))]


def streams(tx: Transaction, connection: ConnectionKey) -> list[StreamKey]:
    """Return the streams of a connection of which a generation was ever begun."""
    names = tx.execute(sa.select(table.c.stream).where(belongs_to(table, connection)).distinct().order_by("stream"))
    return [StreamKey(connection, StreamName(name)) for name in names.scalars()]


def abandoned(tx: Transaction, stream: StreamKey, numbers: Collection[int]) -> list[int]:
    """Return which of these generations were given up."""
    found = tx.execute(
        sa.select(table.c.number)
        .where(_of(stream), table.c.number.in_(list(numbers)), table.c.status == "abandoned")
        .order_by(table.c.number)
    )
    return list(found.scalars())


def to_swap(tx: Transaction, connection: ConnectionKey) -> list[Generation]:
    """Return the complete generations whose folder may not have taken the table's place yet."""
    rows = tx.execute(
        sa.select(table)
        .where(
            belongs_to(table, connection),
            table.c.status == "complete",
            table.c.write == "replace",
        )
        .order_by(table.c.stream, table.c.number)
    )
    return [_generation(row) for row in rows]


def store_plan(
    tx: Transaction, stream: StreamKey, number: int, *, final_state: bytes, final_state_version: int
) -> None:
    """Keep the state the stream will have when the last of its planned units is complete."""
    _move(tx, stream, number, "open", final_state=final_state, final_state_version=final_state_version)


def mark_complete(tx: Transaction, stream: StreamKey, number: int) -> None:
    """Say that every unit was read to its end.

    Raises:
        FatalError: the generation is not open (WH-REG-060).
    """
    _move(tx, stream, number, "open", status="complete", completed_at=tx.time())


def mark_swapped(tx: Transaction, stream: StreamKey, number: int) -> None:
    """Say that the generation's folder is the table now.

    Raises:
        FatalError: the generation is not complete (WH-REG-060).
    """
    _move(tx, stream, number, "complete", status="swapped", swapped_at=tx.time())


def abandon(tx: Transaction, stream: StreamKey) -> int | None:
    """Give up the open generation, if there is one; return its number."""
    found = tx.execute(
        sa.update(table)
        .where(_of(stream), table.c.status == "open")
        .values(status="abandoned")
        .returning(table.c.number)
    ).one_or_none()
    return None if found is None else int(found.number)


def _placed(sink: Place | None) -> dict[str, str]:
    return {} if sink is None else {"sink_id": sink.identity, "sink_path": sink.path}


def _of(stream: StreamKey) -> sa.ColumnElement[bool]:
    return belongs_to(table, stream.connection, stream.stream)


def _move(tx: Transaction, stream: StreamKey, number: int, expected: str, **values: Any) -> None:
    moved = tx.execute(
        sa.update(table).where(_of(stream), table.c.number == number, table.c.status == expected).values(**values)
    )
    if moved.rowcount != 1:
        raise FatalError(
            f"generation {number} of {stream} is not {expected}",
            code=OUT_OF_ORDER,
            hint="this is a defect of Wellhead; `wellhead state show` tells what is stored",
        )


def _one(tx: Transaction, stream: StreamKey, number: int) -> Generation:
    return _generation(tx.execute(sa.select(table).where(_of(stream), table.c.number == number)).one())


def _generation(row: sa.Row[Any]) -> Generation:
    sink = None if row.sink_id is None else Place(row.sink_id, row.sink_path)
    return Generation(
        stream=StreamKey(key_of(row), StreamName(row.stream)),
        number=row.number,
        status=row.status,
        basis=Basis(row.mode, row.write, row.selection_hash, row.schema_fingerprint, row.state_writes, sink),
        final_state=row.final_state,
        final_state_version=row.final_state_version,
        run_id=row.run_id,
        started_at=row.started_at,
        completed_at=row.completed_at,
        swapped_at=row.swapped_at,
    )
