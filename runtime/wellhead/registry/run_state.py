"""``connector_run_state``: one row a read unit, moved on by compare-and-set and by nothing else.

A unit is a whole stream (``all``) or one partition of it; ``all`` also holds the state of the stream once the last
partition is complete. Rows outlive their generation, so that ``commit_no`` and ``_sequence`` stay dense over a unit's
life:

    planned (generation n, no state) ──advance──▶ … ──advance, complete──▶ complete ──▶ retired (partitions)
        ▲                                                                                  │
        └──────────────────────────── planned again in generation n + 1 ◀─────────────────┘
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from wellhead.errors import Code, ConfigurationError, TransientError
from wellhead.ids import WHOLE_STREAM, ConnectionKey, StreamKey, StreamName, UnitKey
from wellhead.registry.database import Transaction
from wellhead.registry.tables import belongs_to, key_of, key_values
from wellhead.registry.tables import connector_run_state as table

MOVED_ON = Code("WH-REG-050", "The unit's state was moved on by somebody else.")
NO_STATE = Code("WH-REG-051", "The stream has no state.")


@dataclass(frozen=True, slots=True)
class PlannedUnit:
    """One unit as the connector planned it."""

    key: UnitKey
    descriptor: bytes = b""
    estimated_rows: int | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What one commit stores for a unit; ``rows`` and ``rejected`` count this commit alone."""

    state: bytes
    state_version: int
    rows: int
    rejected: int = 0
    checkpoint_type: str = "cursor"
    watermark: datetime | None = None
    complete: bool = False


@dataclass(frozen=True, slots=True)
class UnitState:
    """One unit's row.

    ``rows_total`` is the ``_sequence`` of the unit's next row, ``rows_generation`` the ordinal of that row within its
    generation; both count written rows only.
    """

    stream: StreamKey
    unit: UnitKey
    epoch: int
    commit_no: int
    state: bytes
    state_version: int
    checkpoint_type: str
    watermark: datetime | None
    generation: int
    descriptor: bytes
    estimated_rows: int | None
    complete: bool
    retired: bool
    rows_total: int
    rows_generation: int
    rejected_total: int
    updated_at: datetime


def load(tx: Transaction, stream: StreamKey, generation: int) -> list[UnitState]:
    """Return the units planned for one generation, in the plan's order; empty where nothing is planned."""
    rows = tx.execute(
        sa.select(table)
        .where(_of(stream), table.c.generation == generation, table.c.retired.is_(False))
        .order_by(table.c.position)
    )
    return [_state(row) for row in rows]


def whole_stream(tx: Transaction, stream: StreamKey) -> UnitState | None:
    """Return the row that holds the stream's own state, or None."""
    row = tx.execute(sa.select(table).where(_of(stream), table.c.unit == WHOLE_STREAM)).one_or_none()
    return None if row is None else _state(row)


def require(tx: Transaction, stream: StreamKey) -> UnitState:
    """Return the row that holds the stream's own state.

    Raises:
        ConfigurationError: there is none (WH-REG-051).
    """
    found = whole_stream(tx, stream)
    if found is None:
        raise ConfigurationError(
            f"{stream} has no state", code=NO_STATE, hint="`wellhead state show` lists the streams that have one"
        )
    return found


def all_of(tx: Transaction, connection: ConnectionKey) -> list[UnitState]:
    """Return every unit of a connection, retired ones too, by stream and unit."""
    rows = tx.execute(
        sa.select(table).where(belongs_to(table, connection)).order_by(table.c.stream, table.c.position, table.c.unit)
    )
    return [_state(row) for row in rows]


def versions(tx: Transaction, connection: ConnectionKey | None = None) -> dict[ConnectionKey, set[int]]:
    """Return the formats of the states each connection would go on from, or one connection; none has no entry."""
    found: dict[ConnectionKey, set[int]] = {}
    columns = (table.c.tenant_id, table.c.project_id, table.c.connection, table.c.state_version)
    query = sa.select(*columns).where(table.c.state != b"", table.c.retired.is_(False)).distinct()
    for row in tx.execute(query if connection is None else query.where(belongs_to(table, connection))):
        found.setdefault(key_of(row), set()).add(row.state_version)
    return found


def plan_units(
    tx: Transaction, stream: StreamKey, *, generation: int, epoch: int, units: Sequence[PlannedUnit]
) -> list[UnitState]:
    """Store the plan of a new generation: every unit starts without state; units not in it are retired.

    The whole stream's row keeps its state where the plan has partitions, until `finish_partitions` replaces it.
    Counters of units that were there before go on.
    """
    planned = {unit.key for unit in units}
    known = {row.unit for row in tx.execute(sa.select(table.c.unit).where(_of(stream)))}
    retired = known - planned - {WHOLE_STREAM}
    if retired:
        tx.execute(
            sa.update(table).where(_of(stream), table.c.unit.in_(retired)).values(retired=True, updated_at=tx.time())
        )
    for position, unit in enumerate(units):
        fresh: dict[str, Any] = {
            "epoch": epoch,
            "state": b"",
            "state_version": 0,
            "checkpoint_type": "cursor",
            "watermark": None,
            "generation": generation,
            "position": position,
            "descriptor": unit.descriptor,
            "estimated_rows": unit.estimated_rows,
            "complete": False,
            "retired": False,
            "rows_generation": 0,
            "updated_at": tx.time(),
        }
        if unit.key in known:
            tx.execute(
                sa.update(table)
                .where(_of(stream), table.c.unit == unit.key)
                # Counts as a commit, so that whoever still holds the old row is refused.
                .values(**fresh, commit_no=table.c.commit_no + 1)
            )
        else:
            _insert(tx, stream, unit.key, {**fresh, "commit_no": 0})
    return load(tx, stream, generation)


def adopt(tx: Transaction, unit: UnitState) -> None:
    """Add the one unit of a stream as another registry knows it, counters and all."""
    _insert(
        tx,
        unit.stream,
        unit.unit,
        {
            "epoch": unit.epoch,
            "commit_no": unit.commit_no,
            "state": unit.state,
            "state_version": unit.state_version,
            "checkpoint_type": unit.checkpoint_type,
            "watermark": unit.watermark,
            "generation": unit.generation,
            "position": 0,
            "descriptor": unit.descriptor,
            "estimated_rows": unit.estimated_rows,
            "complete": unit.complete,
            "retired": unit.retired,
            "rows_total": unit.rows_total,
            "rows_generation": unit.rows_generation,
            "rejected_total": unit.rejected_total,
            "updated_at": unit.updated_at,
        },
    )


def advance(tx: Transaction, before: UnitState, *, epoch: int, checkpoint: Checkpoint) -> UnitState:
    """Move a unit on by one commit, if its row still is what ``before`` says; return the new row.

    Raises:
        TransientError: the row has moved on since ``before`` was read (WH-REG-050). Nothing may be committed then.
    """
    row = tx.execute(
        sa.update(table)
        .where(
            _of(before.stream),
            table.c.unit == before.unit,
            # Invariant: the epoch and the number of the last commit are compared, never only written.
            table.c.epoch == before.epoch,
            table.c.commit_no == before.commit_no,
            table.c.generation == before.generation,
        )
        .values(
            epoch=epoch,
            commit_no=before.commit_no + 1,
            state=checkpoint.state,
            state_version=checkpoint.state_version,
            checkpoint_type=checkpoint.checkpoint_type,
            watermark=checkpoint.watermark,
            complete=checkpoint.complete,
            rows_total=table.c.rows_total + checkpoint.rows,
            rows_generation=table.c.rows_generation + checkpoint.rows,
            rejected_total=table.c.rejected_total + checkpoint.rejected,
            updated_at=tx.time(),
        )
        .returning(table)
    ).one_or_none()
    if row is None:
        raise TransientError(
            f"unit {before.unit} of {before.stream} is no longer at commit {before.commit_no} of epoch {before.epoch}",
            code=MOVED_ON,
            hint="another run took over, or this commit is already there; the next attempt reads the registry first",
        )
    return _state(row)


def all_complete(tx: Transaction, stream: StreamKey, generation: int) -> bool:
    """Say whether a generation was planned and each of its units was read to its end."""
    units = load(tx, stream, generation)
    return bool(units) and all(unit.complete for unit in units)


def finish_partitions(
    tx: Transaction, stream: StreamKey, *, generation: int, epoch: int, final_state: bytes, final_state_version: int
) -> UnitState:
    """Give the whole stream the plan's final state and retire the generation's partitions; return the stream's row.

    For the transaction that completes the last partition.
    """
    values: dict[str, Any] = {
        "epoch": epoch,
        "state": final_state,
        "state_version": final_state_version,
        "checkpoint_type": "cursor",
        "watermark": None,
        "generation": generation,
        "position": 0,
        "descriptor": b"",
        "estimated_rows": None,
        "complete": True,
        "retired": False,
        "rows_generation": 0,
        "updated_at": tx.time(),
    }
    tx.execute(
        sa.update(table)
        .where(_of(stream), table.c.generation == generation, table.c.unit != WHOLE_STREAM)
        .values(retired=True, updated_at=tx.time())
    )
    if whole_stream(tx, stream) is None:
        _insert(tx, stream, WHOLE_STREAM, {**values, "commit_no": 1})
    else:
        tx.execute(
            sa.update(table)
            .where(_of(stream), table.c.unit == WHOLE_STREAM)
            .values(**values, commit_no=table.c.commit_no + 1)
        )
    return require(tx, stream)


def reopen(tx: Transaction, stream: StreamKey, unit: UnitKey = WHOLE_STREAM) -> None:
    """Let an incremental unit that caught up be read again from its state."""
    tx.execute(sa.update(table).where(_of(stream), table.c.unit == unit).values(complete=False, updated_at=tx.time()))


def set_state(tx: Transaction, stream: StreamKey, *, generation: int, state: bytes, state_version: int) -> UnitState:
    """Put another state in the place of the whole stream's, for an operator, in the generation it belongs to.

    A row that was reset is in use again. Whoever holds the old row is refused.

    Raises:
        ConfigurationError: the stream was never read, so there is nothing to replace (WH-REG-051).
    """
    require(tx, stream)
    tx.execute(
        sa.update(table)
        .where(_of(stream), table.c.unit == WHOLE_STREAM)
        .values(
            state=state,
            state_version=state_version,
            generation=generation,
            commit_no=table.c.commit_no + 1,
            complete=False,
            retired=False,
            updated_at=tx.time(),
        )
    )
    return require(tx, stream)


def reset(tx: Transaction, stream: StreamKey) -> int:
    """Forget what was read of a stream, so that the next run begins a new generation; return how many units it had.

    Counters stay: a sequence number is never given out twice.
    """
    return tx.execute(
        sa.update(table)
        .where(_of(stream))
        .values(
            state=b"",
            state_version=0,
            watermark=None,
            generation=0,
            complete=False,
            retired=True,
            commit_no=table.c.commit_no + 1,
            updated_at=tx.time(),
        )
    ).rowcount


def _of(stream: StreamKey) -> sa.ColumnElement[bool]:
    return belongs_to(table, stream.connection, stream.stream)


def _insert(tx: Transaction, stream: StreamKey, unit: UnitKey, values: dict[str, Any]) -> None:
    tx.execute(
        sa.insert(table).values(
            **key_values(stream.connection),
            stream=stream.stream,
            unit=unit,
            **{"rows_total": 0, "rejected_total": 0, **values},
        )
    )


def _state(row: sa.Row[Any]) -> UnitState:
    return UnitState(
        stream=StreamKey(key_of(row), StreamName(row.stream)),
        unit=row.unit,
        epoch=row.epoch,
        commit_no=row.commit_no,
        state=row.state,
        state_version=row.state_version,
        checkpoint_type=row.checkpoint_type,
        watermark=row.watermark,
        generation=row.generation,
        descriptor=row.descriptor,
        estimated_rows=row.estimated_rows,
        complete=row.complete,
        retired=row.retired,
        rows_total=row.rows_total,
        rows_generation=row.rows_generation,
        rejected_total=row.rejected_total,
        updated_at=row.updated_at,
    )
