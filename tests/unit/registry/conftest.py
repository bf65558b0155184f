"""Both databases, migrated from empty; every test that asks for `database` runs on each."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import pytest
import sqlalchemy as sa

from tests.parts import new_registry
from wellhead.ids import ConnectionKey, ConnectorId, RunId, StreamKey, StreamName
from wellhead.registry import connections
from wellhead.registry.database import Database
from wellhead.registry.tables import metadata

KEY = ConnectionKey("default", "default", "flights")
STREAM = StreamKey(KEY, StreamName("public.flights"))
RUN = RunId("run-1")
LATER = datetime(2030, 1, 1, tzinfo=UTC)


class Server(Protocol):
    """What is asked of tests/parts.py here."""

    def psql(self, sql: str, *, database: str = ..., options: tuple[str, ...] = ...) -> str: ...
    def url(self, database: str = ...) -> str: ...


@pytest.fixture(scope="session")
def postgres_url(postgres: Server) -> str:
    """A migrated PostgreSQL registry for the session."""
    postgres.psql("create database registry_tests")
    url = postgres.url("registry_tests")
    database = Database.open(url)
    database.migrate()
    database.close()
    return url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.real)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty, migrated registry of each kind."""
    url = {"sqlite": lambda: new_registry(tmp_path / "registry.db"), "postgresql": lambda: _emptied(request)}[
        request.param
    ]()
    opened = Database.open(url)
    yield opened
    opened.close()


def _emptied(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue("postgres_url")
    opened = Database.open(url)
    with opened.transaction() as tx:
        for table in metadata.sorted_tables:
            tx.execute(sa.delete(table))
    opened.close()
    return url


@pytest.fixture
def empty_postgresql(request: pytest.FixtureRequest) -> Iterator[Database]:
    """An empty registry on PostgreSQL alone, whose transactions run beside each other."""
    opened = Database.open(_emptied(request))
    yield opened
    opened.close()


def until_one_waits(database: Database) -> None:
    """Return once somebody waits for what a transaction on this PostgreSQL has locked, or after 20 s."""
    waiting = sa.text("select count(*) from pg_locks where not granted")
    for _ in range(400):
        with database.read() as tx:
            if tx.execute(waiting).scalar():
                return
        time.sleep(0.05)


@pytest.fixture
def onboarded(database: Database) -> Database:
    """The registry with one connection in it."""
    return _onboarded(database)


@pytest.fixture
def onboarded_sqlite(tmp_path: Path) -> Iterator[Database]:
    """The same on SQLite alone, which keeps whatever text it is given."""
    opened = Database.open(new_registry(tmp_path / "registry.db"))
    yield _onboarded(opened)
    opened.close()


def _onboarded(database: Database) -> Database:
    with database.transaction() as tx:
        connections.onboard(
            tx,
            KEY,
            connector_id=ConnectorId("wellhead/postgres"),
            version_range="^1",
            channel="stable",
            enabled=True,
            file_sha256="00",
        )
    return database
