"""A host in small: the real order of a run, registry, session, sink and SDK server; no Engine and no catalog.

What is replaced is what other tests have: resolving and verifying a release (`plan.freeze`), the container around the
connector (`launch.launched`), and reaping containers.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import duckdb
import pytest
import sqlalchemy as sa

from tests.parts import ROOT, Postgres, new_registry
from wellhead import connections
from wellhead.catalog import resolve
from wellhead.catalog.verify import VerifiedRelease
from wellhead.clock import SystemClock
from wellhead.connections import ConnectionFile
from wellhead.egress.policy import Policy
from wellhead.engine.container import Resources
from wellhead.engine.reaper import Reaped
from wellhead.ids import ConnectionKey, ConnectorId, Digest, StreamKey, StreamName
from wellhead.images.oci import ImageDigests
from wellhead.lifecycle import run as lifecycle
from wellhead.lifecycle.configuration import Origin
from wellhead.lifecycle.host import Host, Run
from wellhead.lifecycle.plan import Deadlines, Plan
from wellhead.lifecycle.report import Report
from wellhead.lifecycle.stop import Stop
from wellhead.manifest.load import load as load_manifest
from wellhead.manifest.model import Manifest
from wellhead.registry import generations, run_state, segments
from wellhead.registry.database import Database
from wellhead.registry.tables import metadata
from wellhead.secrets.base import Reference, SecretStore
from wellhead.settings import Settings
from wellhead.settings import load as load_settings
from wellhead.sinks.jsonl import Jsonl
from wellhead.sinks.parquet import Parquet
from wellhead_generator.config import GeneratorConfig
from wellhead_generator.connector import Generator
from wellhead_sdk.connector import Connector
from wellhead_sdk.server import Release, Server

MANIFEST = load_manifest(ROOT / "tests" / "images" / "generator" / "manifest.yaml")
KEY = ConnectionKey("default", "default", "flights")
NO_CHOICE = resolve.Decision(
    resolve.Request(KEY, ConnectorId("dev/generator"), "*", "stable", {}, "linux/amd64", (1,), "0.1.0"),
    "channel",
    None,
)
IMAGE = ImageDigests(Digest("sha256:manifest"), Digest("sha256:config"))
Started = Callable[[Run], AbstractContextManager[Path]]


class Source(Generator):
    """A generator whose source fails as the test says: what goes wrong there stands in no connection's config."""

    def __init__(self, faults: Mapping[str, Any]) -> None:
        self._faults = faults

    def authenticate(self, config: GeneratorConfig, secrets: Mapping[str, str]) -> Any:
        return super().authenticate(config.model_copy(update=dict(self._faults)), secrets)


@dataclass(slots=True)
class World:
    """One connection on one host."""

    folder: Path
    database: Database
    settings: Settings
    connector: Callable[[], Connector] = Generator
    others: dict[str, Callable[[], Connector]] = field(default_factory=dict)
    """By version: releases that are another connector than ``connector``."""
    references: Mapping[str, Reference] = field(default_factory=dict)
    secrets: SecretStore | None = None
    policy: Policy = field(default_factory=lambda: Policy(()))
    fencer: Any = None
    launches: int = 0
    tape: list[str] = field(default_factory=list)
    """What happened around the connector, in order."""
    sinks: dict[str, Any] = field(default_factory=lambda: {"parquet": Parquet, "jsonl": Jsonl})

    def connect(self, *streams: str | dict[str, Any], **rest: Any) -> ConnectionFile:
        """Write and read the connection's file; the connector's config is under ``config``."""
        document = {
            "name": "flights",
            "connector": "dev/generator",
            "streams": [{"name": stream} if isinstance(stream, str) else stream for stream in streams or ("rows",)],
            **rest,
        }
        file = self.folder / "connections" / "flights.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(document))
        return connections.load(self.settings, "flights", {})

    def configure(self, **sections: Any) -> None:
        """Replace sections of the settings."""
        self.settings = self.settings.model_copy(
            update={name: getattr(self.settings, name).model_copy(update=values) for name, values in sections.items()}
        )

    @contextmanager
    def failing(self, **faults: Any) -> Iterator[None]:
        """Let the source fail for a while, by settings of the generator."""
        connector, self.connector = self.connector, lambda: Source(faults)
        try:
            yield
        finally:
            self.connector = connector

    def run(self, file: ConnectionFile, stop: Stop | None = None, **order: Any) -> Report:
        """Run the connection once."""
        return lifecycle.run(self.host(), file, lifecycle.Order(**order), stop or Stop(), lifecycle.Watch())

    def host(self) -> Host:
        """Return the services of this host."""

        def missing() -> Any:
            raise AssertionError("nothing here may ask for an Engine or a catalog")

        return Host(
            settings=self.settings,
            folder=self.folder / ".wellhead",
            id="host-1",
            database=self.database,
            clock=SystemClock(),
            platform="linux/amd64",
            layout=missing,
            trust=missing,
            engine=missing,
            runner=missing,
            fencer=lambda: self.fencer,
            secrets=lambda: cast("SecretStore", self.secrets),
            sink=lambda selection: self.sinks[selection.type](self.settings.path(selection.path)),
        )

    def plan(
        self, file: ConnectionFile, platform: str, version: str = "1.0.0", manifest: Manifest = MANIFEST.manifest
    ) -> Plan:
        """Return the plan of a run of one release."""
        settings, digest = self.settings, Digest(f"sha256:{version}")
        return Plan(
            connection=file.connection,
            key=file.key,
            release=VerifiedRelease(
                ConnectorId(file.connection.connector),
                version,
                digest,
                manifest,
                MANIFEST.sha256,
                {platform: IMAGE},
                (),
            ),
            platform=platform,
            decision=NO_CHOICE,
            config=dict(file.connection.config),
            origin=Origin(1, 1),
            references=dict(self.references),
            egress=(),
            policy=self.policy,
            resources=Resources(),
            deadlines=Deadlines(10.0, settings.run.silence_s, settings.run.total_s, 5.0),
            profile=None,
            bronze_path=settings.path(file.connection.sink.path),
        )

    @contextmanager
    def served(self, release: VerifiedRelease) -> Iterator[Path]:
        """Serve the connector on a real socket; as short a path as a socket's name must be."""
        folder = Path(tempfile.mkdtemp(prefix="wh-"))
        try:
            served = Release(release.connector, release.version, MANIFEST.sha256)
            with Server(self.others.get(release.version, self.connector)(), served, folder / "c.sock"):
                yield folder / "c.sock"
        finally:
            shutil.rmtree(folder)

    # what came of it

    def rows(self, columns: str = "*", rest: str = "", stream: str = "rows") -> list[tuple[Any, ...]]:
        """Ask DuckDB, which knows nothing of us, what a reader of the table sees."""
        with duckdb.connect() as database:
            return database.execute(
                f"select {columns} from read_parquet('{self.table(stream)}/*.parquet') {rest}"
            ).fetchall()

    def table(self, stream: str = "rows") -> Path:
        """Return the folder of a stream's table."""
        return self.folder / "bronze" / "default" / "default" / "flights" / stream

    def ids(self, stream: str = "rows") -> list[int]:
        """Return every id in the table, in order, repetitions included."""
        return [row[0] for row in self.rows("id", "order by id", stream)]

    def key(self, stream: str = "rows") -> StreamKey:
        """Return the key of one stream."""
        return StreamKey(connections.key_of(self.settings, "flights"), StreamName(stream))

    def generations(self, stream: str = "rows") -> list[tuple[int, str, str]]:
        """Return (number, status, write) of a stream's generations."""
        with self.database.read() as tx:
            return [(row.number, row.status, row.basis.write) for row in generations.all_of(tx, self.key(stream))]

    def units(self, stream: str = "rows") -> dict[str, run_state.UnitState]:
        """Return the rows of a stream's units."""
        with self.database.read() as tx:
            return {row.unit: row for row in run_state.all_of(tx, self.key().connection) if row.stream.stream == stream}

    def unpublished(self) -> int:
        """Return how many committed segments are not in their table."""
        with self.database.read() as tx:
            return len(segments.unpublished(tx, self.key().connection))


@dataclass(frozen=True, slots=True)
class _Started:
    socket_path: Path
    owner_uid: int = os.getuid()
    image_id: str = "sha256:" + "0" * 64


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A connection of the generator on a fresh SQLite registry."""
    (tmp_path / "wellhead.yaml").write_text("commit: {max_s: 600}\nrun: {silence_s: 20, idle_attempts: 2}\n")
    database = Database.open(new_registry(tmp_path / "registry.db"))
    yield from _world(tmp_path, monkeypatch, database)


@pytest.fixture
def world_on_postgresql(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres: Postgres) -> Iterator[World]:
    """The same on PostgreSQL."""
    (tmp_path / "wellhead.yaml").write_text("commit: {max_s: 600}\nrun: {silence_s: 20, idle_attempts: 2}\n")
    postgres.psql("drop database if exists lifecycle_tests")
    postgres.psql("create database lifecycle_tests")
    database = Database.open(postgres.url("lifecycle_tests"))
    database.migrate()
    yield from _world(tmp_path, monkeypatch, database)


def _world(folder: Path, monkeypatch: pytest.MonkeyPatch, database: Database) -> Iterator[World]:
    made = World(folder, database, load_settings(folder / "wellhead.yaml", {}))

    def freeze(here: Run, file: ConnectionFile, platform: str) -> Plan:
        return made.plan(file, platform)

    @contextmanager
    def launched(here: Run, plan: Plan, attachment: object) -> Iterator[_Started]:
        made.launches += 1
        made.tape.append("started")
        try:
            with made.served(plan.release) as socket:
                yield _Started(socket)
        finally:
            made.tape.append("stopped")

    def reap(self: Host, is_alive: object) -> Reaped:
        made.tape.append("reaped")
        return Reaped((), (), (), (), ())

    monkeypatch.setattr("wellhead.lifecycle.run.freeze", freeze)
    monkeypatch.setattr("wellhead.lifecycle.launch.launched", launched)
    monkeypatch.setattr("wellhead.lifecycle.retry.FIRST_DELAY_S", 0.01)
    monkeypatch.setattr(Host, "reap", reap)
    yield made
    made.database.close()


def emptied(database: Database) -> None:
    """Delete every row."""
    with database.transaction() as tx:
        for table in metadata.sorted_tables:
            tx.execute(sa.delete(table))
