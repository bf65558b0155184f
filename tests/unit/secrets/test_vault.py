"""What a secret store, or a load balancer before it, may answer: each ends as an error that says what to do."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from wellhead.clock import SystemClock
from wellhead.errors import AuthError, ConfigurationError, TransientError
from wellhead.ids import ConnectionKey, RunId
from wellhead.secrets import vault
from wellhead.secrets.base import LendRequest, Reference
from wellhead.settings import AppRole, VaultSettings

MINT = "auth/token/create/wellhead-run"
MINTED = {"auth": {"client_token": "s.run", "accessor": "a.run", "lease_duration": 300}}
LEASED = {"data": {"username": "u", "password": "p"}, "lease_duration": 600}
OLD, NEW = "the-secret-id-that-works", "the-secret-id-of-another-role"


@dataclass(frozen=True)
class Answer:
    status: int
    body: object = ""

    def content(self) -> bytes:
        return self.body.encode() if isinstance(self.body, str) else json.dumps(self.body).encode()


#: By path, in turn; the last one again and again.
Script = Mapping[str, list[Answer]]


@contextmanager
def scripted(script: Script) -> Iterator[tuple[str, list[tuple[str, dict[str, Any]]]]]:
    """Serve a script and yield the address and what was asked; what is not in the script is done without a word."""
    seen: list[tuple[str, dict[str, Any]]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.removeprefix("/v1/")
            answers = script.get(path, [Answer(204)])
            answer = answers[min(sum(one == path for one, _ in seen), len(answers) - 1)]
            seen.append((path, json.loads(sent or b"{}")))
            self.send_response(answer.status)
            content = answer.content()
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = _any  # noqa: N815 - the names http.server calls

        def log_message(self, format: str, *args: Any) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.daemon_threads = True
    thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.server_address[1]}", seen
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()


def store(address: str, folder: Path, *, approle: bool = False) -> vault.VaultStore:
    for name, text in (("token", "s.host"), ("secret-id", OLD)):
        (folder / name).touch(mode=0o600)
        (folder / name).write_text(text)
    login: dict[str, Any] = {"token_file": Path("token")}
    if approle:
        login = {"approle": AppRole(role_id="host", secret_id_file=Path("secret-id"))}
    return vault.VaultStore(VaultSettings(address=address, **login), folder, SystemClock())


def request(**references: str) -> LendRequest:
    parsed = {slot: Reference.parse(text) for slot, text in references.items()}
    return LendRequest(RunId("run-1"), ConnectionKey("acme", "data", "flights"), parsed)


KEY_VALUE = "vault://kv/team/api#key"
DYNAMIC = "vault-dyn://database/creds/reader#password"


def lend(script: Script, folder: Path, reference: str = KEY_VALUE) -> None:
    with scripted(script) as (address, _), store(address, folder).lend(request(key=reference), lambda _: None):
        pytest.fail("it was lent")


@pytest.mark.parametrize("status", [412, 418, 472, 473, 500, 501, 502, 503, 504])
@pytest.mark.parametrize("body", [{"errors": []}, "<html>gateway time-out</html>", ""], ids=["json", "html", "empty"])
def test_what_a_balancer_or_a_standby_says_is_no_refusal(tmp_path: Path, status: int, body: object) -> None:
    with pytest.raises(TransientError) as caught:
        lend({MINT: [Answer(status, body)]}, tmp_path)
    assert caught.value.code is vault.UNREACHABLE
    away = {"auth/token/revoke-accessor": [Answer(status, body)]}
    with scripted(away) as (address, _), pytest.raises(TransientError) as caught:
        store(address, tmp_path).revoke_accessor("a.run")
    assert caught.value.code is vault.UNREACHABLE


def test_what_an_engine_does_not_do_is_a_refusal(tmp_path: Path) -> None:
    unsupported = Answer(405, {"errors": ["1 error occurred:\n\t* unsupported operation\n\n"]})
    with pytest.raises(ConfigurationError) as caught:
        lend({MINT: [Answer(200, MINTED)], "database/creds/reader": [unsupported]}, tmp_path, DYNAMIC)
    assert caught.value.code is vault.REQUEST_REFUSED


STRANGE = [
    Answer(200, {}),
    Answer(200, {"auth": None}),
    Answer(200, {"auth": []}),
    Answer(200, {"auth": {"client_token": "s.run", "accessor": "a.run"}}),
    Answer(200, {"auth": MINTED["auth"] | {"lease_duration": "300"}}),
    Answer(200, {"auth": MINTED["auth"] | {"accessor": None}}),
    Answer(200, []),
    Answer(200, "null"),
    Answer(200, "no JSON"),
    Answer(400, []),
    Answer(400, {"errors": [{}]}),
    Answer(400, {"errors": 7}),
    Answer(403, []),
    Answer(403, "null"),
]


@pytest.mark.parametrize("answer", STRANGE, ids=str)
def test_an_answer_of_another_form_is_told_as_that(tmp_path: Path, answer: Answer) -> None:
    with pytest.raises(TransientError) as caught:
        lend({MINT: [answer]}, tmp_path)
    assert caught.value.code is vault.UNREACHABLE
    login = {"auth/approle/login": [answer]}
    with scripted(login) as (address, _), pytest.raises(TransientError) as caught:
        store(address, tmp_path, approle=True).check_login()
    assert caught.value.code is vault.UNREACHABLE


@pytest.mark.parametrize("answer", [Answer(200, []), Answer(200, LEASED | {"lease_id": "l", "lease_duration": None})])
def test_a_secret_of_another_form_is_told_as_that(tmp_path: Path, answer: Answer) -> None:
    with pytest.raises(TransientError) as caught:
        lend({MINT: [Answer(200, MINTED)], "database/creds/reader": [answer]}, tmp_path, DYNAMIC)
    assert caught.value.code is vault.UNREACHABLE


def test_nothing_of_a_strange_answer_is_repeated(tmp_path: Path) -> None:
    with pytest.raises(TransientError) as caught:
        lend({MINT: [Answer(200, {"auth": {"client_token": "s.tops3cret"}})]}, tmp_path)
    assert "s3cret" not in f"{caught.value.message} {caught.value.hint}"


def test_a_lease_that_is_refused_keeps_no_other_from_being_renewed(tmp_path: Path) -> None:
    script = {
        MINT: [Answer(200, MINTED)],
        "auth/token/renew-self": [Answer(200, MINTED)],
        "database/creds/one": [Answer(200, LEASED | {"lease_id": "one"})],
        "database/creds/two": [Answer(200, LEASED | {"lease_id": "two"})],
        "sys/leases/renew": [Answer(400, {"errors": ["lease not found"]}), Answer(200, {"lease_duration": 7200})],
    }
    references = {name: f"vault-dyn://database/creds/{name}#password" for name in ("one", "two")}
    with (
        scripted(script) as (address, seen),
        store(address, tmp_path).lend(request(**references), lambda _: None) as loan,
    ):
        before = {slot: secret.expires_at for slot, secret in loan.secrets.items()}
        with pytest.raises(ConfigurationError) as caught:
            loan.renew()
        after = {slot: secret.expires_at or datetime.min.replace(tzinfo=UTC) for slot, secret in loan.secrets.items()}
    assert caught.value.code is vault.REQUEST_REFUSED
    assert [sent["lease_id"] for path, sent in seen if path == "sys/leases/renew"] == ["one", "two"]
    assert after["one"] == before["one"]
    assert after["two"] > after["one"]


WRAPPING = {
    "sys/wrapping/lookup": [Answer(200, {"data": {"creation_path": "auth/approle/role/other/secret-id"}})],
    "sys/wrapping/unwrap": [Answer(200, {"data": {"secret_id": NEW}})],
}


@pytest.mark.parametrize("said", ["invalid role or secret ID", "permission denied"])
def test_a_secret_id_that_does_not_log_in_replaces_none(tmp_path: Path, said: str) -> None:
    login = {"auth/approle/login": [Answer(403 if "denied" in said else 400, {"errors": [said]})]}
    with scripted({**WRAPPING, **login}) as (address, seen), pytest.raises(AuthError) as caught:
        store(address, tmp_path, approle=True).login_wrapped("s.wrapping")
    assert (tmp_path / "secret-id").read_text() == OLD
    assert sorted(path.name for path in tmp_path.iterdir()) == ["secret-id", "token"]
    assert "the wrapping token is spent" in str(caught.value.hint)
    assert NEW not in f"{caught.value.message} {caught.value.hint}"
    assert seen[-1] == ("auth/approle/login", {"role_id": "host", "secret_id": NEW})


@pytest.mark.parametrize("path", ["auth/approle/login", "auth/token/lookup-self"])
@pytest.mark.parametrize(
    "answer",
    [Answer(503, {"errors": ["sealed"]}), Answer(429, {"errors": []}), Answer(200, "no JSON")],
    ids=["away", "throttled", "strange"],
)
def test_a_secret_id_that_could_not_be_tried_is_stored_and_told_so(tmp_path: Path, path: str, answer: Answer) -> None:
    script = {**WRAPPING, "auth/approle/login": [Answer(200, MINTED)], path: [answer]}
    with scripted(script) as (address, _), pytest.raises(TransientError) as caught:
        store(address, tmp_path, approle=True).login_wrapped("s.wrapping")
    assert caught.value.code is vault.UNREACHABLE
    assert (tmp_path / "secret-id").read_text() == f"{NEW}\n"
    assert (tmp_path / "secret-id").stat().st_mode & 0o777 == 0o600
    assert f"the new secret id is stored in {tmp_path / 'secret-id'} and was not tried" in str(caught.value.hint)
    assert NEW not in f"{caught.value.message} {caught.value.hint}"


def test_a_secret_id_is_stored_once_it_has_logged_in_and_out(tmp_path: Path) -> None:
    login = {"auth/approle/login": [Answer(200, MINTED)], "auth/token/lookup-self": [Answer(200, {"data": {}})]}
    with scripted({**WRAPPING, **login}) as (address, seen):
        store(address, tmp_path, approle=True).login_wrapped("s.wrapping")
    assert (tmp_path / "secret-id").read_text() == f"{NEW}\n"
    assert [path for path, _ in seen][-3:] == ["auth/approle/login", "auth/token/lookup-self", "auth/token/revoke-self"]
