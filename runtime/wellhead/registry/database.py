"""The door to the registry's database: opening, transactions, migration, and the translation of its errors.

SQLite runs in WAL mode with synchronous FULL, and every writing transaction begins IMMEDIATE. With the driver's
deferred BEGIN, fifty concurrent runs meet `database is locked` in spite of any busy timeout, since a reader that wants
to become a writer is refused without waiting. PostgreSQL serves more than one host, with time-outs so that a stopped
host cannot hold a lock for long.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.engine import URL, Connection, CursorResult, Engine, make_url

from wellhead.clock import Clock, SystemClock
from wellhead.errors import Code, ConfigurationError, FatalError, TransientError, WellheadError
from wellhead.registry.columns import UnreadableValueError, Utc

UNREACHABLE = Code("WH-REG-001", "The registry's database cannot be opened.")
BUSY = Code("WH-REG-002", "The registry's database did not answer or was locked for too long.")
DISK_FULL = Code("WH-REG-003", "The registry's disk is full.")
CORRUPT = Code("WH-REG-004", "The registry's database is damaged.")
NOT_MIGRATED = Code("WH-REG-005", "The registry has no tables yet.")
NEWER = Code("WH-REG-006", "The registry was migrated by a newer Wellhead.")
BAD_URL = Code("WH-REG-007", "The registry's address is not one of a supported database.")
OUTCOME_UNKNOWN = Code("WH-REG-008", "The answer to a registry commit was lost.")
CONTRADICTION = Code("WH-REG-009", "A registry row contradicts one that is already there.")
FENCED = Code("WH-REG-010", "Another run has taken over this connection.")
UNREADABLE_VALUE = Code("WH-REG-011", "A value in the registry is not of its column's type.")

#: The newest migration; a test compares it with the scripts. Known here so that a start need not import Alembic.
HEAD = "0008"

_BUSY_TIMEOUT_S = 30
#: Any constant will do, as long as every Wellhead uses the same: it serialises migrations on PostgreSQL.
_MIGRATION_LOCK = 0x77656C6C68656164


@dataclass(frozen=True, slots=True)
class Transaction:
    """One open transaction; everything done through it becomes true together or not at all."""

    _connection: Connection
    _clock: Clock

    @property
    def is_postgresql(self) -> bool:
        """Say whether rows have to be locked one by one."""
        return self._connection.dialect.name == "postgresql"

    def time(self, *, after_s: float = 0.0) -> sa.ColumnElement[datetime]:
        """Return the time ``after_s`` seconds from now, as an expression.

        PostgreSQL answers with its own clock, so that hosts need not agree; SQLite belongs to one host and its clock.
        """
        if self.is_postgresql:
            now: sa.ColumnElement[datetime] = sa.func.clock_timestamp(type_=Utc)
            return now if after_s == 0 else sa.type_coerce(now + sa.literal(timedelta(seconds=after_s)), Utc)
        return sa.bindparam(None, self._clock.now() + timedelta(seconds=after_s), type_=Utc, unique=True)

    def execute(
        self,
        statement: sa.Executable,
        parameters: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> CursorResult[Any]:
        """Run one statement.

        Raises:
            TransientError: locked, lost or full (WH-REG-002, 003).
            FatalError: the database is damaged or a constraint says no (WH-REG-004, 009).
            ConfigurationError: there are no tables (WH-REG-005).
        """
        try:
            result: CursorResult[Any] = self._connection.execute(statement, parameters)
        except exc.DBAPIError as failure:
            raise _translated(failure) from failure
        return result


class Database:
    """An open registry; safe to share between threads, each transaction has its own connection."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        """Use `open`."""
        self._engine = engine
        self._clock = clock

    @classmethod
    def open(cls, url: str, password: str | None = None, *, clock: Clock | None = None) -> Database:
        """Connect to ``sqlite:///PATH`` or ``postgresql://USER@HOST:PORT/DATABASE``.

        A SQLite file is made with mode 0600 if it is missing, its folder too. Nothing is migrated.

        Raises:
            ConfigurationError: the address is of another kind (WH-REG-007), or the database refuses us (WH-REG-001).
            TransientError: it does not answer (WH-REG-002).
        """
        parsed = _parse(url)
        engine = _open_sqlite(parsed) if parsed.get_backend_name() == "sqlite" else _open_postgresql(parsed, password)
        database = cls(engine, clock or SystemClock())
        try:
            with engine.connect():
                pass
        except exc.DBAPIError as failure:
            engine.dispose()
            raise _unreachable(parsed, failure) from failure
        return database

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Begin a writing transaction; commit it on leaving, roll it back on any error.

        Keep it tiny and do no I/O inside: on SQLite all other writers of the host wait for it.

        Raises:
            TransientError: the lock was not had (WH-REG-002), or the commit's answer was lost (WH-REG-008): re-read
                before anything else.
            FatalError: a value that was read is not of its column's type (WH-REG-011).
        """
        with self._connect(write=True) as connection:
            try:
                yield Transaction(connection, self._clock)
            except UnreadableValueError as failure:
                error = _unreadable(connection, failure)
                _roll_back(connection)
                raise error from failure
            except BaseException:
                _roll_back(connection)
                raise
            try:
                connection.commit()
            except exc.DBAPIError as failure:
                raise _commit_failed(failure) from failure

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """Begin a reading transaction, which waits for no writer and may not write (WH-REG-009).

        Raises:
            FatalError: a value that was read is not of its column's type (WH-REG-011).
        """
        with self._connect(write=False) as connection:
            try:
                yield Transaction(connection, self._clock)
            except UnreadableValueError as failure:
                raise _unreadable(connection, failure) from failure
            finally:
                _roll_back(connection)

    def migrate(self) -> bool:
        """Bring the tables up to date; say whether there was anything to do.

        Takes about a millisecond where nothing is to be done. Two processes may do this at once.

        Raises:
            ConfigurationError: the registry belongs to a newer Wellhead (WH-REG-006).
        """
        if self.revision() == HEAD:
            return False
        # Alembic takes longer to import than all of a normal start; only a migration needs it.
        from wellhead.registry.migrations import upgrade

        with self._connect(write=True) as connection:
            try:
                if connection.dialect.name == "postgresql":
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
                upgrade.to(HEAD, connection)
                connection.commit()
            except exc.DBAPIError as failure:
                _roll_back(connection)
                raise _translated(failure) from failure
            except BaseException:
                _roll_back(connection)
                raise
        return True

    def revision(self) -> str | None:
        """Return the newest migration that was applied; None for an empty database.

        Raises:
            ConfigurationError: it is newer than this Wellhead (WH-REG-006).
        """
        with self._connect(write=False) as connection:
            try:
                found = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
            except (exc.OperationalError, exc.ProgrammingError) as failure:
                if _says_no_table(failure):
                    return None
                raise _translated(failure) from failure
            finally:
                _roll_back(connection)
        if found is not None and found > HEAD:
            raise ConfigurationError(
                f"the registry is at migration {found}, this Wellhead knows {HEAD}",
                code=NEWER,
                hint="install the newer Wellhead on this host, or restore the registry from before its upgrade",
            )
        return found

    @property
    def where(self) -> str:
        """Return the database's address, without a password."""
        return _shown(self._engine.url)

    def close(self) -> None:
        """Close every connection; a second call does nothing."""
        self._engine.dispose()

    @contextmanager
    def _connect(self, *, write: bool) -> Iterator[Connection]:
        try:
            connection = self._engine.connect()
        except exc.DBAPIError as failure:
            raise _translated(failure) from failure
        with connection:
            connection = connection.execution_options(wellhead_write=write, postgresql_readonly=not write)
            try:
                connection.begin()
            except exc.DBAPIError as failure:
                raise _translated(failure) from failure
            yield connection


#: What to do with a password that would have to be written into the address.
_ELSEWHERE = "keep a password in registry.password_file, or write its `@`, `:`, `/` and `%` as %40, %3A, %2F and %25"


def _parse(url: str) -> URL:
    # Never the text itself, nor the library's words about it: a part of it may be a password.
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except (exc.ArgumentError, ValueError):
        backend = ""
    if backend not in ("sqlite", "postgresql") or not (parsed.port is None or 0 < parsed.port < 65536):
        raise ConfigurationError(
            "registry.url is not the address of a supported database",
            code=BAD_URL,
            hint=f"write sqlite:///PATH or postgresql://USER@HOST:PORT/DATABASE, PORT up to 65535; {_ELSEWHERE}",
        ) from None
    # A password ends at its first `@`: of one that has another, the rest would be called host, database or option.
    login, _, rest = url.partition("://")[2].partition("@")
    if backend == "postgresql" and ":" in login and "@" in rest:
        raise ConfigurationError("registry.url has an `@` in its password", code=BAD_URL, hint=_ELSEWHERE)
    return parsed.set(drivername="sqlite+pysqlite" if backend == "sqlite" else "postgresql+psycopg")


def _open_sqlite(url: URL) -> Engine:
    path = Path(url.database or "")
    if not url.database or url.database == ":memory:":
        raise ConfigurationError(
            "registry.url names no file",
            code=BAD_URL,
            hint="a registry has to outlive the process: write sqlite:///PATH",
        )
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # States and dead letters may hold what the source holds: the file is its owner's alone.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as failure:
        raise ConfigurationError(
            f"cannot open the registry {path}: {failure.strerror}",
            code=UNREACHABLE,
            hint="check the folder's permissions, or set registry.url",
        ) from failure
    try:
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)
    if not regular:
        raise ConfigurationError(f"the registry {path} is not a file", code=UNREACHABLE, hint="set registry.url")
    engine = sa.create_engine(url, connect_args={"timeout": _BUSY_TIMEOUT_S, "check_same_thread": False}, pool_size=8)

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        # The driver's own BEGIN is deferred; ours is sent below.
        connection.isolation_level = None
        for pragma in (
            f"busy_timeout = {_BUSY_TIMEOUT_S * 1000}",
            "journal_mode = WAL",
            # NORMAL loses the last commits when the power goes; a commit is a promise here.
            "synchronous = FULL",
            "foreign_keys = ON",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        write = connection.get_execution_options().get("wellhead_write", False)
        connection.exec_driver_sql(f"PRAGMA query_only = {'OFF' if write else 'ON'}")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _open_postgresql(url: URL, password: str | None) -> Engine:
    if password is not None:
        url = url.set(password=password)
    options = " ".join(
        f"-c {setting}"
        for setting in (
            "timezone=UTC",
            f"lock_timeout={_BUSY_TIMEOUT_S}s",
            f"statement_timeout={2 * _BUSY_TIMEOUT_S}s",
            # A host that is stopped in the middle must not hold a connection's row for ever.
            f"idle_in_transaction_session_timeout={2 * _BUSY_TIMEOUT_S}s",
            "synchronous_commit=on",
        )
    )
    return sa.create_engine(
        url,
        connect_args={"connect_timeout": 10, "options": options, "application_name": "wellhead"},
        pool_size=4,
        # An idle connection may have died with the server; better to learn it before a transaction than in it.
        pool_pre_ping=True,
    )


def _roll_back(connection: Connection) -> None:
    # SQLite rolls back by itself when its disk is full, and a lost server has nothing left to roll back.
    try:
        connection.rollback()
    except exc.DBAPIError:
        connection.invalidate()


def _shown(url: URL) -> str:
    """Return the address for people: without a password, also one among the options."""
    return url.set(query={}).render_as_string(hide_password=True)


def _says_no_table(failure: exc.DBAPIError) -> bool:
    return getattr(failure.orig, "sqlstate", None) == "42P01" or "no such table" in str(failure.orig)


def _unreachable(url: URL, failure: exc.DBAPIError) -> WellheadError:
    shown = _shown(url)
    reason = str(failure.orig).strip().splitlines()[0]
    if _sqlite_name(failure) in ("SQLITE_NOTADB", "SQLITE_CORRUPT"):
        return _damaged(failure)
    if _is_refusal(failure):
        return ConfigurationError(
            f"the registry {shown} refuses us: {reason}",
            code=UNREACHABLE,
            hint="check user, database and registry.password_file",
        )
    if _is_full(failure):
        return _full("it cannot be opened")
    if _sqlite_name(failure) is not None and not _is_busy(failure):
        return ConfigurationError(
            f"cannot open the registry {shown}: {reason}",
            code=UNREACHABLE,
            hint="check the file's permissions, or set registry.url",
        )
    return TransientError(
        f"the registry {shown} does not answer: {reason}", code=BUSY, hint="check that the database is up; try again"
    )


def _is_refusal(failure: exc.DBAPIError) -> bool:
    # libpq tells a refusal while connecting in text alone: there is no SQLSTATE before the session exists.
    text = str(failure.orig)
    return any(
        part in text
        for part in (
            "password authentication failed",
            "no password supplied",
            "no pg_hba.conf entry",
            'role "',
            'database "',
            "permission denied",
        )
    )


def _sqlite_name(failure: exc.DBAPIError) -> str | None:
    return getattr(failure.orig, "sqlite_errorname", None)


def _is_busy(failure: exc.DBAPIError) -> bool:
    return (_sqlite_name(failure) or "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


def _is_full(failure: exc.DBAPIError) -> bool:
    # SHMSIZE: the index of the write-ahead log, made by whoever opens the file first, found no room.
    return (_sqlite_name(failure) or "") in ("SQLITE_FULL", "SQLITE_IOERR_SHMSIZE")


def _full(consequence: str) -> TransientError:
    return TransientError(
        f"the registry's disk is full; {consequence}",
        code=DISK_FULL,
        hint="free space where the registry lives; the next run goes on from the last commit",
    )


def _unreadable(connection: Connection, failure: UnreadableValueError) -> FatalError:
    """Name the first row whose value cannot be read: whoever read it knows the column alone."""
    column = failure.column
    keys = list(column.table.primary_key)
    values = connection.execute(sa.select(column).order_by(*keys))
    position = 0
    try:
        while values.fetchone() is not None:
            position += 1
    except UnreadableValueError:
        values.close()
    row = connection.execute(sa.select(*keys).order_by(*keys).offset(position).limit(1)).mappings().one_or_none()
    # None: somebody has put it right meanwhile.
    named = "" if row is None else " in the row of " + ", ".join(f"{name} {value}" for name, value in row.items())
    return FatalError(
        f"in the registry, {column.table.name}.{column.name} {failure.why}{named}",
        code=UNREADABLE_VALUE,
        hint="Wellhead never writes such a value: put it right, or restore the registry from its backup"
        + ("; it may also be set to NULL" if column.nullable else ""),
    )


def _damaged(failure: exc.DBAPIError) -> FatalError:
    return FatalError(
        f"the registry's file is damaged: {failure.orig}",
        code=CORRUPT,
        hint="restore the registry from its backup; Bronze itself is not touched",
    )


def _commit_failed(failure: exc.DBAPIError) -> WellheadError:
    if failure.connection_invalidated:
        return TransientError(
            "the connection to the registry was lost while committing: the commit may or may not be there",
            code=OUTCOME_UNKNOWN,
            hint="the next attempt reads the registry first and goes on from what it finds",
        )
    return _translated(failure)


def _translated(failure: exc.DBAPIError) -> WellheadError:
    name = _sqlite_name(failure) or ""
    state = getattr(failure.orig, "sqlstate", None) or ""
    reason = str(failure.orig).strip().splitlines()[0]
    if _says_no_table(failure):
        return ConfigurationError(
            f"the registry lacks a table: {reason}",
            code=NOT_MIGRATED,
            hint="run any wellhead command; each migrates first",
        )
    if _is_full(failure) or state == "53100":
        return _full("nothing of this transaction was kept")
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")) or state in ("XX001", "XX002"):
        return _damaged(failure)
    if isinstance(failure, exc.IntegrityError):
        return FatalError(
            f"the registry refuses a row: {reason}",
            code=CONTRADICTION,
            hint="this is a defect of Wellhead; nothing of this transaction was kept",
        )
    if name.startswith("SQLITE_READONLY") or state == "25006":
        return FatalError(
            f"a reading transaction tried to write: {reason}", code=CONTRADICTION, hint="this is a defect of Wellhead"
        )
    if isinstance(failure, (exc.OperationalError, exc.InterfaceError, exc.InternalError)):
        return TransientError(f"the registry did not answer in time: {reason}", code=BUSY, hint="try again")
    return FatalError(
        f"the registry refuses a statement: {reason}", code=CONTRADICTION, hint="this is a defect of Wellhead"
    )
