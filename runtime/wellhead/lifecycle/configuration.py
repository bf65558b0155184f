"""A connection's config as one release gets it: in the version it asks for, whichever it was written for. Not stored.

    file of version 1 ──migrations of the release──▶ version 2 ──profile──▶ checked by its schema ──▶ the connector
    file of version 3 ──✗   kept as of version 1 ──migrations of the release──▶ version 2 ──▶ …

A release's own migrations lead forward, in memory: nobody's file changes. None leads back, so what people wrote for
each version is kept, and a release that asks for less than the file gets what was written then.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from wellhead import profile as profiles
from wellhead.connections import ConnectionFile
from wellhead.errors import Code, ConfigurationError
from wellhead.ids import ConnectorId
from wellhead.lifecycle.host import Host
from wellhead.manifest import config as manifest_config
from wellhead.manifest import migrate
from wellhead.manifest.model import Manifest
from wellhead.registry import kept_configs
from wellhead.registry.database import Transaction
from wellhead.settings import substitute

NOT_KEPT = Code("WH-RUN-083", "A connection's config is newer than a release, and no earlier one is kept.")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a config comes from.

    Attributes:
        written_for: the version of the connector's config it was written for.
        wanted: the version the release asks for.
        steps: what the migrations in between changed, as `migrate.Migrated` tells it.
        kept_at: when it was kept, where it is not the one in the file.
    """

    written_for: int
    wanted: int
    steps: tuple[str, ...] = ()
    kept_at: datetime | None = None

    def document(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return {
            "written_for": self.written_for,
            "wanted": self.wanted,
            "migrated": list(self.steps),
            "kept_at": None if self.kept_at is None else self.kept_at.isoformat(),
        }

    def told(self) -> tuple[str, ...]:
        """Return what people should know, one line each; nothing where the file says what the release asks for."""
        lines = []
        if self.kept_at is not None:
            kept = self.kept_at.isoformat(timespec="seconds")
            lines.append(
                f"config of version {self.written_for} as kept at {kept}; what the file says since is not in it"
            )
        if self.written_for != self.wanted:
            whose = "it" if lines else f"config of version {self.written_for}"
            lines.append(f"{whose} is migrated to version {self.wanted}: {'; '.join(self.steps) or 'nothing changes'}")
        return tuple(lines)


@dataclass(frozen=True, slots=True)
class Configuration:
    """What a connector is given: ``values`` with defaults filled in and the profile joined."""

    values: Mapping[str, Any]
    profile: profiles.Profile | None
    origin: Origin


def configured(host: Host, file: ConnectionFile, manifest: Manifest) -> Configuration:
    """Return a connection's config as a release's manifest completes it.

    Raises:
        ConfigurationError: it does not fit, with the place in the connection's file; it is newer than the release and
            no earlier one is kept (WH-RUN-083); or no migration leads from it to the release (WH-MAN-130, 131).
    """
    connection = file.connection
    profile = None if connection.profile is None else profiles.load(host.settings.path(connection.profile))
    written, version, kept_at = _written(host, file, manifest)
    try:
        migrated = migrate.migrate(written, manifest.config, version)
        values: Mapping[str, Any] = migrated.values
        if profile is not None:
            values = profiles.resolve(profile, values, connection.secrets, manifest.taxonomy.type).config
        values = manifest_config.checked(manifest, values, str(file.file))
    except ConfigurationError as error:
        _locate(error, file, version, manifest.config.version)
        raise
    return Configuration(values, profile, Origin(version, manifest.config.version, migrated.steps, kept_at))


def as_written(file: ConnectionFile) -> dict[str, Any]:
    """Return the config as the file has it: what the environment fills in is not filled in."""
    return dict((file.document.data or {}).get("config") or {})


def keep(tx: Transaction, file: ConnectionFile) -> None:
    """Keep what the file says, for releases that ask for no more than its version."""
    connection = file.connection
    connector = ConnectorId(connection.connector)
    kept_configs.keep(tx, file.key, connector, connection.config_version, as_written(file))


def _written(host: Host, file: ConnectionFile, manifest: Manifest) -> tuple[Mapping[str, Any], int, datetime | None]:
    """Return what was written for the release's version or for one below it, its version, and when it was kept."""
    connection, wanted = file.connection, manifest.config.version
    if connection.config_version <= wanted:
        return connection.config, connection.config_version, None
    with host.database.read() as tx:
        kept = kept_configs.newest(tx, file.key, ConnectorId(connection.connector), wanted)
    if kept is None:
        release = f"{manifest.metadata.id} {manifest.metadata.version}"
        raise ConfigurationError(
            f"config is written for version {connection.config_version}, {release} reads version {wanted}, and no "
            "earlier config of this connection is kept",
            code=NOT_KEPT,
            hint=f"write config as {release} asks and config_version: {wanted} above it, or stay on a newer release",
            place=file.document.place(("config_version",)),
        )
    return substitute(dict(kept.config), os.environ, file.document, ("config",)), kept.version, kept.at


def _locate(error: ConfigurationError, file: ConnectionFile, version: int, wanted: int) -> None:
    """Say where in the file it went wrong, and that the config was on its way to another version."""
    if error.place is not None and error.place.field is not None:
        error.place = file.document.place(tuple(error.place.field.split(".")))
    if version != wanted:
        told = f"config is written for version {version}, and was on its way to version {wanted}"
        error.details = (*error.details, told)
