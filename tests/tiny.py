"""Releases of a few bytes in a real project: signed, stored and registered as `wellhead publish` does it."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.integration.stores import releases
from tests.project import Project
from wellhead.catalog import keys
from wellhead.ids import ConnectorId
from wellhead.images import build
from wellhead.images.layout import Layout
from wellhead.registry import channels, definitions
from wellhead.registry.database import Database

TINY = ConnectorId("dev/tiny")
PLATFORMS = ("linux/amd64", "linux/arm64")
#: A number for each release, so that their order is the order of these calls and two publications of one are one.
_FIRST = datetime(2026, 1, 1, tzinfo=UTC)


def database(project: Project) -> Database:
    """Open the project's registry."""
    return Database.open(f"sqlite:///{project.root}/.wellhead/registry.db")


def store(project: Project) -> Layout:
    """Return the project's store."""
    return Layout.create(project.root / ".wellhead" / "store")


def stored(project: Project, version: str, connector: ConnectorId = TINY) -> build.Built:
    """Build and sign a release for two platforms with the project's key and put it into the project's store."""
    key = keys.load_private(project.root / ".wellhead" / "keys" / "dev.key")
    with tempfile.TemporaryDirectory() as scratch:
        return releases.publish(Path(scratch), connector, version, key, store(project), PLATFORMS)


def row(project: Project, built: build.Built) -> definitions.Release:
    """Return what the registry says of a release."""
    key = keys.load_private(project.root / ".wellhead" / "keys" / "dev.key")
    return definitions.Release(
        connector_id=built.connector,
        version=built.version,
        index_digest=built.index_digest,
        manifest_sha256=built.manifest_sha256,
        platforms={name: definitions.PlatformImage(item.manifest, item.config) for name, item in built.images.items()},
        manifest=json.loads(built.loaded.canonical_json()),
        key_id=key.public.id,
        published_at=_FIRST,
    )


def publish(project: Project, version: str, channel: str = "stable", connector: ConnectorId = TINY) -> build.Built:
    """Store and register a release, and point a channel to it."""
    built = stored(project, version, connector)
    opened = database(project)
    try:
        with opened.transaction() as tx:
            definitions.register(tx, row(project, built))
            channels.point(
                tx,
                connector,
                channel,
                version=version,
                index_digest=built.index_digest,
                who="tests",
                reason="published",
            )
    finally:
        opened.close()
    return built


def sql(project: Project, statement: str, *values: Any) -> None:
    """Change the registry behind everybody's back."""
    with closing(sqlite3.connect(project.root / ".wellhead" / "registry.db")) as opened, opened:
        assert opened.execute(statement, values).rowcount > 0
