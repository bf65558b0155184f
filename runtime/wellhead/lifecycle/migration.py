"""Bringing a connection's file to the version of its config that its release asks for, when its people want it.

Runs need none of it: they migrate in memory. What the file said is kept first, for releases that ask for less.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from wellhead import connections, documents
from wellhead.connections import Connection, ConnectionFile
from wellhead.errors import Code, ConfigurationError, TransientError
from wellhead.ids import ConnectorId
from wellhead.lifecycle import configuration
from wellhead.lifecycle.host import Host
from wellhead.lifecycle.resolution import choose
from wellhead.manifest import load, migrate
from wellhead.manifest.model import Manifest
from wellhead.manifest.rewrite import rewrite
from wellhead.registry import definitions
from wellhead.settings import substitute

NEWER = Code("WH-RUN-084", "A connection's file is written for a newer version of its config than its release reads.")
NOT_IN_FILE = Code("WH-RUN-086", "A migration changes a value that does not stand in a connection's file.")
CHANGED = Code("WH-RUN-089", "A connection's file was changed while it was rewritten.")


@dataclass(frozen=True, slots=True)
class Rewriting:
    """What a connection's file would become: ``text``, all of it; ``steps`` are told as by `migrate.Migrated`."""

    file: ConnectionFile
    release: str
    version: int
    steps: tuple[str, ...]
    text: str


def wanted(host: Host, file: ConnectionFile) -> Manifest:
    """Return the manifest of the release a connection gets now, whether or not its config fits it.

    Raises:
        ConfigurationError: nothing can be resolved.
    """
    connector = ConnectorId(file.connection.connector)
    chosen = choose(host, file, host.platform).require()
    with host.database.read() as tx:
        return load.of_release(connector, chosen.version, definitions.get(tx, connector, chosen.version).manifest)


def rewriting(host: Host, file: ConnectionFile) -> Rewriting | None:
    """Return what the file becomes for the release the connection gets now; None where it is of its version already.

    Raises:
        ConfigurationError: nothing can be resolved, the file is newer than the release (WH-RUN-084), a migration does
            not fit or changes what the environment fills in (WH-MAN-131, WH-RUN-086), or what comes out cannot be
            written (WH-MAN-132) or does not fit the release (WH-MAN-110).
    """
    manifest = wanted(host, file)
    before, after = file.connection.config_version, manifest.config.version
    release = f"{manifest.metadata.id} {manifest.metadata.version}"
    if before == after:
        return None
    if before > after:
        raise ConfigurationError(
            f"the file is written for config version {before}, and {release} reads version {after}",
            code=NEWER,
            hint="nothing has to change: it gets the config that was kept, as `wellhead explain` says",
            place=file.document.place(("config_version",)),
        )
    migrated = migrate.migrate(file.connection.config, manifest.config, before)
    text = rewrite(file.document, migrate.way(manifest.config, before), after)
    made = _read(file, text)
    _require_same(file, made.connection.config, migrated.values)
    configuration.configured(host, made, manifest)
    return Rewriting(file, release, after, migrated.steps, text)


def carry_out(host: Host, order: Rewriting) -> None:
    """Keep what the file says and rewrite it; called twice, the second time keeps and writes the same.

    Raises:
        TransientError: somebody has changed the file meanwhile (WH-RUN-089); then it is as they left it.
    """
    with host.database.transaction() as tx:
        configuration.keep(tx, order.file)
    with connections.changing(order.file.file):
        _require_unchanged(order.file)
        connections.replace(order.file.file, order.text)


def _require_unchanged(file: ConnectionFile) -> None:
    if documents.read(file.file).content != file.document.content:
        raise TransientError(
            f"{file.file} was changed meanwhile", code=CHANGED, hint="call it again; nothing was written"
        )


def _read(file: ConnectionFile, text: str) -> ConnectionFile:
    """Return the connection as its new file says it."""
    document = documents.parse(text.encode(), str(file.file))
    connection = documents.validate(Connection, document, substitute(document.data, os.environ, document))
    return replace(file, connection=connection, document=document)


def _require_same(file: ConnectionFile, made: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse a file that would give the release another config than it gets now."""
    other = sorted(name for name in {**made, **wanted} if made.get(name, ...) != wanted.get(name, ...))
    if other:
        raise ConfigurationError(
            f"config.{other[0]} is filled in from the environment, and a migration changes its value",
            code=NOT_IN_FILE,
            hint="write the new value into the environment, and migrate the file by hand; runs go on as they are",
            place=file.document.place(("config", other[0])),
        )
