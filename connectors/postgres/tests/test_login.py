"""What a newcomer can get wrong, and what each mistake answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.parts import Certificate, free_port, postgres_server
from tests.parts import Postgres as Server
from tests.postgres_source import Source, config_of, source
from wellhead_postgres import session as sessions
from wellhead_postgres.connector import Postgres
from wellhead_postgres.session import Session, open_session
from wellhead_sdk import Auth, Configuration, ConnectorError, Fatal, Transient
from wellhead_sdk.wire.messages import OpenedHost

pytestmark = pytest.mark.real

PASSWORD = "a-password-of-a-reader"


@dataclass
class Clock:
    """Stands for the module `time`: nothing sleeps, and time passes all the same."""

    now_s: float = 0.0

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture(scope="module")
def database(postgres: Server) -> Iterator[Source]:
    with source(postgres, "login") as lent:
        lent.psql(
            f"create role reader login password '{PASSWORD}'; create role stranger login password '{PASSWORD}'; "
            "create table seen (id int primary key, hidden int); create table unseen (id int primary key); "
            "grant select (id) on seen to reader; create schema closed; create table closed.t (id int)"
        )
        yield lent
        lent.psql("drop owned by reader; drop role reader; drop owned by stranger; drop role stranger")


def _log_in(server: Server, *, user: str = "reader", password: str = PASSWORD, **changes: Any) -> Session:
    config = config_of(server.url("login"), max_retries=0, **changes)
    return Postgres().authenticate(config, {"username": user, "password": password})


@pytest.mark.parametrize(
    ("changes", "kind", "reason", "fields"),
    [
        ({"password": "wrong-password"}, Auth, "unauthenticated", ()),
        ({"user": "nobody-here"}, Auth, "unauthenticated", ()),
        ({"database": "nowhere"}, Configuration, "not_found", ("database",)),
        ({"host": "nowhere.invalid"}, Configuration, "host_unknown", ("host",)),
        ({"ssl_mode": "require"}, Configuration, "tls", ("ssl_mode",)),
        ({"ssl_mode": "verify-full", "ssl_root_cert": "nonsense"}, Configuration, "tls", ("ssl_root_cert",)),
    ],
)
def test_a_failed_login_says_what_to_mend(
    postgres: Server, database: Source, changes: dict[str, Any], kind: type[ConnectorError], reason: str, fields: Any
) -> None:
    with pytest.raises(kind) as caught:
        _log_in(postgres, **changes)
    assert (caught.value.reason, tuple(getattr(caught.value, "fields", ()))) == (reason, fields)
    assert caught.value.hint
    assert "wrong-password" not in caught.value.message
    assert PASSWORD not in caught.value.message


def test_a_server_that_is_away_is_transient(postgres: Server, database: Source) -> None:
    with pytest.raises(Transient):
        _log_in(postgres, port=free_port())


@pytest.mark.parametrize(("timeout_seconds", "connect_s"), [(5, "5"), (30, "30"), (300, "50")])
def test_timeout_seconds_bounds_a_connect_within_what_the_host_waits(
    postgres: Server, database: Source, timeout_seconds: int, connect_s: str
) -> None:
    assert _log_in(postgres, timeout_seconds=timeout_seconds).parameters["connect_timeout"] == connect_s


def test_all_tries_of_a_login_end_within_what_one_connect_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, tried = Clock(), []

    def away(parameters: Mapping[str, str]) -> NoReturn:
        tried.append(int(parameters["connect_timeout"]))
        clock.now_s += 12
        raise Transient("timeout expired")

    monkeypatch.setattr(sessions, "time", clock)
    monkeypatch.setattr(sessions, "_server", away)
    with pytest.raises(Transient):
        open_session(
            config_of("host=127.0.0.1 port=1 dbname=nowhere", max_retries=10),
            {"username": "nobody", "password": PASSWORD},
            is_private=False,
            folder=Path(),
        )
    assert tried == [50, 37, 24, 10]
    assert clock.now_s < 60


def test_a_table_that_is_missing_or_forbidden_is_told_apart(postgres: Server, database: Source) -> None:
    session = _log_in(postgres)
    connector = Postgres()
    with pytest.raises(Configuration, match=r"no table 'public\.missing'") as missing:
        connector.describe(session, "public.missing")
    with pytest.raises(Configuration, match=r"may not read public\.unseen") as unseen:
        connector.describe(session, "public.unseen")
    with pytest.raises(Configuration, match=r"no table 'closed\.t'"):
        connector.describe(session, "closed.t")
    assert (missing.value.reason, unseen.value.reason) == ("not_found", "permission_denied")
    assert unseen.value.hint == 'GRANT SELECT ON "public"."unseen" TO "reader"'


def test_columns_the_user_may_not_read_are_not_offered(postgres: Server, database: Source) -> None:
    session = _log_in(postgres)
    (stream,) = Postgres().discover(session)
    assert (stream.name, stream.schema.names) == ("public.seen", ["id"])


def test_the_probe_counts_what_can_be_read(postgres: Server, database: Source) -> None:
    assert Postgres().probes(_log_in(postgres))["schema"]() == "1 table of schema public can be read"


@pytest.mark.parametrize(("schema", "reason"), [("closed", "permission_denied"), ("nowhere", "not_found")])
def test_a_schema_that_is_missing_or_closed_is_told_apart(
    postgres: Server, database: Source, schema: str, reason: str
) -> None:
    session = _log_in(postgres, schema=schema)
    with pytest.raises(Configuration) as caught:
        Postgres().probes(session)["schema"]()
    assert (caught.value.reason, tuple(caught.value.fields)) == (reason, ("schema",))


def test_a_filter_of_the_wrong_type_is_a_configuration_error(database: Source) -> None:
    with pytest.raises(Configuration, match="invalid input syntax"):
        database.full("public.seen", filters=[("id", "=", ("not a number",))])


def test_an_encoding_that_says_nothing_is_refused(postgres: Server, database: Source) -> None:
    postgres.psql("create database bytes encoding 'SQL_ASCII' template template0 lc_collate 'C' lc_ctype 'C'")
    try:
        with pytest.raises(Configuration, match="SQL_ASCII"):
            _log_in(postgres, user="postgres", password=postgres.password, database="bytes")
    finally:
        postgres.psql("drop database bytes")


@pytest.mark.parametrize(
    ("sqlstate", "kind"),
    [
        ("28P01", Auth),
        ("42501", Auth),
        ("3D000", Configuration),
        ("42P01", Configuration),
        ("42703", Configuration),
        ("22P02", Configuration),
        ("53300", Transient),
        ("57P01", Transient),
        ("40001", Transient),
        ("08006", Transient),
        ("XX000", Fatal),
    ],
)
def test_a_sqlstate_decides_the_class(sqlstate: str, kind: type[ConnectorError]) -> None:
    assert type(sessions.error_of(sqlstate, "text\nLINE 1: select 1\n")) is kind


@dataclass(frozen=True)
class Tls:
    server: Server
    certificate: Certificate

    def log_in(self, *hosts: OpenedHost, **changes: Any) -> Session:
        config = config_of(self.server.url(), max_retries=0, **{"ssl_mode": None, **changes})
        connector = Postgres()
        connector.hosts = hosts
        return connector.authenticate(config, {"username": "postgres", "password": self.server.password})

    @property
    def pem(self) -> str:
        return self.certificate.authority.read_text()


@pytest.fixture(scope="module")
def tls() -> Iterator[Tls]:
    with postgres_server(tls_names=("localhost",)) as server:
        assert server.tls is not None
        yield Tls(server, server.tls)


def test_verifies_the_server_unless_told_otherwise(tls: Tls) -> None:
    with pytest.raises(Configuration) as caught:
        tls.log_in(host="localhost")
    assert caught.value.reason == "tls"
    session = tls.log_in(host="localhost", ssl_root_cert=tls.pem)
    assert session.ssl_mode == "verify-full"
    assert "verify-full; in use: TLSv1" in Postgres().probes(session)["tls"]()


def test_a_certificate_for_another_name_is_refused(tls: Tls) -> None:
    with pytest.raises(Configuration) as caught:
        tls.log_in(host="127.0.0.1", ssl_root_cert=tls.pem)
    assert caught.value.reason == "tls"
    assert tls.log_in(host="127.0.0.1", ssl_root_cert=tls.pem, ssl_mode="verify-ca").ssl_mode == "verify-ca"


def test_a_granted_private_address_need_not_prove_itself(tls: Tls) -> None:
    granted = OpenedHost("127.0.0.1", tls.server.port, private=True)
    assert tls.log_in(granted, host="127.0.0.1").ssl_mode == "prefer"
    with pytest.raises(Configuration):
        tls.log_in(OpenedHost("127.0.0.1", tls.server.port, private=False), host="127.0.0.1")
    with pytest.raises(Configuration):
        tls.log_in(OpenedHost("127.0.0.1", 1, private=True), host="127.0.0.1")
