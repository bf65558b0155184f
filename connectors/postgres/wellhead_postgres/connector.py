"""The connector: log in, offer tables, read them in ranges of their key or behind a cursor.

A full refresh is cut into ranges of the primary key, read in key order so that each can go on from its last key.
Ranges read by one session share one snapshot. After an interruption a new snapshot takes its place, because a snapshot
ends with the session that exported it: each row is then as of one moment during the refresh, but not all of the same.
"""

from __future__ import annotations

import functools
import itertools
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc
from adbc_driver_manager import dbapi as adbc

from wellhead_postgres import query, tables
from wellhead_postgres.config import PostgresConfig
from wellhead_postgres.session import Session, open_session, stream_error
from wellhead_postgres.tables import Column, Table
from wellhead_sdk import (
    WHOLE_STREAM,
    Configuration,
    Connector,
    Identity,
    LogLevel,
    Out,
    Plan,
    PlanStale,
    Pushdown,
    ReadRequest,
    Stream,
    SyncMode,
    Transient,
    Unit,
)
from wellhead_sdk.cursor import MAX_SEEN, Cursor
from wellhead_sdk.errors import counted

#: Cursor columns the lookback applies to.
_TIMES = ("date", "timestamp", "timestamptz")
_BATCH_BYTES_HINT = "adbc.postgresql.batch_size_hint_bytes"
_LEAST_BATCH = 64 * 1024
_LARGEST_BATCH = 4 * 1024 * 1024
#: A range with fewer rows costs more to open than it gains.
_ROWS_PER_PARTITION = 500_000


@dataclass(frozen=True, slots=True)
class Page:
    """Rows as one pull from the server gave them: good ones, bad ones, and where the pull ended."""

    batch: pa.RecordBatch
    rejected: tuple[tuple[dict[str, str], dict[str, str]], ...]
    last_key: tuple[str | None, ...]
    size_bytes: int


class Postgres(Connector):
    """Tables, views and materialised views of one schema."""

    Config: ClassVar[type[PostgresConfig]] = PostgresConfig
    max_parallel: ClassVar[int] = 4

    def authenticate(self, config: PostgresConfig, secrets: Mapping[str, str]) -> Session:
        """Log in; see `session.open_session` for what can go wrong."""
        is_private = any(
            opened.private and (opened.host, opened.port) == (config.host, config.port) for opened in self.hosts
        )
        return open_session(config, secrets, is_private=is_private, folder=Path(tempfile.gettempdir()))

    def identify(self, session: Session) -> Identity:
        """Answer with the user the server knows us as."""
        return Identity(f"{session.server.user}@{session.config.database}")

    def probes(self, session: Session) -> Mapping[str, Callable[[], str]]:
        """Offer tests of the login, of TLS and of the schema, and a word on what incremental reads promise."""
        return {
            "login": lambda: f"PostgreSQL {session.server.version} as {session.server.user}",
            "tls": lambda: f"ssl_mode {session.ssl_mode}; in use: {session.server.tls}",
            "schema": lambda: self._schema_probe(session),
            "lookback": lambda: (
                f"rows that commit up to {session.config.lookback_seconds} s behind a time cursor are read; later "
                "ones, and late ones behind a number, are outside the promise; of more than "
                f"{MAX_SEEN:,} rows within the lookback each run emits the rest again, and local times without a zone "
                "that are ahead of UTC widen it by as much"
            ),
        }

    def _schema_probe(self, session: Session) -> str:
        with session.catalog() as connection:
            schema = session.config.schema_
            row = connection.execute(
                "SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = %s", (schema,)
            ).fetchone()
            if row is None:
                raise Configuration(
                    f"there is no schema {schema!r} in database {session.config.database!r}",
                    reason="not_found",
                    fields={"schema": "does not exist"},
                )
            if not row[0]:
                raise Configuration(
                    f"{session.server.user} may not use the schema {schema!r}",
                    reason="permission_denied",
                    hint=f"GRANT USAGE ON SCHEMA {query.name(schema)} TO {query.name(session.server.user)}",
                    fields={"schema": "USAGE is not granted"},
                )
            count = sum(1 for _ in tables.find(connection, schema))
        return f"{counted(count, 'table')} of schema {schema} can be read"

    def discover(self, session: Session) -> Iterable[Stream]:
        """Offer every table of the schema that the user may read."""
        self._schema_probe(session)
        with session.catalog() as connection:
            for table in tables.find(connection, session.config.schema_):
                if table.columns:
                    yield table.stream()

    def describe(self, session: Session, name: str) -> Stream | None:
        """Offer one table.

        Raises:
            Configuration: there is none of that name, or it may not be read; the hint says which.
        """
        return self._table(session, name).stream()

    def pushdown(self, session: Session, request: ReadRequest) -> Pushdown:
        """Take over the columns, and the filters PostgreSQL answers as the host would."""
        table = self._table(session, request.stream)
        taken = [at for at, wanted in enumerate(request.filters) if query.is_pushed_down(table, wanted)]
        return Pushdown(columns=True, filters=taken)

    def plan(self, session: Session, request: ReadRequest) -> Plan:
        """Cut a full refresh of a large table with a single-column key into ranges of the key."""
        whole = Plan((Unit(WHOLE_STREAM),))
        table = self._table(session, request.stream)
        wanted = session.config.partitions or min(self.max_parallel, table.estimated_rows // _ROWS_PER_PARTITION)
        if request.mode is not SyncMode.FULL_REFRESH or len(table.primary_key) != 1 or wanted < 2:
            return whole
        with session.catalog() as connection:
            bounds = tables.key_bounds(connection, table)
        inner = [bounds[at * (len(bounds) - 1) // wanted] for at in range(1, wanted)] if len(bounds) > wanted else []
        if not inner:
            return whole
        edges = [None, *inner, None]
        estimate = table.estimated_rows // wanted or None
        units = [
            Unit(f"range-{at}", {"key": table.primary_key[0], "from": low, "below": high}, estimate)
            for at, (low, high) in enumerate(itertools.pairwise(edges))
        ]
        session.share(_snapshot_name(request), (unit.key for unit in units))
        return Plan(units)

    def check_plan(self, session: Session, request: ReadRequest, units: Sequence[Unit]) -> None:
        """Refuse ranges of a key the table no longer has."""
        table = self._table(session, request.stream)
        for unit in units:
            if isinstance(unit.descriptor, dict) and (unit.descriptor.get("key"),) != table.primary_key:
                raise PlanStale(f"the key of {request.stream} is no longer {unit.descriptor.get('key')}")

    def read(self, session: Session, request: ReadRequest, out: Out) -> None:
        """Read one unit to its end, offering a checkpoint about every 4 MiB where the table's key allows it."""
        table = self._table(session, request.stream)
        columns = [table.column(field.name) for field in request.schema if field.name in table.arrow.names]
        if not pa.schema([column.field for column in columns]).equals(request.schema, check_metadata=True):
            raise Transient(f"{request.stream} was altered since it was discovered", stream=request.stream)
        filters = [query.condition(table, each) for each in request.filters if query.is_pushed_down(table, each)]
        if request.mode is SyncMode.INCREMENTAL:
            _read_behind_cursor(session, request, out, table, columns, filters)
        else:
            _read_range(session, request, out, table, columns, filters)

    def close(self, session: Session) -> None:
        """End the shared snapshots."""
        session.close()

    def _table(self, session: Session, name: str) -> Table:
        schema, _, table = name.partition(".")
        with session.catalog() as connection:
            found = next(tables.find(connection, schema, table), None) if schema == session.config.schema_ else None
            if found is not None and found.columns:
                return found
            exists = connection.execute(
                "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
                "WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p', 'v', 'm', 'f')",
                (schema, table),
            ).fetchone()
        if exists and schema == session.config.schema_:
            raise Configuration(
                f"{session.server.user} may not read {name}",
                reason="permission_denied",
                hint=f"GRANT SELECT ON {query.name(schema)}.{query.name(table)} TO {query.name(session.server.user)}",
                stream=name,
            )
        raise Configuration(
            f"there is no table {name!r} in schema {session.config.schema_!r} of database {session.config.database!r}",
            reason="not_found",
            hint="streams are named SCHEMA.TABLE; `wellhead streams` lists them",
            stream=name,
        )


def _read_range(
    session: Session, request: ReadRequest, out: Out, table: Table, columns: list[Column], filters: list[str]
) -> None:
    """Read a range of the key, or a whole table; one without a key has no place to go on from but its end."""
    conditions = list(filters)
    shared = ""
    key = table.primary_key
    if isinstance(request.unit.descriptor, dict) and request.unit.key != WHOLE_STREAM:
        shared = _snapshot_name(request)
        low, high = request.unit.descriptor["from"], request.unit.descriptor["below"]
        conditions += [] if low is None else [query.beyond(key, ">=", [low])]
        conditions += [] if high is None else [query.beyond(key, "<", [high])]
    if request.cursor is not None:
        if request.cursor["key"] != list(key):
            raise PlanStale(f"the key of {request.stream} is no longer {', '.join(request.cursor['key']) or 'none'}")
        if not key:
            return
        conditions.append(query.beyond(key, ">", request.cursor["after"]))
    with session.snapshot(shared) as cursor:
        select = query.select(table, columns, order=key, conditions=conditions)
        pending = 0
        for page in _pages(cursor, select, request, request.schema, table):
            _emit(page, out)
            pending += page.size_bytes
            if key and pending >= _LARGEST_BATCH:
                out.checkpoint({"key": list(key), "after": list(page.last_key)})
                pending = 0
        if key and pending:
            out.checkpoint({"key": list(key), "after": list(page.last_key)})
    if shared:
        session.done(shared, request.unit.key)
    if not key:
        # Rows that are committed with the state of the beginning would be read, and committed, once more.
        out.checkpoint({"key": [], "after": []})


def _snapshot_name(request: ReadRequest) -> str:
    return f"{request.stream}#{request.generation}"


def _read_behind_cursor(
    session: Session, request: ReadRequest, out: Out, table: Table, columns: list[Column], filters: list[str]
) -> None:
    """Read from the lookback on, in the order of the cursor, and leave out what was emitted before."""
    column = table.column(request.cursor_field)
    quoted, kind = query.name(column.name), column.rule.cursor_type
    # The SDK's cursor needs the column even where nobody wants it.
    hidden = [] if column in columns else [column]
    schema = pa.schema([each.field for each in (*columns, *hidden)])
    state = request.cursor or {}
    is_first = request.cursor is None or bool(state.get("first"))
    # It bounds what comes before the first position, however many runs that takes.
    asked = None if request.since is None else request.since.isoformat()
    since = asked if request.cursor is None else state.get("since")
    bounded = {} if since is None else {"since": since}
    with session.snapshot() as sql:
        sql.execute(f"SELECT now()::{kind}" if kind in _TIMES else "SELECT NULL::date")
        ((snapshot_at,),) = sql.fetchall()
        cursor = Cursor(
            request.cursor, column.field, snapshot_at=snapshot_at, lookback_s=session.config.lookback_seconds
        )
        conditions = list(filters)
        if since is not None:
            conditions.append(_since(request, str(since), quoted, kind))
        if cursor.low is not None:
            low = cursor.low if isinstance(cursor.low, int) else cursor.low.isoformat()
            behind = f"{quoted} >= {query.literal(str(low))}::{kind}"
            # Rows without a cursor sort last, so a first read that was interrupted has not met them yet.
            conditions.append(f"{behind} OR {quoted} IS NULL" if is_first else behind)
        elif not is_first:
            # No row had a value yet, so nothing else bounds this read; those without one came with the first.
            conditions.append(f"{quoted} IS NOT NULL")
        select = query.select(table, [*columns, *hidden], order=(request.cursor_field,), conditions=conditions)
        pending = 0
        for page in _pages(sql, select, request, schema, table):
            fresh = cursor.take(page.batch)
            _emit(replace(page, batch=fresh.select(request.schema.names)), out)
            pending += page.size_bytes
            if pending >= _LARGEST_BATCH and None not in page.last_key:
                out.checkpoint({**cursor.state(), "first": is_first, **bounded})
                pending = 0
    if cursor.reread:
        out.log(
            LogLevel.WARNING,
            f"of the rows within the lookback of {request.cursor_field!r} a state remembers {MAX_SEEN:,}; the others "
            "were emitted again, and are so by each run until newer rows leave them behind",
            rows=cursor.reread,
            stream=request.stream,
            mend="lower lookback_seconds, or choose a cursor_field of which fewer rows share a value",
        )
    reached = cursor.state(final=True)
    out.checkpoint(reached if "high" in reached else {**reached, **bounded})


def _since(request: ReadRequest, since: str, quoted: str, kind: str | None) -> str:
    if kind not in _TIMES:
        raise Configuration(
            f"`since` is a time, and {request.cursor_field} holds numbers",
            reason="invalid_request",
            hint="leave `since` out, or filter by the column",
            fields={"since": f"cannot bound {request.cursor_field}"},
            stream=request.stream,
        )
    return f"{quoted} >= {query.literal(since)}::timestamptz::{kind}"


def _pages(
    cursor: adbc.Cursor, select: query.Select, request: ReadRequest, schema: pa.Schema, table: Table
) -> Iterator[Page]:
    """Pull the rows of ``select``, about ``batch_size`` at a time."""
    pull = max(_LEAST_BATCH, min(request.batch_size * table.row_bytes, _LARGEST_BATCH))
    cursor.adbc_statement.set_options(**{_BATCH_BYTES_HINT: str(pull)})
    cursor.execute(select.sql)
    for raw in _told_batches(cursor.fetch_record_batch()):
        if raw.num_rows:
            yield _page(raw, select, schema, table.primary_key)


def _told_batches(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    try:
        yield from reader
    except (OSError, pa.ArrowException) as exc:
        raise stream_error(str(exc)) from exc


def _page(raw: pa.RecordBatch, select: query.Select, schema: pa.Schema, primary_key: Sequence[str]) -> Page:
    last_key = _key(raw, raw.num_rows - 1, select)
    size_bytes = raw.nbytes
    is_bad = _bad(raw, select)
    rejected: tuple[tuple[dict[str, str], dict[str, str]], ...] = ()
    if is_bad is not None and pc.any(is_bad).as_py():
        rejected = tuple(_bad_rows(raw.filter(is_bad), select, primary_key))
        raw = raw.filter(pc.invert(is_bad))
    arrays = [
        pc.cast(raw.column(at), column.rule.arrow) if column.rule.is_decimal else raw.column(at)
        for at, column in enumerate(select.columns)
    ]
    return Page(pa.RecordBatch.from_arrays(arrays, schema=schema), rejected, tuple(last_key.values()), size_bytes)


def _bad(raw: pa.RecordBatch, select: query.Select) -> pa.Array | None:
    """Return which rows hold what Arrow cannot; None where no column can."""
    found = [pc.is_valid(raw.column(select.guard_at))] if select.guard_at is not None else []
    # Cheaper here than at the server: the text has come anyway.
    found += [
        pc.fill_null(pc.equal(raw.column(at), "NaN"), False)
        for at, column in enumerate(select.columns)
        if column.rule.is_decimal
    ]
    return functools.reduce(pc.or_, found) if found else None


def _bad_rows(
    raw: pa.RecordBatch, select: query.Select, primary_key: Sequence[str]
) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """Yield (key, {column: text}) of each row that holds what Arrow cannot."""
    for row in range(raw.num_rows):
        guarded = None if select.guard_at is None else raw.column(select.guard_at)[row].as_py()
        values: dict[str, str] = json.loads(guarded) if guarded else {}
        for at, column in enumerate(select.columns):
            if column.rule.is_decimal and raw.column(at)[row].as_py() == "NaN":
                values[column.name] = "NaN"
        key = _key(raw, row, select)
        yield {name: str(key[name]) for name in primary_key if name in key}, values


def _key(raw: pa.RecordBatch, row: int, select: query.Select) -> dict[str, str | None]:
    """Return the texts of the columns that order the rows."""
    values = [raw.column(at)[row].as_py() for at in select.keys_at]
    texts = [None if value is None else str(value) for value in values]
    return dict(zip(select.key_names, texts, strict=True))


def _emit(page: Page, out: Out) -> None:
    out.count(pages=1, requests=1, bytes=page.size_bytes)
    if page.batch.num_rows:
        out.emit(page.batch)
    for key, values in page.rejected:
        column, text = next(iter(values.items()))
        out.reject({**key, **values}, reason="out_of_range", key=key, column=column, text=text)
