"""A database for tests of the PostgreSQL connector, and a tape in the place of the SDK's way out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pyarrow as pa
from psycopg import conninfo

from tests.parts import Postgres as Server
from wellhead_postgres.config import PostgresConfig
from wellhead_postgres.connector import Postgres
from wellhead_postgres.session import Session
from wellhead_sdk import Filter, ReadRequest, SyncMode, Unit


class StoppedError(BaseException):
    """Unwinds a read, as the SDK does when the host asks to stop."""


@dataclass
class Tape:
    """Records what a read puts out; stops it after ``stop_after`` checkpoints."""

    stop_after: int | None = None
    on_emit: Callable[[], None] = lambda: None
    batches: list[pa.RecordBatch] = field(default_factory=list)
    states: list[tuple[int, Any]] = field(default_factory=list)
    rejected: list[dict[str, Any]] = field(default_factory=list)
    logged: list[str] = field(default_factory=list)
    pages: int = 0

    def emit(self, batch: pa.RecordBatch) -> None:
        batch.validate(full=True)
        self.batches.append(batch)
        self.on_emit()

    def checkpoint(self, state: dict[str, Any]) -> None:
        self.states.append((len(self.batches), json.loads(json.dumps(state))))
        if self.stop_after is not None and len(self.states) >= self.stop_after:
            raise StoppedError

    def reject(self, record: dict[str, Any], **said: Any) -> None:
        self.rejected.append({"record": record, **said})

    def count(self, *, pages: int = 0, **_: int) -> None:
        self.pages += pages

    def log(self, level: object, message: str, **fields: object) -> None:
        self.logged.append(message)

    @property
    def state(self) -> Any:
        """The last state offered."""
        return self.states[-1][1] if self.states else None

    @property
    def committed(self) -> list[pa.RecordBatch]:
        """The batches the last state covers."""
        return self.batches[: self.states[-1][0]] if self.states else []

    def rows(self) -> list[dict[str, Any]]:
        return [row for batch in self.batches for row in batch.to_pylist()]

    def column(self, name: str) -> list[Any]:
        return [value for batch in self.batches for value in batch.column(name).to_pylist()]


@dataclass
class Source:
    """One empty database and a connector that is logged in to it."""

    server: Server
    database: str
    connector: Postgres
    session: Session

    def psql(self, sql: str, **options: Any) -> str:
        return self.server.psql(sql, database=self.database, **options)

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.server.url(self.database))

    def request(self, stream: str, mode: SyncMode = SyncMode.FULL_REFRESH, **wanted: Any) -> ReadRequest:
        offered = self.connector.describe(self.session, stream)
        assert offered is not None
        schema = offered.schema
        if wanted.get("columns"):
            schema = pa.schema([schema.field(name) for name in wanted["columns"]])
        filters = tuple(Filter(*each) for each in wanted.pop("filters", ()))
        wanted.setdefault("primary_key", tuple(offered.primary_key))
        return ReadRequest(stream=stream, mode=mode, schema=schema, filters=filters, **wanted)

    def read(self, request: ReadRequest, tape: Tape | None = None) -> Tape:
        tape = tape or Tape()
        self.connector.read(self.session, request, tape)  # type: ignore[arg-type]
        return tape

    def full(self, stream: str, **wanted: Any) -> Tape:
        """Read a stream completely, unit after unit."""
        tape = Tape()
        request = self.request(stream, **wanted)
        for unit in self.connector.plan(self.session, request).units:
            self.read(self.request(stream, unit=Unit(unit.key, unit.descriptor), **wanted), tape)
        return tape

    def behind(self, stream: str, cursor_field: str, cursor: Any = None, **wanted: Any) -> Tape:
        """Read a stream incrementally."""
        tape = wanted.pop("tape", None)
        request = self.request(stream, SyncMode.INCREMENTAL, cursor_field=cursor_field, cursor=cursor, **wanted)
        return self.read(request, tape)


def config_of(url: str, **changes: Any) -> PostgresConfig:
    """Return the config that reaches ``url``."""
    where = conninfo.conninfo_to_dict(url)
    fields = {
        "host": where["host"],
        "port": int(str(where["port"])),
        "database": where["dbname"],
        "ssl_mode": "disable",
    }
    return PostgresConfig(**{**fields, **changes})


@contextmanager
def source(server: Server, name: str, **changes: Any) -> Iterator[Source]:
    """Lend a fresh database called ``name``, and the connector in it as the superuser."""
    with server.database(name) as url:
        connector = Postgres()
        secrets = {"username": "postgres", "password": server.password}
        session = connector.authenticate(config_of(url, **changes), secrets)
        try:
            yield Source(server, name, connector, session)
        finally:
            connector.close(session)
