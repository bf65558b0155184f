"""Reaching an Engine, or saying why not, also where it goes away in the middle of a request."""

from __future__ import annotations

import errno
import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import UnixStreamServer
from typing import Any, ClassVar

import pytest

from wellhead.engine import client
from wellhead.engine.client import Engine
from wellhead.engine.container import Labels
from wellhead.errors import ConfigurationError, TransientError


class OldEngine(BaseHTTPRequestHandler):
    """Answers as an Engine of 2018 does."""

    about: ClassVar[dict[str, Any]] = {"ServerVersion": "18.09.1", "ApiVersion": "1.39", "OperatingSystem": "Debian"}

    def do_GET(self) -> None:
        body = json.dumps(self.about).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Keep quiet."""

    def address_string(self) -> str:
        return "unix"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class DyingEngine(OldEngine):
    """Answers as an Engine of today does until it is sent an image: says ``said`` of it, and then nothing of images."""

    about: ClassVar[dict[str, Any]] = {"ServerVersion": "27.5.1", "ApiVersion": "1.47", "NCPU": 2}
    said = chunk(b'{"stream": "Loaded image: a:1\\n"}') + chunk(b"")

    def do_GET(self) -> None:
        if "/images/" not in self.path:
            super().do_GET()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(self.said)


class CutEngine(DyingEngine):
    """Is gone in the middle of a chunk."""

    said = chunk(b'{"stream": "a layer"}')[:-8]


class GarbledEngine(DyingEngine):
    """Ends its answer in the middle of a line."""

    said = chunk(b'{"stream": ') + chunk(b"")


@contextmanager
def serving(tmp_path: Path, handler: type[OldEngine]) -> Iterator[str]:
    path = tmp_path / "docker.sock"
    with UnixStreamServer(str(path), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"unix://{path}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def old_engine(tmp_path: Path) -> Iterator[str]:
    with serving(tmp_path, OldEngine) as address:
        yield address


def test_an_engine_that_is_not_there_is_told_with_how_to_start_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Engine.connect(f"unix://{tmp_path}/none.sock")
    assert caught.value.code is client.UNREACHABLE
    assert "none.sock" in caught.value.message
    assert "systemctl start docker" in (caught.value.hint or "")


def test_a_socket_this_user_may_not_use_is_told_with_the_group_to_join(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root may use any socket, so the kernel's answer to another user is given in its place.
    def refuse(address: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(client, "_dial", refuse)
    with pytest.raises(ConfigurationError) as caught:
        Engine.connect(f"unix://{tmp_path}/docker.sock")
    assert caught.value.code is client.FORBIDDEN
    assert "group `docker`" in (caught.value.hint or "")


def test_an_engine_older_than_20_10_is_refused(old_engine: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Engine.connect(old_engine)
    assert caught.value.code is client.TOO_OLD
    assert "18.09.1" in caught.value.message


def test_labels_come_back_from_what_the_engine_stores() -> None:
    labels = Labels("r1", "host", 7, "acme/main/orders", "gateway")
    assert Labels.from_dict(labels.as_dict()) == labels
    assert Labels.from_dict({}) is None
    assert Labels.from_dict({**labels.as_dict(), "wellhead.epoch": "seven"}) is None


@pytest.mark.parametrize("variable", ["DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"])
def test_an_environment_that_asks_for_tls_without_certificates_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:2376")
    monkeypatch.setenv(variable, str(tmp_path))
    with pytest.raises(ConfigurationError) as caught:
        Engine.connect()
    assert caught.value.code is client.UNREACHABLE
    assert "tcp://127.0.0.1:2376" in caught.value.message
    assert "cert.pem" in (caught.value.hint or "")


def test_an_address_that_is_none_is_told() -> None:
    with pytest.raises(ConfigurationError, match=r"tcp://127\.0\.0\.1:port") as caught:
        Engine.connect("tcp://127.0.0.1:port")
    assert caught.value.code is client.UNREACHABLE


def load(engine: Engine) -> None:
    engine.load(io.BytesIO(b"a tar"))


def import_rootfs(engine: Engine) -> None:
    engine.import_rootfs(io.BytesIO(b"a tar"), "a:1", (), {})


@pytest.mark.parametrize(
    ("handler", "ask"),
    [(CutEngine, load), (GarbledEngine, load), (DyingEngine, load), (DyingEngine, import_rootfs)],
    ids=["cut answer", "half a line", "loaded, and no id", "imported, and no id"],
)
def test_an_engine_that_goes_away_while_it_takes_an_image_is_worth_another_try(
    tmp_path: Path, handler: type[OldEngine], ask: Callable[[Engine], None]
) -> None:
    with (
        serving(tmp_path, handler) as address,
        closing(Engine.connect(address)) as engine,
        pytest.raises(TransientError) as caught,
    ):
        ask(engine)
    assert caught.value.code is client.INTERRUPTED
