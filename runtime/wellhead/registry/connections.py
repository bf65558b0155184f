"""``tenant_connections``: what Wellhead decided about each connection, and the lease that lets one run have it.

The lease stands in the connection's own row, so that the commit transaction checks it by locking one row:

    free ──claim (epoch + 1)──▶ held ──renew──▶ held ──release──▶ free
                                  └── lease_until passes ──claim (epoch + 1)──▶ held by another; the former is fenced

The epoch never falls and is never reset. Time decides only who may *try*; what protects the data is the epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from wellhead.errors import Code, ConfigurationError, TransientError
from wellhead.ids import ConnectionKey, ConnectorId, Digest, RunId
from wellhead.registry.database import FENCED, Transaction
from wellhead.registry.tables import belongs_to, key_of, key_values
from wellhead.registry.tables import tenant_connections as table

NOT_ONBOARDED = Code("WH-REG-030", "The connection is not onboarded yet.")
OTHER_SINK = Code("WH-REG-032", "The connection is bound to another sink folder.")
NOT_HELD = Code("WH-REG-031", "The connection has no hold to release.")


@dataclass(frozen=True, slots=True)
class Lease:
    """The right of ``run_id`` to run a connection until ``until``; ``epoch`` fences everybody before it."""

    run_id: RunId
    host_id: str
    epoch: int
    until: datetime


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has the connection now; the answer to a claim that came too early."""

    run_id: RunId
    host_id: str
    epoch: int
    until: datetime


@dataclass(frozen=True, slots=True)
class Hold:
    """A version the connection is held at; beats range and channel until ``until`` (None: until released)."""

    version: str
    who: str
    reason: str
    since: datetime
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Resolved:
    """The release the last plan chose, and why the others were not."""

    version: str
    digest: Digest
    at: datetime
    decision: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TenantConnection:
    """One connection's row; ``epoch`` is the last one that was given out, ``lease`` may have run out."""

    connection: ConnectionKey
    connector_id: ConnectorId
    version_range: str
    channel: str
    enabled: bool
    file_sha256: str
    status: str
    epoch: int
    created_at: datetime
    updated_at: datetime
    resolved: Resolved | None = None
    hold: Hold | None = None
    approved_surface: Mapping[str, Any] | None = None
    sink_id: str | None = None
    lease: Lease | None = None


def onboard(
    tx: Transaction,
    connection: ConnectionKey,
    *,
    connector_id: ConnectorId,
    version_range: str,
    channel: str,
    enabled: bool,
    file_sha256: str,
    highest_epoch: int = 0,
) -> TenantConnection:
    """Add a connection or take over what its changed file says; lease, hold and approvals stay.

    ``highest_epoch`` is the highest one its runs ever had, 0 where it never ran: a connection that was removed and
    comes back goes on counting, so that no epoch is given twice (invariant 7).

    A different connector under the same name loses hold, resolution and agreed surface, which were about the other one.
    """
    said = {
        "connector_id": connector_id,
        "version_range": version_range,
        "channel": channel,
        "enabled": enabled,
        "file_sha256": file_sha256,
    }
    known = find(tx, connection, lock=True)
    if known is None:
        insert = postgresql.insert if tx.is_postgresql else sqlite.insert
        tx.execute(
            insert(table)
            .values(
                **key_values(connection),
                **said,
                status="created",
                lease_epoch=highest_epoch,
                created_at=tx.time(),
                updated_at=tx.time(),
            )
            # PostgreSQL: another first call may have added it between our two statements; then it is the known one.
            .on_conflict_do_nothing()
        )
        known = find(tx, connection, lock=True)
    if known is not None and {name: getattr(known, name) for name in said} != said:
        changed: dict[str, Any] = {**said, "status": "configured", "updated_at": tx.time()}
        if known.connector_id != connector_id:
            changed |= {
                **_NO_HOLD,
                "resolved_version": None,
                "resolved_digest": None,
                "resolved_at": None,
                "decision": sa.null(),
                "approved_surface": sa.null(),
            }
        _update(tx, connection, changed)
    return get(tx, connection)


def find(tx: Transaction, connection: ConnectionKey, *, lock: bool = False) -> TenantConnection | None:
    """Return one connection's row or None; ``lock`` keeps others from changing it until the transaction ends."""
    query = sa.select(table).where(belongs_to(table, connection))
    row = tx.execute(query.with_for_update() if lock else query).one_or_none()
    return None if row is None else _connection(row)


def get(tx: Transaction, connection: ConnectionKey) -> TenantConnection:
    """Return one connection's row.

    Raises:
        ConfigurationError: it is not onboarded (WH-REG-030).
    """
    found = find(tx, connection)
    if found is None:
        raise _not_onboarded(connection)
    return found


def all_of(
    tx: Transaction, tenant: str | None = None, connector_id: ConnectorId | None = None
) -> list[TenantConnection]:
    """Return the connections of one tenant or of all, of one connector or of all, by key."""
    query = sa.select(table).order_by(table.c.tenant_id, table.c.project_id, table.c.connection)
    if tenant is not None:
        query = query.where(table.c.tenant_id == tenant)
    if connector_id is not None:
        query = query.where(table.c.connector_id == connector_id)
    return [_connection(row) for row in tx.execute(query)]


def connectors(tx: Transaction) -> dict[ConnectionKey, ConnectorId]:
    """Return which connector each connection is of."""
    columns = (table.c.tenant_id, table.c.project_id, table.c.connection, table.c.connector_id)
    return {key_of(row): row.connector_id for row in tx.execute(sa.select(*columns))}


def remove(tx: Transaction, connection: ConnectionKey) -> None:
    """Forget a connection's row; its runs, states and segments stay for whoever asks later.

    Raises:
        ConfigurationError: it is not onboarded (WH-REG-030).
    """
    if tx.execute(sa.delete(table).where(belongs_to(table, connection))).rowcount == 0:
        raise _not_onboarded(connection)


def claim_lease(
    tx: Transaction, connection: ConnectionKey, *, run_id: RunId, host_id: str, ttl_s: float
) -> Lease | Holder:
    """Take the lease if it is free or has run out, with an epoch one higher; else say who holds it.

    Raises:
        ConfigurationError: the connection is not onboarded (WH-REG-030).
    """
    row = tx.execute(
        sa.update(table)
        .where(
            belongs_to(table, connection),
            sa.or_(table.c.lease_run.is_(None), table.c.lease_until < tx.time()),
        )
        .values(
            lease_run=run_id,
            lease_host=host_id,
            lease_epoch=table.c.lease_epoch + 1,
            lease_until=tx.time(after_s=ttl_s),
        )
        .returning(table.c.lease_epoch, table.c.lease_until)
    ).one_or_none()
    if row is not None:
        return Lease(run_id, host_id, row.lease_epoch, row.lease_until)
    holder = get(tx, connection).lease
    if holder is None:
        # PostgreSQL: released between our two statements. Nobody holds it, so the same claim now succeeds.
        return claim_lease(tx, connection, run_id=run_id, host_id=host_id, ttl_s=ttl_s)
    return Holder(holder.run_id, holder.host_id, holder.epoch, holder.until)


def renew_lease(tx: Transaction, connection: ConnectionKey, *, run_id: RunId, epoch: int, ttl_s: float) -> datetime:
    """Prolong our lease and return its new end. A lease that ran out may be renewed while nobody else took it.

    Raises:
        TransientError: another run has it (WH-REG-010).
    """
    row = tx.execute(
        sa.update(table)
        .where(belongs_to(table, connection), table.c.lease_run == run_id, table.c.lease_epoch == epoch)
        .values(lease_until=tx.time(after_s=ttl_s))
        .returning(table.c.lease_until)
    ).one_or_none()
    if row is None:
        raise _fenced(connection, epoch)
    until: datetime = row.lease_until
    return until


def release_lease(tx: Transaction, connection: ConnectionKey, *, run_id: RunId, epoch: int) -> bool:
    """Give the lease back; say whether it was still ours. The epoch stays, so that it can only grow."""
    result = tx.execute(
        sa.update(table)
        .where(belongs_to(table, connection), table.c.lease_run == run_id, table.c.lease_epoch == epoch)
        .values(lease_run=None, lease_host=None, lease_until=None)
    )
    return result.rowcount == 1


def force_release_lease(tx: Transaction, connection: ConnectionKey) -> Lease | None:
    """Take the lease from whoever has it, for an operator; return it. The holder is fenced at its next commit.

    Raises:
        ConfigurationError: the connection is not onboarded (WH-REG-030).
    """
    known = find(tx, connection, lock=True)
    if known is None:
        raise _not_onboarded(connection)
    if known.lease is not None:
        _update(
            tx,
            connection,
            {"lease_run": None, "lease_host": None, "lease_until": None, "lease_epoch": table.c.lease_epoch + 1},
        )
    return known.lease


def require_epoch(tx: Transaction, connection: ConnectionKey, *, run_id: RunId, epoch: int) -> None:
    """Lock the connection's row and require that its lease is ours: the first act of every commit.

    Raises:
        TransientError: another run has taken over (WH-REG-010).
    """
    row = tx.execute(
        sa.select(table.c.lease_run, table.c.lease_epoch).where(belongs_to(table, connection)).with_for_update()
    ).one_or_none()
    if row is None or row.lease_run != run_id or row.lease_epoch != epoch:
        raise _fenced(connection, epoch)


def hold(
    tx: Transaction, connection: ConnectionKey, *, version: str, who: str, reason: str, until: datetime | None
) -> None:
    """Hold a connection at one version.

    Raises:
        ConfigurationError: it is not onboarded (WH-REG-030).
    """
    _update(
        tx,
        connection,
        {
            "hold_version": version,
            "hold_who": who,
            "hold_reason": reason,
            "hold_at": tx.time(),
            "hold_until": until,
            "updated_at": tx.time(),
        },
    )


def release_hold(tx: Transaction, connection: ConnectionKey) -> Hold:
    """Let range and channel decide again; return the hold that was.

    Raises:
        ConfigurationError: it is not onboarded (WH-REG-030) or not held (WH-REG-031).
    """
    # Locked, for what an operator sets meanwhile is not to be let go unseen.
    known = find(tx, connection, lock=True)
    if known is None:
        raise _not_onboarded(connection)
    if known.hold is None:
        raise ConfigurationError(
            f"{connection} is not held at any version", code=NOT_HELD, hint="`wellhead explain` shows how it resolves"
        )
    _update(tx, connection, {**_NO_HOLD, "updated_at": tx.time()})
    return known.hold


def set_resolved(
    tx: Transaction, connection: ConnectionKey, *, version: str, digest: Digest, decision: Mapping[str, Any]
) -> None:
    """Store which release the plan chose and the reason for each rejected candidate."""
    _update(
        tx,
        connection,
        {
            "resolved_version": version,
            "resolved_digest": digest,
            "resolved_at": tx.time(),
            "decision": dict(decision),
            "updated_at": tx.time(),
        },
    )


def approve_surface(tx: Transaction, connection: ConnectionKey, surface: Mapping[str, Any]) -> None:
    """Store the hosts, scopes and classification the tenant has agreed to."""
    _update(tx, connection, {"approved_surface": dict(surface), "updated_at": tx.time()})


def bind_sink(tx: Transaction, connection: ConnectionKey, sink_id: str, *, rebind: bool = False) -> None:
    """Remember which place holds what this connection has committed; the first sink that comes is bound.

    Args:
        tx: the transaction.
        connection: whose sink it is.
        sink_id: what the place itself says it is.
        rebind: take another place from now on; only right while nothing that is committed waits for its table.

    Raises:
        ConfigurationError: another place is bound (WH-REG-032): what is staged there cannot be published from here.
    """
    known = find(tx, connection, lock=True)
    if known is None:
        raise _not_onboarded(connection)
    if known.sink_id == sink_id:
        return
    if known.sink_id is not None and not rebind:
        raise ConfigurationError(
            f"the sink of {connection} is not the folder this connection has been written to",
            code=OTHER_SINK,
            hint="set sink.path back, or run it on a host that shares that folder: what is committed is finished there "
            "first",
        )
    _update(tx, connection, {"sink_id": sink_id, "updated_at": tx.time()})


def set_enabled(tx: Transaction, connection: ConnectionKey, *, enabled: bool) -> None:
    """Say whether the connection may run."""
    _update(tx, connection, {"enabled": enabled, "updated_at": tx.time()})


def set_status(tx: Transaction, connection: ConnectionKey, status: str) -> None:
    """Set the connection's state: created, configured, ready or error."""
    _update(tx, connection, {"status": status, "updated_at": tx.time()})


_NO_HOLD: Mapping[str, None] = {
    "hold_version": None,
    "hold_who": None,
    "hold_reason": None,
    "hold_at": None,
    "hold_until": None,
}


def _update(tx: Transaction, connection: ConnectionKey, values: Mapping[str, Any]) -> None:
    if tx.execute(sa.update(table).where(belongs_to(table, connection)).values(**values)).rowcount == 0:
        raise _not_onboarded(connection)


def _not_onboarded(connection: ConnectionKey) -> ConfigurationError:
    return ConfigurationError(
        f"the connection {connection} is not onboarded",
        code=NOT_ONBOARDED,
        hint="its first `wellhead run` onboards it; until then nothing is decided about it. "
        "`wellhead connection list` shows the names there are",
    )


def _fenced(connection: ConnectionKey, epoch: int) -> TransientError:
    return TransientError(
        f"another run has taken over {connection}; this one held epoch {epoch}",
        code=FENCED,
        hint="nothing was lost: the other run goes on from the last commit",
    )


def _connection(row: sa.Row[Any]) -> TenantConnection:
    return TenantConnection(
        connection=key_of(row),
        connector_id=row.connector_id,
        version_range=row.version_range,
        channel=row.channel,
        enabled=row.enabled,
        file_sha256=row.file_sha256,
        status=row.status,
        epoch=row.lease_epoch,
        created_at=row.created_at,
        updated_at=row.updated_at,
        resolved=None
        if row.resolved_version is None
        else Resolved(row.resolved_version, row.resolved_digest, row.resolved_at, row.decision),
        hold=None
        if row.hold_version is None
        else Hold(row.hold_version, row.hold_who, row.hold_reason, row.hold_at, row.hold_until),
        approved_surface=row.approved_surface,
        sink_id=row.sink_id,
        lease=None if row.lease_run is None else Lease(row.lease_run, row.lease_host, row.lease_epoch, row.lease_until),
    )
