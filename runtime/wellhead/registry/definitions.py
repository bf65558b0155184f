"""``connector_definitions``: the releases we know, each with the digest that was signed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from wellhead.errors import Code, ConfigurationError, RefusedError
from wellhead.ids import ConnectorId, Digest
from wellhead.registry.database import Transaction
from wellhead.registry.tables import connector_definitions as table

OTHER_BYTES = Code("WH-REG-020", "A release of this version is already known, with other bytes.")
UNKNOWN_RELEASE = Code("WH-REG-021", "There is no such release.")

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


def register(tx: Transaction, release: Release) -> bool:
    """Add a release; say whether it was new. The same release again changes nothing, not even its status.

    Raises:
        RefusedError: this version is known with other bytes (WH-REG-020).
    """
    if require_same(tx, release.connector_id, release.version, release.index_digest):
        return False
    tx.execute(
        sa.insert(table).values(
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
    )
    return True


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


def find(tx: Transaction, connector_id: ConnectorId, version: str) -> Release | None:
    """Return one release, or None."""
    row = tx.execute(
        sa.select(table).where(table.c.connector_id == connector_id, table.c.version == version)
    ).one_or_none()
    return None if row is None else _release(row)


def get(tx: Transaction, connector_id: ConnectorId, version: str) -> Release:
    """Return one release.

    Raises:
        ConfigurationError: there is none (WH-REG-021).
    """
    found = find(tx, connector_id, version)
    if found is None:
        raise ConfigurationError(
            f"there is no release {connector_id} {version}",
            code=UNKNOWN_RELEASE,
            hint="`wellhead catalog list` shows what is published",
        )
    return found


def all_of(tx: Transaction, connector_id: ConnectorId | None = None) -> list[Release]:
    """Return the releases of one connector, or of all, in the order they were published."""
    query = sa.select(table).order_by(table.c.connector_id, table.c.published_at, table.c.version)
    if connector_id is not None:
        query = query.where(table.c.connector_id == connector_id)
    return [_release(row) for row in tx.execute(query)]


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
    )
