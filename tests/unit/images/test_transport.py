"""Requests to a registry: what is tried again, how long is waited, and where a password goes."""

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from wellhead.errors import AuthError, ConfigurationError, RefusedError, ThrottledError, TransientError
from wellhead.ids import ConnectorId
from wellhead.images import oci, store
from wellhead.images.oci import Descriptor
from wellhead.images.registry import Registry
from wellhead.images.transport import Credentials, Transport

CREDENTIALS = Credentials("somebody", "password-of-this-test")
BASIC = "Basic " + base64.b64encode(b"somebody:password-of-this-test").decode()
DIGEST = "sha256:" + "0" * 64


@dataclass
class Answer:
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass
class Server:
    """A server with a script: `answers` in turn, the last one again and again; `seen` is what was asked."""

    base: str
    answers: list[Answer]
    seen: list[tuple[str, str, str | None]]


@contextmanager
def scripted(*answers: Answer | Callable[[str], Answer]) -> Iterator[Server]:
    seen: list[tuple[str, str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = server.answers[min(len(seen), len(server.answers) - 1)]
            seen.append((self.command, self.path, self.headers.get("Authorization")))
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if "Content-Length" not in answer.headers:
                self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)
            if "Content-Length" in answer.headers:
                self.close_connection = True

        do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = _any  # noqa: N815 - the names http.server calls

        def log_message(self, format: str, *args: Any) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.daemon_threads = True
    base = f"http://127.0.0.1:{listening.server_address[1]}"
    server = Server(base, [one(base) if callable(one) else one for one in answers], seen)
    thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()


@contextmanager
def client(server: Server, pauses: list[float] | None = None) -> Iterator[Transport]:
    transport = Transport(server.base, CREDENTIALS, None, (pauses if pauses is not None else []).append)
    yield transport
    transport.close()


OK = Answer(200, {}, b"{}")


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(status: int) -> None:
    pauses: list[float] = []
    with scripted(Answer(status), Answer(status), OK) as server, client(server, pauses) as transport:
        assert transport.send("GET", "/v2/", ()).status_code == 200
    assert len(pauses) == 2
    assert pauses[0] < pauses[1]


@pytest.mark.parametrize("status", [400, 405, 409, 413, 416])
def test_what_stays_refused_is_asked_once_and_told_with_the_registrys_code(status: int) -> None:
    body = json.dumps({"errors": [{"code": "DENIED_BY_RULE", "message": "secret \x1b[31m"}, {"code": "x y"}]}).encode()
    with scripted(Answer(status, {}, body)) as server, client(server) as transport:
        with pytest.raises(ConfigurationError) as caught:
            transport.send("PUT", "/v2/a/manifests/1?state=signed", ())
        assert len(server.seen) == 1
    assert caught.value.code.name == "WH-IMG-044"
    assert caught.value.message == (
        f"PUT {server.base}/v2/a/manifests/1: the registry refused it ({status}: DENIED_BY_RULE)"
    )


def test_a_registry_that_says_when_is_believed_up_to_a_point() -> None:
    pauses: list[float] = []
    with scripted(Answer(429, {"Retry-After": "7"}), OK) as server, client(server, pauses) as transport:
        transport.send("GET", "/v2/", ()).close()
    assert pauses == [7.0]
    with scripted(Answer(429, {"Retry-After": "3600"}), OK) as server, client(server, pauses) as transport:
        with pytest.raises(ThrottledError) as caught:
            transport.send("GET", "/v2/", ())
        assert len(server.seen) == 1
    assert caught.value.code.name == "WH-IMG-040"
    assert caught.value.retry_at is not None


@pytest.mark.parametrize("asked", ["1000000000000", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_registry_that_asks_for_longer_than_there_are_dates_is_told_within_a_year(asked: str) -> None:
    with scripted(Answer(503, {"Retry-After": asked})) as server, client(server) as transport:
        with pytest.raises(ThrottledError) as caught:
            transport.send("GET", "/v2/", ())
        assert len(server.seen) == 1
    assert caught.value.retry_at is not None
    assert timedelta(days=365) < caught.value.retry_at - datetime.now(UTC) <= timedelta(days=366)


@pytest.mark.parametrize("asked", ["soon", "-1", "Fri, 31 Dec 99999999999999999999 23:59:59 GMT"])
def test_a_pause_that_cannot_be_understood_is_ours(asked: str) -> None:
    pauses: list[float] = []
    with scripted(Answer(503, {"Retry-After": asked}), OK) as server, client(server, pauses) as transport:
        transport.send("GET", "/v2/", ()).close()
    assert len(pauses) == 1
    assert 0.0 < pauses[0] < 1.0


def test_the_last_failure_is_told() -> None:
    with scripted(Answer(503)) as server, client(server) as transport:
        with pytest.raises(TransientError) as caught:
            transport.send("GET", "/v2/", ())
        assert len(server.seen) == 5
    assert "503" in caught.value.message


def test_a_password_is_sent_only_when_asked_for() -> None:
    asks = Answer(401, {"WWW-Authenticate": 'Basic realm="r"'})
    with scripted(asks, OK) as server, client(server) as transport:
        transport.send("GET", "/v2/", ()).close()
        transport.send("GET", "/v2/a", ()).close()
    assert [sent for _, _, sent in server.seen] == [None, BASIC, BASIC]


def test_a_token_is_asked_for_at_the_realm_and_used_for_its_scope() -> None:
    token = Answer(200, {}, b'{"access_token": "t1", "expires_in": 300}')
    with (
        scripted(token) as realm,
        scripted(Answer(401, {"WWW-Authenticate": f'Bearer realm="{realm.base}/token",service="s"'}), OK) as server,
        client(server) as transport,
    ):
        transport.send("GET", "/v2/a", ("repository:a:pull",)).close()
        transport.send("GET", "/v2/a", ("repository:a:pull",)).close()
    assert [sent for _, _, sent in server.seen] == [None, "Bearer t1", "Bearer t1"]
    assert realm.seen == [("GET", "/token?service=s&scope=repository%3Aa%3Apull", BASIC)]


def test_a_token_that_was_refused_is_asked_for_anew_once() -> None:
    with scripted(Answer(200, {}, b'{"token": "t"}')) as realm:
        asks = Answer(401, {"WWW-Authenticate": f'Bearer realm="{realm.base}/token"'})
        with scripted(asks) as server, client(server) as transport:
            with pytest.raises(AuthError) as caught:
                transport.send("GET", "/v2/a", ("repository:a:pull",))
            assert len(server.seen) == 2
    assert caught.value.code.name == "WH-IMG-041"
    assert "somebody" in caught.value.message
    assert "password-of-this-test" not in f"{caught.value.message}{caught.value.hint}"


def test_a_redirect_elsewhere_is_followed_without_the_password() -> None:
    asks = Answer(401, {"WWW-Authenticate": 'Basic realm="r"'})
    with (
        scripted(OK) as elsewhere,
        scripted(asks, Answer(307, {"Location": f"{elsewhere.base}/blob?signature=s"})) as server,
        client(server) as transport,
    ):
        transport.send("GET", "/v2/a/blobs/x", ()).close()
    assert server.seen[-1][2] == BASIC
    assert elsewhere.seen == [("GET", "/blob?signature=s", None)]


def test_who_is_redirected_to_cannot_ask_for_the_password() -> None:
    asks = Answer(401, {"WWW-Authenticate": 'Basic realm="r"'})
    with (
        scripted(asks) as elsewhere,
        scripted(Answer(307, {"Location": f"{elsewhere.base}/blob"})) as server,
        client(server) as transport,
        pytest.raises(AuthError),
    ):
        transport.send("GET", "/v2/a/blobs/x", ())
    assert [sent for _, _, sent in elsewhere.seen] == [None]
    assert [sent for _, _, sent in server.seen] == [None]


@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH"])
def test_what_is_written_is_not_written_elsewhere(method: str) -> None:
    with (
        scripted(Answer(307, {"Location": "/other"})) as server,
        client(server) as transport,
        pytest.raises(ConfigurationError) as caught,
    ):
        transport.send(method, "/v2/a", ())
    assert caught.value.code.name == "WH-IMG-045"


NOWHERE = ["http://[", "https://", "http://a:port/", "http://a:99999/"]


@pytest.mark.parametrize("where", NOWHERE)
def test_a_redirect_to_what_is_no_address_is_told(where: str) -> None:
    with scripted(Answer(307, {"Location": where})) as server, client(server) as transport:
        with pytest.raises(ConfigurationError, match="no address") as caught:
            transport.send("GET", "/v2/", ())
        assert len(server.seen) == 1
    assert caught.value.code.name == "WH-IMG-045"


@pytest.mark.parametrize("where", NOWHERE)
def test_a_realm_that_is_no_address_is_told(where: str) -> None:
    asks = Answer(401, {"WWW-Authenticate": f'Bearer realm="{where}"'})
    with scripted(asks) as server, client(server) as transport, pytest.raises(ConfigurationError) as caught:
        transport.send("GET", "/v2/", ())
    assert caught.value.code.name == "WH-IMG-045"


@pytest.mark.parametrize("where", NOWHERE)
def test_a_listing_or_upload_that_goes_on_at_no_address_is_told(where: str) -> None:
    with scripted(Answer(200, {"Link": f'<{where}>; rel="next"'}, b'{"tags": []}')) as server:
        registry = Registry(server.base, CREDENTIALS)
        with pytest.raises(ConfigurationError) as caught:
            registry.names(ConnectorId("a/b"))
    assert caught.value.code.name == "WH-IMG-045"


def test_an_endless_redirect_ends() -> None:
    with (
        scripted(Answer(302, {"Location": "/v2/"})) as server,
        client(server) as transport,
        pytest.raises(ConfigurationError) as caught,
    ):
        transport.send("GET", "/v2/", ())
    assert caught.value.code.name == "WH-IMG-045"


@pytest.mark.parametrize("where", ["http://registry.example/v2/", "ftp://127.0.0.1/", "file:///etc/passwd"])
def test_a_redirect_into_clear_text_is_refused(where: str) -> None:
    with (
        scripted(Answer(302, {"Location": where})) as server,
        client(server) as transport,
        pytest.raises(ConfigurationError) as caught,
    ):
        transport.send("GET", "/v2/", ())
    assert caught.value.code.name == "WH-IMG-042"


def test_a_realm_in_clear_text_gets_no_password() -> None:
    asks = Answer(401, {"WWW-Authenticate": 'Bearer realm="http://registry.example/token"'})
    with scripted(asks) as server, client(server) as transport, pytest.raises(ConfigurationError) as caught:
        transport.send("GET", "/v2/", ())
    assert caught.value.code.name == "WH-IMG-042"


def test_a_name_that_does_not_resolve_is_told() -> None:
    transport = Transport("https://registry.invalid", CREDENTIALS, None, lambda _: None)
    with pytest.raises(TransientError) as caught:
        transport.send("GET", "/v2/", ())
    transport.close()
    assert caught.value.code.name == "WH-IMG-040"


@pytest.mark.parametrize(
    "address",
    [
        "http://registry.example",
        "https://user:pass@registry.example/x",
        "registry.example",
        "https://x/UP",
        "https://user:pass@[/x",
        "https://user:pass@x:port/x",
        "https://registry.example:65536",
        "https://registry.example:0/x",
        "https://:443",
    ],
)
def test_an_address_is_checked_before_anything_is_sent(address: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Registry(address)
    assert caught.value.code.name in ("WH-IMG-042", "WH-IMG-046")
    assert "pass@" not in caught.value.message


def opened(server: Server) -> Registry:
    return Registry(f"{server.base}/p", CREDENTIALS, None, lambda _: None)


def test_a_document_that_grows_while_it_is_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oci, "MAX_DOCUMENT_BYTES", 50)
    with scripted(Answer(200, {}, b"x" * 51)) as server:
        store = opened(server)
        with pytest.raises(RefusedError) as caught:
            store.shelf(ConnectorId("dev/tiny")).get(oci.digest_of(b"x" * 51), "it")
        store.close()
    assert caught.value.code.name == "WH-IMG-013"


def test_a_broken_download_goes_on_where_it_broke() -> None:
    content = b"0123456789" * 60_000
    found = Descriptor(oci.LAYER, oci.digest_of(content), len(content))
    torn = Answer(200, {"Content-Length": str(len(content))}, content[:400_000])
    with scripted(torn, Answer(206, {}, content[256 * 1024 :])) as server:
        store = opened(server)
        assert b"".join(store.shelf(ConnectorId("dev/tiny")).chunks(found, "it")) == content
        store.close()
    with scripted(torn, Answer(200, {}, content)) as server:
        store = opened(server)
        assert b"".join(store.shelf(ConnectorId("dev/tiny")).chunks(found, "it")) == content
        store.close()


def listed(field: str, *names: str) -> Answer:
    return Answer(200, {}, json.dumps({field: names}).encode())


def test_what_others_keep_in_the_same_registry_is_left_out() -> None:
    others = ("p/library/my__tool", "p/Upper/x", "p/library/x-", "p", "p/one", "p/one/two/three", "c/dev/tiny", "")
    answers = [
        listed("repositories", *others, "p/library/alpine", "p/dev/a--b"),
        listed("tags", "1.0.0", "a b", "latest"),
        listed("tags", "latest", "edge"),
    ]
    with scripted(*answers, *answers) as server:
        registry = opened(server)
        assert registry.names() == ("dev/a--b:1.0.0", "dev/a--b:latest", "library/alpine:edge", "library/alpine:latest")
        # Names are asked for once more.
        assert store.releases(registry) == ((ConnectorId("dev/a--b"), "1.0.0"),)
        registry.close()


def test_a_listing_that_goes_on_at_another_host_is_refused() -> None:
    with scripted(Answer(200, {"Link": '<https://other.example/v2/>; rel="next"'}, b'{"tags": ["1.0.0"]}')) as server:
        store = opened(server)
        with pytest.raises(ConfigurationError) as caught:
            store.names(ConnectorId("dev/tiny"))
        store.close()
    assert caught.value.code.name == "WH-IMG-045"


def test_an_uploads_place_elsewhere_gets_the_bytes_and_not_the_password() -> None:
    asks = Answer(401, {"WWW-Authenticate": 'Basic realm="r"'})
    missing, begun = Answer(404), Answer(202)
    with scripted(Answer(201)) as elsewhere:
        begun.headers["Location"] = f"{elsewhere.base}/upload/1?state=s"
        with scripted(asks, missing, begun) as server:
            store = opened(server)
            store.shelf(ConnectorId("dev/tiny")).put(b"content", oci.CONFIG)
            store.close()
    assert server.seen[-1] == ("POST", "/v2/p/dev/tiny/blobs/uploads/", BASIC)
    digest = oci.digest_of(b"content")
    assert elsewhere.seen == [("PUT", f"/upload/1?state=s&digest={digest}", None)]


def test_a_part_that_is_out_of_sight_for_a_moment_stops_no_publisher() -> None:
    """As a registry answers while another publisher uploads the same blob."""
    unseen = Answer(400, {}, b'{"errors": [{"code": "DIGEST_INVALID"}, {"code": "MANIFEST_BLOB_UNKNOWN"}]}')
    with scripted(Answer(404), unseen, unseen, Answer(201)) as server:
        store = opened(server)
        store.shelf(ConnectorId("dev/tiny")).put(b"{}", oci.MANIFEST)
        store.close()
    assert [method for method, *_ in server.seen] == ["HEAD", "PUT", "PUT", "PUT"]
    with scripted(Answer(404), unseen) as server:
        store = opened(server)
        with pytest.raises(TransientError) as caught:
            store.shelf(ConnectorId("dev/tiny")).put(b"{}", oci.MANIFEST)
        store.close()
    assert caught.value.code.name == "WH-IMG-052"
    assert len(server.seen) == 5
