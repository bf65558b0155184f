"""``connector_definitions``: the releases we know, each with the digest that was signed.

    registered ──begin_collecting──▶ being collected ──finish_collecting──▶ collected
        ▲  ▲                               │                                   │
        │  └────────── keep ───────────────┘                                   │
        └──────────────── bring_back: published or imported again ◀────────────┘

The row of a collected release stays: what ran it can still be explained, and its version never means other bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from wellhead.errors import Code, ConfigurationError, FatalError, RefusedError, TransientError
from wellhead.ids import ConnectorId, Digest
from wellhead.registry.database import CONTRADICTION, Transaction
from wellhead.registry.tables import connector_definitions as table

OTHER_BYTES = Code("WH-REG-020", "A release of this version is already known, with other bytes.")
UNKNOWN_RELEASE = Code("WH-REG-021", "There is no such release.")
COLLECTED = Code("WH-REG-022", "The files of a release were collected.")
BEING_COLLECTED = Code("WH-REG-023", "A release is being collected at this moment.")

#: Longer than the slowest store needs to remove one release.
COLLECTING_S = 900.0

STATUSES = ("active", "deprecated", "yanked", "blocked")


@dataclass(frozen=True, slots=True)
class PlatformImage:
    """One platform's image inside a release: its manifest and its config, which is the Engine's image id."""

    manifest_digest: Digest
    config_digest: Digest


@dataclass(frozen=True, slots=True)
class Release:
    """One release as published; ``platforms`` maps ``linux/amd64`` and the like to its image."""

    connector_id: ConnectorId
    version: str
    index_digest: Digest
    manifest_sha256: str
    platforms: Mapping[str, PlatformImage]
    manifest: Mapping[str, Any]
    key_id: str
    published_at: datetime
    status: str = "active"
    status_reason: str | None = None
    status_details: Mapping[str, Any] | None = None
    """``replaced_by`` (a version or connector), ``since`` and ``sunset`` (ISO dates), as far as they were said."""
    collected_at: datetime | None = None
    """When its files were collected, or began to be; None where the store has them."""
    collecting_until: datetime | None = None
    """While it is being collected: when whoever does it is taken for dead."""


def register(tx: Transaction, release: Release) -> bool:
    """Add a release; say whether it was new. The same release again changes nothing, not even its status.

    Raises:
        RefusedError: this version is known with other bytes (WH-REG-020).
        TransientError: it was collected while it was put into the store again (WH-REG-023).
        FatalError: another version has these bytes (WH-REG-009).
    """
    if _add(tx, release):
        return True
    if not require_same(tx, release.connector_id, release.version, release.index_digest):
        raise FatalError(
            f"{release.index_digest} is to be {release.connector_id} {release.version}, and is another release already",
            code=CONTRADICTION,
            hint="this is a defect of Wellhead; nothing of this transaction was kept",
        )
    if get(tx, release.connector_id, release.version, lock="share").collected_at is not None:
        raise _being_collected(release.connector_id, release.version, None)
    return False


def _add(tx: Transaction, release: Release) -> bool:
    insert = postgresql.insert if tx.is_postgresql else sqlite.insert
    added = tx.execute(
        insert(table)
        .values(
            connector_id=release.connector_id,
            version=release.version,
            index_digest=release.index_digest,
            manifest_sha256=release.manifest_sha256,
            platforms={
                name: {"manifest_digest": image.manifest_digest, "config_digest": image.config_digest}
                for name, image in release.platforms.items()
            },
            manifest=dict(release.manifest),
            key_id=release.key_id,
            published_at=release.published_at,
            status=release.status,
            status_reason=release.status_reason,
            status_details=sa.null() if release.status_details is None else dict(release.status_details),
        )
        # PostgreSQL: whoever publishes it at the same time is waited for, and has made it the known one.
        .on_conflict_do_nothing()
        .returning(table.c.version)
    )
    return added.one_or_none() is not None


def require_same(tx: Transaction, connector_id: ConnectorId, version: str, digest: Digest) -> bool:
    """Say whether a release is known already.

    Raises:
        RefusedError: it is, with other bytes (WH-REG-020).
    """
    known = find(tx, connector_id, version)
    if known is not None and known.index_digest != digest:
        raise RefusedError(
            f"{connector_id} {version} is already known as {known.index_digest}, this one is {digest}",
            code=OTHER_BYTES,
            hint="a release never changes: give the new bytes a new version",
        )
    return known is not None


Lock = Literal["none", "share", "update"]


def find(tx: Transaction, connector_id: ConnectorId, version: str, *, lock: Lock = "none") -> Release | None:
    """Return one release, collected ones too, or None; ``lock`` keeps others from changing it in between."""
    query = sa.select(table).where(table.c.connector_id == connector_id, table.c.version == version)
    row = tx.execute(_locked(query, lock)).one_or_none()
    return None if row is None else _release(row)


def get(tx: Transaction, connector_id: ConnectorId, version: str, *, lock: Lock = "none") -> Release:
    """Return one release, collected ones too.

    Raises:
        ConfigurationError: there is none (WH-REG-021).
    """
    found = find(tx, connector_id, version, lock=lock)
    if found is None:
        raise ConfigurationError(
            f"there is no release {connector_id} {version}",
            code=UNKNOWN_RELEASE,
            hint="`wellhead catalog list` shows what is published",
        )
    return found


def refer_to(tx: Transaction, connector_id: ConnectorId, version: str) -> Release:
    """Return a release that the transaction is about to refer to; it is not collected before the transaction ends.

    Raises:
        ConfigurationError: there is none (WH-REG-021), or its files were collected (WH-REG-022).
    """
    found = get(tx, connector_id, version, lock="share")
    require_kept(found)
    return found


def require_kept(release: Release) -> None:
    """Refuse a release whose files are gone.

    Raises:
        ConfigurationError: WH-REG-022.
    """
    if release.collected_at is not None:
        raise ConfigurationError(
            f"{release.connector_id} {release.version} was collected at {release.collected_at:%Y-%m-%d %H:%M}Z, "
            "when nothing referred to it",
            code=COLLECTED,
            hint="publish the same sources again, or import it; the version keeps its digest",
        )


def all_of(tx: Transaction, connector_id: ConnectorId | None = None, *, lock: Lock = "none") -> list[Release]:
    """Return the releases of one connector, or of all, in the order they were published; collected ones too."""
    query = sa.select(table).order_by(table.c.connector_id, table.c.published_at, table.c.version)
    if connector_id is not None:
        query = query.where(table.c.connector_id == connector_id)
    return [_release(row) for row in tx.execute(_locked(query, lock))]


def begin_collecting(tx: Transaction, connector_id: ConnectorId, version: str) -> None:
    """Take a release out of every choice, and claim its files for `COLLECTING_S` seconds."""
    _set(tx, connector_id, version, collected_at=tx.time(), collecting_until=tx.time(after_s=COLLECTING_S))


def interrupt_collecting(tx: Transaction, connector_id: ConnectorId, version: str) -> None:
    """Say that a collection broke off: the next one goes on with it."""
    _set(tx, connector_id, version, collecting_until=tx.time())


def finish_collecting(tx: Transaction, connector_id: ConnectorId, version: str) -> None:
    """Say that the files of a release are gone."""
    _set(tx, connector_id, version, collecting_until=sa.null())


def keep(tx: Transaction, connector_id: ConnectorId, version: str) -> None:
    """Say that the files of a release stay after all."""
    _set(tx, connector_id, version, collected_at=sa.null(), collecting_until=sa.null())


def bring_back(tx: Transaction, connector_id: ConnectorId, version: str) -> bool:
    """Let a release that was collected be one of ours again, before its files are put into the store; say if it was.

    Raises:
        TransientError: whoever collects it is still at it (WH-REG-023).
    """
    found = find(tx, connector_id, version, lock="update")
    if found is None or found.collected_at is None:
        return False
    busy = sa.select(table.c.collecting_until > tx.time()).where(
        table.c.connector_id == connector_id, table.c.version == version
    )
    if tx.execute(busy).scalar():
        raise _being_collected(connector_id, version, found.collecting_until)
    keep(tx, connector_id, version)
    return True


def set_status(
    tx: Transaction,
    connector_id: ConnectorId,
    version: str,
    status: str,
    reason: str | None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Set the lifecycle status to one of `STATUSES`; what was said with the former one is forgotten.

    Raises:
        ConfigurationError: there is no such release (WH-REG-021).
    """
    get(tx, connector_id, version)
    tx.execute(
        sa.update(table)
        .where(table.c.connector_id == connector_id, table.c.version == version)
        .values(status=status, status_reason=reason, status_details=sa.null() if details is None else dict(details))
    )


def _set(tx: Transaction, connector_id: ConnectorId, version: str, **values: Any) -> None:
    tx.execute(
        sa.update(table).where(table.c.connector_id == connector_id, table.c.version == version).values(**values)
    )


def _locked(query: sa.Select[Any], lock: Lock) -> sa.Select[Any]:
    return query if lock == "none" else query.with_for_update(read=lock == "share")


def _being_collected(connector_id: ConnectorId, version: str, until: datetime | None) -> TransientError:
    when = "" if until is None else f", after {until:%H:%M}Z at the latest"
    return TransientError(
        f"{connector_id} {version} is being collected by somebody at this moment",
        code=BEING_COLLECTED,
        hint=f"publish or import it again{when}",
    )


def _release(row: sa.Row[Any]) -> Release:
    return Release(
        connector_id=row.connector_id,
        version=row.version,
        index_digest=row.index_digest,
        manifest_sha256=row.manifest_sha256,
        platforms={
            name: PlatformImage(image["manifest_digest"], image["config_digest"])
            for name, image in row.platforms.items()
        },
        manifest=row.manifest,
        key_id=row.key_id,
        published_at=row.published_at,
        status=row.status,
        status_reason=row.status_reason,
        status_details=row.status_details,
        collected_at=row.collected_at,
        collecting_until=row.collecting_until,
    )
