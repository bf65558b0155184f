"""Connections to one database: how they are secured, and what the server's refusals mean.

psycopg asks the catalog; ADBC streams rows. Both are libpq, so that one set of parameters serves both. No parameter
goes beyond libpq's own: a pooler in between (pgbouncer) refuses start-up options it does not know.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from adbc_driver_manager import dbapi as adbc
from adbc_driver_postgresql import dbapi as adbc_postgresql
from psycopg import conninfo

from wellhead_postgres.config import PostgresConfig, SslMode
from wellhead_sdk.errors import Auth, Configuration, ConnectorError, Fatal, Transient

#: Where Debian keeps the public certificate authorities.
_SYSTEM_CA = Path("/etc/ssl/certs/ca-certificates.crt")
#: The host gives a login 60 s, all its tries together.
_LONGEST_LOGIN_S = 50
_FIRST_BACKOFF_S = 0.5

#: How values print is part of what we promise, so it never depends on the server's, role's or database's settings.
_SETTINGS = {
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "xmloption": "content",
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}
_SET_LOCAL = "SELECT " + ", ".join(f"set_config('{name}', '{value}', true)" for name, value in _SETTINGS.items())
_SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


@dataclass(frozen=True, slots=True)
class Server:
    """What the server said when we came in."""

    version: str
    user: str
    encoding: str
    tls: str


@dataclass(slots=True)
class Session:
    """The way to one database under one set of credentials; `close` ends what it holds open."""

    config: PostgresConfig
    ssl_mode: SslMode
    parameters: Mapping[str, str] = field(repr=False)
    server: Server
    _exporters: dict[str, psycopg.Connection[Any]] = field(default_factory=dict)
    _awaited: dict[str, set[str]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def catalog(self) -> Iterator[psycopg.Connection[Any]]:
        """Lend a connection for questions, in one transaction; each is cut off after ``timeout_seconds``.

        Values print as they do in a `snapshot`, so that what is asked here can be compared with there.
        """
        with told(), psycopg.connect(**self.parameters) as connection:  # type: ignore[arg-type]
            connection.execute(_SET_LOCAL)
            connection.execute(f"SET LOCAL statement_timeout = '{self.config.timeout_seconds}s'")
            yield connection

    @contextmanager
    def snapshot(self, shared: str = "") -> Iterator[adbc.Cursor]:
        """Lend a cursor inside a read-only snapshot of the database.

        With a name in ``shared``, all who give the same name see one snapshot while this session lasts, or until the
        last unit that was to `share` it is `done`.
        """
        with told(), adbc_postgresql.connect(conninfo.make_conninfo(**self.parameters), autocommit=True) as connection:
            cursor = connection.cursor()
            try:
                cursor.execute(_SNAPSHOT)
                if shared:
                    cursor.execute(f"SET TRANSACTION SNAPSHOT '{self._exported(shared)}'")
                cursor.execute(_SET_LOCAL)
                cursor.fetchall()
                yield cursor
            finally:
                # A result left half read is cancelled at the server, not drained.
                with suppress(adbc.Error):
                    cursor.adbc_cancel()
                cursor.close()

    def share(self, name: str, units: Iterable[str]) -> None:
        """Say which units will read from the snapshot ``name``, so that it need not be held until the session's end."""
        with self._lock:
            self._awaited[name] = set(units)

    def done(self, name: str, unit: str) -> None:
        """Note that ``unit`` was read to its end; after the last one, end the snapshot ``name``.

        One whose units were never said, as in a session that resumes a plan, is held until `close`.
        """
        with self._lock:
            awaited = self._awaited.get(name)
            if awaited is None:
                return
            awaited.discard(unit)
            if not awaited and name in self._exporters:
                # The server keeps every row version since then while it is held.
                self._exporters.pop(name).close()

    def close(self) -> None:
        """End the snapshots that were shared; safe to call twice."""
        with self._lock:
            for connection in self._exporters.values():
                connection.close()
            self._exporters.clear()

    def _exported(self, name: str) -> str:
        with self._lock:
            exporter = self._exporters.get(name)
            if exporter is None or not _is_alive(exporter):
                exporter = psycopg.connect(**self.parameters, autocommit=True)  # type: ignore[arg-type]
                exporter.execute(_SNAPSHOT)
                exporter.execute(_SET_LOCAL)
                self._exporters[name] = exporter
            return str(exporter.execute("SELECT pg_export_snapshot()").fetchone()[0])  # type: ignore[index]


def open_session(config: PostgresConfig, secrets: Mapping[str, str], *, is_private: bool, folder: Path) -> Session:
    """Log in once and learn who and where we are.

    Args:
        config: the connection.
        secrets: ``username`` and ``password``.
        is_private: the operator granted the server's private address to this run.
        folder: where the PEM of ``ssl_root_cert`` may be written for libpq; memory, in a container.

    Raises:
        Auth: the server does not accept the user, the password or the address we come from.
        Configuration: host, database, TLS or encoding are wrong; names the field.
        Transient: the server is away or full, after ``max_retries`` more tries.
    """
    mode: SslMode = config.ssl_mode or ("prefer" if is_private else "verify-full")
    parameters = {
        "host": config.host,
        "port": str(config.port),
        "dbname": config.database,
        "user": secrets["username"],
        "password": secrets["password"],
        "sslmode": mode,
        "connect_timeout": str(min(config.timeout_seconds, _LONGEST_LOGIN_S)),
        "client_encoding": "UTF8",
        "application_name": "wellhead",
        "keepalives_idle": "30",
        "tcp_user_timeout": "60000",
    }
    if mode in ("verify-ca", "verify-full"):
        parameters["sslrootcert"] = str(_authority(config, folder))
    server = _log_in(parameters, config.max_retries)
    if server.encoding == "SQL_ASCII":
        raise Configuration(
            f"database {config.database!r} has the encoding SQL_ASCII, which says nothing about its bytes",
            reason="encoding_unknown",
            hint="convert the database to UTF8 (dump, create with ENCODING 'UTF8', restore)",
            fields={"database": "has the encoding SQL_ASCII"},
        )
    return Session(config, mode, parameters, server)


def _authority(config: PostgresConfig, folder: Path) -> Path:
    if config.ssl_root_cert is None:
        if not _SYSTEM_CA.is_file():
            raise Configuration(
                "the server's certificate is to be verified, and this image holds no public certificate authorities",
                reason="tls",
                hint="give the server's CA as PEM in ssl_root_cert",
                fields={"ssl_root_cert": "missing"},
            )
        return _SYSTEM_CA
    if "-----BEGIN CERTIFICATE-----" not in config.ssl_root_cert:
        raise Configuration(
            "ssl_root_cert holds no certificate",
            reason="tls",
            hint="paste the PEM itself, with its BEGIN and END lines",
            fields={"ssl_root_cert": "is not PEM"},
        )
    file = folder / f"postgres-ca-{os.getpid()}.pem"
    file.write_text(config.ssl_root_cert)
    return file


def _log_in(parameters: Mapping[str, str], max_retries: int) -> Server:
    """Try until the server answers, ``max_retries`` more times at the most, within the time one connect may take."""
    give_up_at = time.monotonic() + int(parameters["connect_timeout"])
    for attempt in range(max_retries + 1):
        # libpq takes a 0 for no limit at all.
        left_s = max(1, int(give_up_at - time.monotonic()))
        try:
            return _server({**parameters, "connect_timeout": str(left_s)})
        except Transient:
            backoff_s = _FIRST_BACKOFF_S * 2**attempt
            if attempt == max_retries or time.monotonic() + backoff_s >= give_up_at:
                raise
            time.sleep(backoff_s)
    raise AssertionError("unreachable")


def _server(parameters: Mapping[str, str]) -> Server:
    with told(), psycopg.connect(**parameters, autocommit=True) as connection:  # type: ignore[arg-type]
        row = connection.execute(
            "SELECT current_setting('server_version'), current_user, current_setting('server_encoding'), "
            "(SELECT CASE WHEN ssl THEN version END FROM pg_stat_ssl WHERE pid = pg_backend_pid())"
        ).fetchone()
        version, user, encoding, tls = row or ("", "", "", None)
        return Server(str(version), str(user), str(encoding), str(tls or "none"))


def _is_alive(connection: psycopg.Connection[Any]) -> bool:
    try:
        connection.execute("SELECT 1")
    except psycopg.Error:
        connection.close()
        return False
    return True


@contextmanager
def told(stream: str = "") -> Iterator[None]:
    """Translate what psycopg and ADBC raise into the SDK's errors."""
    try:
        yield
    except (psycopg.Error, adbc.Error) as exc:
        raise error_of(getattr(exc, "sqlstate", None), str(exc), stream) from exc


def error_of(sqlstate: str | None, message: str, stream: str = "") -> ConnectorError:
    """Say what a refusal means by its SQLSTATE; libpq gives none for a failed connect, so there its words decide."""
    text = _one_line(message)
    if not sqlstate:
        return _connect_error(text)
    match sqlstate:
        case "28P01" | "28000":
            return Auth(text, hint=_LOGIN_HINT)
        case "42501":
            return Auth(
                text, reason="permission_denied", stream=stream, hint="GRANT SELECT on it to the connection's user"
            )
        case "3D000":
            return Configuration(text, reason="not_found", fields={"database": "does not exist"})
        case "42P01" | "3F000":
            return Configuration(
                text, reason="not_found", stream=stream, hint="`wellhead streams` lists what is offered"
            )
        case "42703":
            return Configuration(text, reason="not_found", stream=stream, hint="choose among the stream's columns")
        case "0A000" | "42883":
            return Configuration(text, reason="unsupported", stream=stream)
    match sqlstate[:2]:
        case "22":
            return Configuration(
                text, reason="invalid_value", stream=stream, hint="a filter's value does not fit its column's type"
            )
        case "08" | "40" | "53" | "55" | "57" | "58":
            return Transient(text, stream=stream)
        case _:
            return Fatal(f"{text} (SQLSTATE {sqlstate})", reason="sql", stream=stream)


_LOGIN_HINT = "check the secrets username and password, and that the password has not expired"

#: In libpq's and the server's English; a server that speaks another language ends at the last line of `_connect_error`.
_CONNECT: tuple[tuple[str, type[ConnectorError], str, str, str], ...] = (
    (r"password authentication failed|no password supplied|SCRAM", Auth, "unauthenticated", "", _LOGIN_HINT),
    (r'role ".*" does not exist|not permitted to log in', Auth, "unauthenticated", "", _LOGIN_HINT),
    (
        r"no pg_hba\.conf entry|pg_hba\.conf rejects",
        Auth,
        "permission_denied",
        "",
        "let the server's pg_hba.conf admit this user from the host's address; if it asks for TLS, ssl_mode: require",
    ),
    (r"permission denied for database", Auth, "permission_denied", "", "GRANT CONNECT ON DATABASE … TO the user"),
    (r'database ".*" does not exist', Configuration, "not_found", "database", "name a database of this server"),
    (
        r"server does not support SSL",
        Configuration,
        "tls",
        "ssl_mode",
        "turn on ssl at the server; ssl_mode: disable only where nobody can listen",
    ),
    (
        r"certificate verify failed|server certificate for|root certificate|sslrootcert",
        Configuration,
        "tls",
        "ssl_root_cert",
        "give the CA that signed the server's certificate in ssl_root_cert, and the name it carries as host",
    ),
    (
        r"(could not translate host name|failed to resolve host).*(Name or service not known|No address associated)",
        Configuration,
        "host_unknown",
        "host",
        "check the name; a host that waits for approval is closed: `wellhead connection approve`",
    ),
    (
        r"too many clients|connection slots|starting up|shutting down|recovery mode|not yet accepting connections"
        r"|Connection refused|timeout"
        r"|timed out|closed the connection|reset by peer|unreachable|Temporary failure|EOF detected"
        r"|terminating connection|connection not open|consuming input failed|connection is closed|SSL SYSCALL"
        r"|no connection to the server",
        Transient,
        "unavailable",
        "",
        "see that the server runs and is reachable from this host",
    ),
)


def _connect_error(text: str) -> ConnectorError:
    for pattern, kind, reason, name, hint in _CONNECT:
        if re.search(pattern, text):
            if kind is Configuration:
                return Configuration(text, reason=reason, hint=hint, fields={name: text})
            return kind(text, reason=reason, hint=hint)
    return Configuration(text, reason="refused", hint="the server's own log says more")


def stream_error(message: str) -> ConnectorError:
    """Say what ended a result half way; ADBC's stream passes on the server's words and no SQLSTATE."""
    error = _connect_error(_one_line(message))
    if isinstance(error, Transient):
        return error
    if "ERROR:" not in message:
        # The server did not refuse anything: it went away, and libpq has many words for that.
        return Transient(error.message, hint="see that the server runs and is reachable from this host")
    return Configuration(
        error.message, reason="query_failed", hint="an expression of the view or table fails at the server"
    )


def _one_line(message: str) -> str:
    """Return a server's message without the statement it repeats and libpq's line breaks."""
    first = re.split(r"\n+(?:LINE \d+:|Query was:|CONTEXT:)", message)[0]
    return re.sub(r"\s+", " ", first).removeprefix("IO: ").strip()
