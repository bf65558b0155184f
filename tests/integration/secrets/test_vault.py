"""The secret store against a real OpenBao with a real PostgreSQL behind its database engine."""

from __future__ import annotations

import os
import subprocess
import urllib.error
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from tests.parts import OpenBao, Postgres, free_port, openbao_server
from wellhead.clock import SystemClock
from wellhead.errors import AuthError, ConfigurationError, TransientError
from wellhead.ids import ConnectionKey, RunId
from wellhead.secrets import base, policies, vault
from wellhead.secrets.base import LendRequest, Reference
from wellhead.settings import AppRole, VaultSettings

pytestmark = pytest.mark.real

KEY = ConnectionKey("acme", "data", "flights")
DYNAMIC = {
    "username": "vault-dyn://database/creds/flights-ro#username",
    "password": "vault-dyn://database/creds/flights-ro#password",
}
CANARY = 'canary-7f3a/+ "quoted" ünï'


@dataclass
class Clock:
    """A wall clock that a test moves."""

    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()


def _run_script(script: str, server: OpenBao) -> None:
    """Run what `wellhead vault policy` printed, as an administrator would."""
    programs = f"{Path(OpenBao.binary()).parent}:{os.environ['PATH']}"
    alias = f'bao() {{ {OpenBao.binary()} "$@"; }}\n'
    subprocess.run(
        ["bash", "-euc", alias + script],
        check=True,
        capture_output=True,
        env={"PATH": programs, "BAO_ADDR": server.address, "BAO_TOKEN": server.root_token, "HOME": "/nonexistent"},
    )


@dataclass(frozen=True)
class Vault:
    """An OpenBao set up by the printed script, with an AppRole for the host."""

    server: OpenBao
    database: str
    role_id: str
    settings: VaultSettings
    root: Path

    def store(self, clock: Clock | SystemClock | None = None) -> vault.VaultStore:
        return vault.VaultStore(self.settings, self.root, clock or SystemClock())

    def accessors(self) -> set[str]:
        data = self.server.request("LIST", "auth/token/accessors")["data"]
        assert isinstance(data, dict)
        return set(data["keys"])

    def leases(self) -> list[str]:
        try:
            data = self.server.request("LIST", "sys/leases/lookup/database/creds/flights-ro")["data"]
        except urllib.error.HTTPError as error:
            with error:
                return {404: []}[error.code]
        assert isinstance(data, dict)
        return list(data["keys"])


def _wrap(server: OpenBao, path: str) -> str:
    """Have the server wrap the answer to a POST; the API's header has no place in `OpenBao.request`."""
    answer = subprocess.run(
        [OpenBao.binary(), "write", "-wrap-ttl=60s", "-field=wrapping_token", "-f", path],
        check=True,
        capture_output=True,
        text=True,
        env={"BAO_ADDR": server.address, "BAO_TOKEN": server.root_token, "HOME": "/nonexistent"},
    )
    return answer.stdout.strip()


@pytest.fixture(scope="module")
def prepared(openbao: OpenBao, postgres: Postgres) -> Iterator[Vault]:
    with postgres.database("flights") as url:
        postgres.psql("create table flights(id int primary key); insert into flights values (1)", database="flights")
        openbao.request("POST", "sys/mounts/kv", {"type": "kv", "options": {"version": "2"}})
        openbao.request("POST", "sys/mounts/database", {"type": "database"})
        openbao.request("POST", "sys/auth/approle", {"type": "approle"})
        openbao.request(
            "POST",
            "database/config/DATABASE",
            {
                "plugin_name": "postgresql-database-plugin",
                "allowed_roles": "*",
                "connection_url": f"postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{postgres.port}/flights",
                "username": "postgres",
                "password": postgres.password,
            },
        )
        settings = VaultSettings(address=openbao.address, token_file=Path("token"))
        references = [Reference.parse(text) for text in (*DYNAMIC.values(), "vault://kv/team/api#key")]
        _run_script(policies.instructions(settings, KEY, references, "public"), openbao)
        openbao.request("POST", "kv/data/team/api", {"data": {"key": CANARY, "number": 7}})
        openbao.request("POST", "kv/data/team/other", {"data": {"key": "of-somebody-else"}})
        openbao.request("POST", "auth/approle/role/host", {"token_policies": "wellhead-host", "token_ttl": "60s"})
        data = openbao.request("GET", "auth/approle/role/host/role-id")["data"]
        assert isinstance(data, dict)
        yield Vault(openbao, url, str(data["role_id"]), settings, Path())


@pytest.fixture
def store_of(prepared: Vault, tmp_path: Path) -> Vault:
    """The same server, with a fresh project folder that logs in by AppRole."""
    approle = AppRole(role_id=prepared.role_id, secret_id_file=Path("secret-id"))
    settings = VaultSettings(address=prepared.server.address, approle=approle)
    ready = Vault(prepared.server, prepared.database, prepared.role_id, settings, tmp_path)
    ready.store().login_wrapped(_wrap(prepared.server, "auth/approle/role/host/secret-id"))
    return ready


def _request(**references: str) -> LendRequest:
    parsed = {slot: Reference.parse(text) for slot, text in references.items()}
    return LendRequest(RunId("0123456789abcdef0123"), KEY, parsed, ttl_s=120)


def _can_log_in(ready: Vault, username: str, password: str) -> bool:
    where = psycopg.conninfo.conninfo_to_dict(ready.database)
    where.update(user=username, password=password)
    try:
        with psycopg.connect(**where) as connection:  # type: ignore[arg-type]
            return connection.execute("select count(*) from flights").fetchone() == (1,)
    except psycopg.OperationalError:
        return False


def _ignore(accessor: str) -> None:
    assert accessor


def test_lends_dynamic_credentials_that_work_and_die_with_the_block(store_of: Vault) -> None:
    before = store_of.accessors()
    with store_of.store().lend(_request(**DYNAMIC), _ignore) as loan:
        username, password = loan.secrets["username"].value, loan.secrets["password"].value
        assert _can_log_in(store_of, username, password)
        assert len(loan.leases) == 1
        assert len(store_of.leases()) == 1
        assert loan.secrets["password"].expires_at is not None
    assert not _can_log_in(store_of, username, password)
    assert loan.revoked_at is not None
    assert loan.leases[0].revoked_at is not None
    assert store_of.leases() == []
    assert store_of.accessors() == before


def test_an_open_session_ends_with_the_loan(store_of: Vault) -> None:
    with store_of.store().lend(_request(**DYNAMIC), _ignore) as loan:
        where = psycopg.conninfo.conninfo_to_dict(store_of.database)
        where.update({slot.replace("username", "user"): secret.value for slot, secret in loan.secrets.items()})
        session = psycopg.connect(**where)  # type: ignore[arg-type]
        session.execute("select 1")
    with pytest.raises(psycopg.OperationalError):
        session.execute("select 1")
    session.close()


def test_reads_a_key_value_secret_byte_for_byte(store_of: Vault) -> None:
    with store_of.store().lend(_request(key="vault://kv/team/api#key"), _ignore) as loan:
        assert loan.secrets["key"].value == CANARY
        assert (loan.leases, loan.rotate_at) == ((), None)


def test_notes_the_accessor_before_anything_is_read(store_of: Vault) -> None:
    noted: list[tuple[str, int]] = []

    def note(accessor: str) -> None:
        noted.append((accessor, len(store_of.leases())))

    with store_of.store().lend(_request(**DYNAMIC), note) as loan:
        assert noted == [(loan.accessor, 0)]


def test_revokes_the_token_when_its_accessor_cannot_be_noted(store_of: Vault) -> None:
    before = store_of.accessors()

    def fail(accessor: str) -> None:
        raise OSError(accessor)

    with pytest.raises(OSError), store_of.store().lend(_request(**DYNAMIC), fail):  # noqa: PT011 - any reason
        pass
    assert store_of.accessors() == before


def test_revokes_when_the_block_fails(store_of: Vault) -> None:
    before = store_of.accessors()
    with pytest.raises(ZeroDivisionError), store_of.store().lend(_request(**DYNAMIC), _ignore):
        raise ZeroDivisionError
    assert store_of.accessors() == before
    assert store_of.leases() == []


def test_a_janitor_ends_by_accessor_what_a_dead_run_left(store_of: Vault) -> None:
    lent = store_of.store().lend(_request(**DYNAMIC), _ignore)
    loan = lent.__enter__()
    username, password = loan.secrets["username"].value, loan.secrets["password"].value
    assert loan.accessor is not None
    janitor = store_of.store()
    assert janitor.revoke_accessor(loan.accessor) is True
    assert janitor.revoke_accessor(loan.accessor) is False
    assert not _can_log_in(store_of, username, password)
    lent.__exit__(None, None, None)
    assert loan.revocation_error is None
    assert loan.revoked_at is not None


def test_rotation_reads_new_credentials_and_keeps_the_old_until_told(store_of: Vault) -> None:
    with store_of.store().lend(_request(**DYNAMIC), _ignore) as loan:
        old = loan.secrets["username"].value, loan.secrets["password"].value
        rotated = loan.rotate()
        new = rotated["username"].value, rotated["password"].value
        assert new != old
        assert _can_log_in(store_of, *old)
        assert _can_log_in(store_of, *new)
        loan.revoke_superseded()
        loan.revoke_superseded()
        assert not _can_log_in(store_of, *old)
        assert _can_log_in(store_of, *new)
        assert [lease.revoked_at is None for lease in loan.leases] == [False, True]


def test_renewal_moves_the_dates_and_a_lease_at_its_limit_keeps_its_rotation(store_of: Vault) -> None:
    store_of.server.request("POST", "database/roles/flights-ro", {**_role(store_of), "max_ttl": "70m"})
    clock = Clock()
    with store_of.store(clock).lend(_request(**DYNAMIC), _ignore) as loan:
        start = clock.at
        assert loan.renew_at == start + timedelta(seconds=60)
        assert loan.rotate_at == start + timedelta(seconds=2400)
        clock.at += timedelta(seconds=50)
        loan.renew()
        assert loan.renew_at == clock.at + timedelta(seconds=60)
        assert loan.rotate_at == clock.at + timedelta(seconds=2400)
        expires_at = loan.secrets["password"].expires_at
        assert expires_at is not None
        assert expires_at > start + timedelta(seconds=3600)
        assert expires_at <= start + timedelta(seconds=4200)
    store_of.server.request("POST", "database/roles/flights-ro", {**_role(store_of), "max_ttl": "24h"})


def test_a_short_renewal_does_not_put_off_the_rotation(store_of: Vault) -> None:
    clock = Clock()
    with store_of.store(clock).lend(_request(**DYNAMIC), _ignore) as loan:
        before = loan.rotate_at
        store_of.server.request("POST", "database/roles/flights-ro", {**_role(store_of), "max_ttl": "20m"})
        loan.renew()
        assert before is not None
        assert loan.rotate_at is not None
        assert loan.rotate_at < before
    store_of.server.request("POST", "database/roles/flights-ro", {**_role(store_of), "max_ttl": "24h"})


def _role(ready: Vault) -> dict[str, object]:
    data = ready.server.request("GET", "database/roles/flights-ro")["data"]
    assert isinstance(data, dict)
    return data


def test_a_runs_token_reads_no_path_but_its_own(store_of: Vault) -> None:
    before = store_of.accessors()
    with (
        pytest.raises(ConfigurationError, match=r"secret key \(vault://kv/team/other#key\)") as caught,
        store_of.store().lend(_request(key="vault://kv/team/other#key"), _ignore),
    ):
        pass
    assert caught.value.code is vault.NOT_ALLOWED
    assert "wellhead vault policy flights" in str(caught.value.hint)
    assert store_of.accessors() == before


def test_the_hosts_own_login_reads_no_secret_and_mints_no_other_policy(store_of: Vault) -> None:
    answer = store_of.server.request(
        "POST",
        "auth/approle/login",
        {"role_id": store_of.role_id, "secret_id": (store_of.root / "secret-id").read_text().strip()},
    )
    auth = answer["auth"]
    assert isinstance(auth, dict)
    token = str(auth["client_token"])

    def status_of(method: str, path: str, body: dict[str, object] | None = None) -> int:
        with pytest.raises(urllib.error.HTTPError) as caught:
            store_of.server.request(method, path, body, token=token)
        with caught.value:
            return caught.value.code

    assert status_of("GET", "kv/data/team/api") == 403
    assert status_of("POST", "auth/token/create/wellhead-run", {"policies": ["root"]}) == 400
    assert status_of("POST", "auth/token/create/wellhead-run", {"policies": ["wellhead-host"]}) == 400
    assert status_of("POST", "auth/token/create", {}) == 403
    store_of.server.request("POST", "auth/token/revoke-self", {}, token=token)


@pytest.mark.parametrize(
    ("reference", "says"),
    [("vault://kv/team/api#nope", "its fields are: key, number"), ("vault://kv/team/api#number", "string")],
)
def test_names_a_field_that_is_missing_or_not_text(store_of: Vault, reference: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as caught, store_of.store().lend(_request(key=reference), _ignore):
        pass
    assert caught.value.code is vault.MISSING
    assert says in str(caught.value.hint)
    assert CANARY not in f"{caught.value.message} {caught.value.hint}"


def test_names_a_deleted_secret(store_of: Vault) -> None:
    store_of.server.request("DELETE", "kv/data/team/api")
    with (
        pytest.raises(ConfigurationError) as caught,
        store_of.store().lend(_request(key="vault://kv/team/api#key"), _ignore),
    ):
        pass
    store_of.server.request("POST", "kv/undelete/team/api", {"versions": [1]})
    assert caught.value.code is vault.MISSING


def test_the_wrapped_secret_id_is_stored_privately_and_unwraps_once(store_of: Vault) -> None:
    assert (store_of.root / "secret-id").stat().st_mode & 0o777 == 0o600
    token = _wrap(store_of.server, "auth/approle/role/host/secret-id")
    store_of.store().login_wrapped(token)
    with pytest.raises(AuthError) as caught:
        store_of.store().login_wrapped(token)
    assert caught.value.code is vault.WRAPPING_SPENT


def test_a_secret_id_is_stored_where_a_link_leads_and_in_place_of_nothing_but_a_file(store_of: Vault) -> None:
    link, real = store_of.root / "secret-id", store_of.root / "shared-id"
    link.rename(real)
    link.symlink_to(real)
    before = real.read_text()
    store_of.store().login_wrapped(_wrap(store_of.server, "auth/approle/role/host/secret-id"))
    assert link.is_symlink()
    assert real.read_text() != before
    real.unlink()
    os.mkfifo(real)
    token = _wrap(store_of.server, "auth/approle/role/host/secret-id")
    with pytest.raises(OSError, match="no regular file"):
        store_of.store().login_wrapped(token)
    assert real.is_fifo()
    real.unlink()
    store_of.store().login_wrapped(token)  # it was not unwrapped


def test_a_wrapping_token_that_somebody_else_made_is_not_unwrapped(store_of: Vault) -> None:
    token = _wrap(store_of.server, "auth/token/create")
    before = (store_of.root / "secret-id").read_text()
    with pytest.raises(AuthError, match="auth/token/create") as caught:
        store_of.store().login_wrapped(token)
    assert caught.value.code is vault.WRAPPING_SPENT
    assert (store_of.root / "secret-id").read_text() == before


def test_another_roles_secret_id_does_not_replace_the_one_that_works(store_of: Vault) -> None:
    store_of.server.request("POST", "auth/approle/role/other", {"token_policies": ["default"]})
    token = _wrap(store_of.server, "auth/approle/role/other/secret-id")
    before = (store_of.root / "secret-id").read_text()
    with pytest.raises(AuthError) as caught:
        store_of.store().login_wrapped(token)
    assert caught.value.code is vault.LOGIN_REFUSED
    assert "the wrapping token is spent" in str(caught.value.hint)
    assert (store_of.root / "secret-id").read_text() == before
    store_of.store().check_login()


def test_a_login_leaves_no_token_behind(store_of: Vault) -> None:
    before = store_of.accessors()
    store_of.store().check_login()
    assert store_of.accessors() == before


def test_a_wrong_secret_id_says_how_to_get_a_new_one(store_of: Vault) -> None:
    (store_of.root / "secret-id").write_text("00000000-0000-0000-0000-000000000000")
    with pytest.raises(AuthError) as caught:
        store_of.store().check_login()
    assert caught.value.code is vault.LOGIN_REFUSED
    assert "wellhead vault login --wrapped" in str(caught.value.hint)


def test_an_expired_token_file_is_an_auth_error(prepared: Vault, tmp_path: Path) -> None:
    (tmp_path / "token").touch(mode=0o600)
    (tmp_path / "token").write_text("s.expired")
    store = vault.VaultStore(prepared.settings, tmp_path, SystemClock())
    with pytest.raises(AuthError) as caught, store.lend(_request(key="vault://kv/team/api#key"), _ignore):
        pass
    assert caught.value.code is vault.LOGIN_REFUSED


def test_a_server_that_is_away_is_transient(tmp_path: Path) -> None:
    (tmp_path / "token").touch(mode=0o600)
    (tmp_path / "token").write_text("s.any")
    settings = VaultSettings(address=f"http://127.0.0.1:{free_port()}", token_file=Path("token"))
    store = vault.VaultStore(settings, tmp_path, SystemClock())
    with pytest.raises(TransientError) as caught, store.lend(_request(key="vault://kv/a#b"), _ignore):
        pass
    assert caught.value.code is vault.UNREACHABLE


def test_a_loan_that_cannot_be_revoked_says_so_and_forgets_its_values(tmp_path: Path) -> None:
    with openbao_server() as server:
        settings = VaultSettings(address=server.address, token_file=Path("token"))
        (tmp_path / "token").touch(mode=0o600)
        (tmp_path / "token").write_text(server.root_token)
        server.request("POST", "sys/mounts/kv", {"type": "kv", "options": {"version": "2"}})
        references = [Reference.parse("vault://kv/team/api#key")]
        _run_script(policies.instructions(settings, KEY, references, "public"), server)
        server.request("POST", "kv/data/team/api", {"data": {"key": CANARY}})
        store = vault.VaultStore(settings, tmp_path, SystemClock())
        with store.lend(_request(key="vault://kv/team/api#key"), _ignore) as loan:
            server.kill()
        assert loan.revoked_at is None
        assert isinstance(loan.revocation_error, TransientError)
        assert not loan.secrets


def test_refuses_an_address_that_would_carry_tokens_in_clear() -> None:
    settings = VaultSettings(address="http://vault.example:8200", token_file=Path("token"))
    with pytest.raises(ConfigurationError) as caught:
        vault.VaultStore(settings, Path(), SystemClock())
    assert caught.value.code is vault.INSECURE


def test_environment_proxies_never_see_a_token(store_of: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    store_of.store().check_login()


def test_the_local_schemes_are_refused(store_of: Vault) -> None:
    with pytest.raises(ConfigurationError) as caught, store_of.store().lend(_request(key="env://KEY"), _ignore):
        pass
    assert caught.value.code is base.WRONG_STORE
