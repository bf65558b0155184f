"""``connector_runs``: one row a claim, from start to receipt, and the audit events of each run.

    running ──finish──▶ succeeded | partial | parked | stopped | refused | failed
        └── found dead by the next run or the reaper ──▶ lost

A probe (``connection check``, ``streams``, ``preview``) has a row of kind ``probe`` without lease and epoch; whether
its host still lives is told by ``heartbeat_at``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import sqlalchemy as sa

from wellhead.errors import Code, ConfigurationError, FatalError
from wellhead.ids import ConnectionKey, ConnectorId, Digest, RunId
from wellhead.registry.database import Transaction
from wellhead.registry.tables import belongs_to, key_of, key_values, run_events
from wellhead.registry.tables import connector_runs as table

UNKNOWN_RUN = Code("WH-REG-040", "There is no such run.")
ALREADY_CLOSED = Code("WH-REG-041", "The run is already closed.")
LOST = Code("WH-REG-042", "The run's process ended without a report.")

Kind = Literal["run", "probe"]


@dataclass(frozen=True, slots=True)
class Start:
    """What is known of a run before anything is opened; a probe has no epoch."""

    run_id: RunId
    connection: ConnectionKey
    kind: Kind
    host_id: str
    connector_id: ConnectorId
    epoch: int | None = None
    logical_run_id: str | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a run did not succeed, as it was told to the user."""

    error_class: str
    code: str
    message: str
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended; documents are plain JSON values."""

    status: str
    exit_code: int
    failure: Failure | None = None
    retry_at: datetime | None = None
    streams: Mapping[str, Any] | None = None
    metrics: Mapping[str, Any] | None = None
    cost: Mapping[str, Any] | None = None
    timings: Mapping[str, Any] | None = None
    receipt: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One run's row; ``outcome`` is None while it runs."""

    run_id: RunId
    connection: ConnectionKey
    kind: Kind
    host_id: str
    connector_id: ConnectorId
    epoch: int | None
    logical_run_id: str | None
    attempt: int
    status: str
    version: str | None
    index_digest: Digest | None
    image_id: Digest | None
    plan: Mapping[str, Any] | None
    token_accessor: str | None
    started_at: datetime
    heartbeat_at: datetime
    finished_at: datetime | None
    outcome: Outcome | None


@dataclass(frozen=True, slots=True)
class Event:
    """One audit event of a run, such as ``connector.run.started``."""

    at: datetime
    event: str
    details: Mapping[str, Any]


def start(tx: Transaction, begun: Start) -> Run:
    """Open a run's row, with attempt 1."""
    tx.execute(
        sa.insert(table).values(
            run_id=begun.run_id,
            **key_values(begun.connection),
            kind=begun.kind,
            logical_run_id=begun.logical_run_id,
            attempt=1,
            epoch=begun.epoch,
            host_id=begun.host_id,
            status="running",
            connector_id=begun.connector_id,
            started_at=tx.time(),
            heartbeat_at=tx.time(),
        )
    )
    return get(tx, begun.run_id)


def heartbeat(tx: Transaction, run_id: RunId) -> None:
    """Say that the run's host still lives."""
    _update(tx, run_id, heartbeat_at=tx.time())


def set_plan(tx: Transaction, run_id: RunId, *, version: str, index_digest: Digest, plan: Mapping[str, Any]) -> None:
    """Freeze the plan every attempt of this run reuses."""
    _update(tx, run_id, version=version, index_digest=index_digest, plan=dict(plan))


def set_accessor(tx: Transaction, run_id: RunId, accessor: str) -> None:
    """Store the accessor of the run's token, before anything is read with it."""
    _update(tx, run_id, token_accessor=accessor)


def set_image(tx: Transaction, run_id: RunId, image_id: Digest) -> None:
    """Store which image was actually started."""
    _update(tx, run_id, image_id=image_id)


def note_attempt(tx: Transaction, run_id: RunId, attempt: int) -> None:
    """Store the number of the attempt that begins."""
    _update(tx, run_id, attempt=attempt, heartbeat_at=tx.time())


def finish(tx: Transaction, run_id: RunId, outcome: Outcome) -> None:
    """Close a run; a run is closed once.

    Raises:
        FatalError: it is closed already, with another status (WH-REG-041). The same status again changes nothing.
    """
    failure = outcome.failure
    result = tx.execute(
        sa.update(table)
        .where(table.c.run_id == run_id, table.c.status == "running")
        .values(
            status=outcome.status,
            exit_code=outcome.exit_code,
            error_class=failure and failure.error_class,
            error_code=failure and failure.code,
            error_message=failure and failure.message,
            error_hint=failure and failure.hint,
            retry_at=outcome.retry_at,
            streams=_document(outcome.streams),
            metrics=_document(outcome.metrics),
            cost=_document(outcome.cost),
            timings=_document(outcome.timings),
            receipt=_document(outcome.receipt),
            finished_at=tx.time(),
        )
    )
    if result.rowcount == 0:
        closed = get(tx, run_id)
        if closed.status != outcome.status:
            raise FatalError(
                f"run {run_id} is already closed as {closed.status}, not {outcome.status}",
                code=ALREADY_CLOSED,
                hint="another host judged this run dead; `wellhead runs show` tells what it recorded",
            )


def mark_lost(tx: Transaction, connection: ConnectionKey, *, below_epoch: int) -> list[Run]:
    """Close the runs of lower epochs that never reported, and return them: their containers and tokens are to go."""
    rows = tx.execute(
        sa.update(table)
        .where(
            belongs_to(table, connection),
            table.c.kind == "run",
            table.c.status == "running",
            table.c.epoch < below_epoch,
        )
        .values(
            status="lost",
            exit_code=75,
            error_class="TRANSIENT",
            error_code=LOST.name,
            error_message="the run's process ended without a report",
            finished_at=tx.time(),
        )
        .returning(table)
    )
    return sorted((_run(row) for row in rows), key=lambda run: run.run_id)


def close_probe(tx: Transaction, run_id: RunId) -> None:
    """Close a probe whose host is gone."""
    tx.execute(
        sa.update(table)
        .where(table.c.run_id == run_id, table.c.kind == "probe", table.c.status == "running")
        .values(status="lost", exit_code=75, finished_at=tx.time())
    )


def find(tx: Transaction, run_id: RunId) -> Run | None:
    """Return one run, or None."""
    row = tx.execute(sa.select(table).where(table.c.run_id == run_id)).one_or_none()
    return None if row is None else _run(row)


def get(tx: Transaction, run_id: RunId) -> Run:
    """Return one run.

    Raises:
        ConfigurationError: there is none (WH-REG-040).
    """
    found = find(tx, run_id)
    if found is None:
        raise ConfigurationError(
            f"there is no run {run_id}", code=UNKNOWN_RUN, hint="`wellhead runs list` shows the latest runs"
        )
    return found


def latest(
    tx: Transaction, connection: ConnectionKey | None = None, *, kind: Kind | None = None, limit: int = 50
) -> list[Run]:
    """Return the newest runs first, of one connection or of all."""
    query = sa.select(table).order_by(table.c.run_id.desc()).limit(limit)
    if connection is not None:
        query = query.where(belongs_to(table, connection))
    if kind is not None:
        query = query.where(table.c.kind == kind)
    return [_run(row) for row in tx.execute(query)]


def silent_until(run: Run, ttl_s: float) -> datetime:
    """Return when a run that does not speak again counts as dead: once its lease of ``ttl_s`` seconds is over."""
    return run.heartbeat_at + timedelta(seconds=ttl_s)


def is_silent(run: Run, ttl_s: float, now: datetime) -> bool:
    """Say whether a run that never reported its end has not spoken for as long as its lease lasts.

    Its process is gone, as far as anybody can tell; its row is closed by the next run of its connection.
    """
    return run.status == "running" and silent_until(run, ttl_s) <= now


def open_runs(tx: Transaction, connection: ConnectionKey | None = None) -> list[Run]:
    """Return the runs and probes that have not reported their end, oldest first."""
    query = sa.select(table).where(table.c.status == "running").order_by(table.c.run_id)
    if connection is not None:
        query = query.where(belongs_to(table, connection))
    return [_run(row) for row in tx.execute(query)]


def highest_epoch(tx: Transaction, connection: ConnectionKey) -> int:
    """Return the highest epoch any run of a connection ever had; 0 where none had one."""
    found = tx.execute(sa.select(sa.func.max(table.c.epoch)).where(belongs_to(table, connection))).scalar()
    return int(found or 0)


def by_logical_id(tx: Transaction, connection: ConnectionKey, logical_run_id: str) -> Run | None:
    """Return the newest run under a scheduler's own id, or None."""
    row = tx.execute(
        sa.select(table)
        .where(belongs_to(table, connection), table.c.logical_run_id == logical_run_id)
        .order_by(table.c.run_id.desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else _run(row)


def note_event(tx: Transaction, run_id: RunId, event: str, details: Mapping[str, Any]) -> None:
    """Append an audit event."""
    tx.execute(sa.insert(run_events).values(run_id=run_id, happened_at=tx.time(), event=event, details=dict(details)))


def events(tx: Transaction, run_id: RunId) -> list[Event]:
    """Return a run's audit events in order."""
    rows = tx.execute(sa.select(run_events).where(run_events.c.run_id == run_id).order_by(run_events.c.id))
    return [Event(row.happened_at, row.event, row.details) for row in rows]


def _update(tx: Transaction, run_id: RunId, **values: Any) -> None:
    if tx.execute(sa.update(table).where(table.c.run_id == run_id).values(**values)).rowcount == 0:
        get(tx, run_id)


def _document(value: Mapping[str, Any] | None) -> Any:
    return sa.null() if value is None else dict(value)


def _run(row: sa.Row[Any]) -> Run:
    outcome = None
    if row.status != "running":
        failure = None
        if row.error_code is not None:
            failure = Failure(row.error_class, row.error_code, row.error_message, row.error_hint)
        outcome = Outcome(
            status=row.status,
            exit_code=row.exit_code,
            failure=failure,
            retry_at=row.retry_at,
            streams=row.streams,
            metrics=row.metrics,
            cost=row.cost,
            timings=row.timings,
            receipt=row.receipt,
        )
    return Run(
        run_id=row.run_id,
        connection=key_of(row),
        kind=row.kind,
        host_id=row.host_id,
        connector_id=row.connector_id,
        epoch=row.epoch,
        logical_run_id=row.logical_run_id,
        attempt=row.attempt,
        status=row.status,
        version=row.version,
        index_digest=row.index_digest,
        image_id=row.image_id,
        plan=row.plan,
        token_accessor=row.token_accessor,
        started_at=row.started_at,
        heartbeat_at=row.heartbeat_at,
        finished_at=row.finished_at,
        outcome=outcome,
    )


@dataclass(frozen=True, slots=True)
class Finished:
    """What a finished run came to, for comparing versions."""

    version: str
    status: str
    rows: int
    dead_letters: int


def finished(tx: Transaction, connector_id: ConnectorId, *, since: datetime) -> list[Finished]:
    """Return what each run of a connector that ended since then came to; runs without a release are left out."""
    query = sa.select(table.c.version, table.c.status, table.c.streams).where(
        table.c.connector_id == connector_id,
        table.c.kind == "run",
        table.c.finished_at >= since,
        table.c.version.is_not(None),
    )
    found = []
    for row in tx.execute(query):
        streams = (row.streams or {}).values()
        rows = sum(stream["rows"] for stream in streams)
        found.append(Finished(row.version, row.status, rows, sum(stream["dead_letters"] for stream in streams)))
    return found
