"""Reaching an Engine, or saying why not."""

from __future__ import annotations

import errno
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import UnixStreamServer
from typing import Any

import pytest

from wellhead.engine import client
from wellhead.engine.client import Engine
from wellhead.engine.container import Labels
from wellhead.errors import ConfigurationError


class OldEngine(BaseHTTPRequestHandler):
    """Answers as an Engine of 2018 does."""

    def do_GET(self) -> None:
        body = json.dumps({"ServerVersion": "18.09.1", "ApiVersion": "1.39", "OperatingSystem": "Debian"}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Keep quiet."""

    def address_string(self) -> str:
        return "unix"


@pytest.fixture
def old_engine(tmp_path: Path) -> Iterator[str]:
    path = tmp_path / "docker.sock"
    with UnixStreamServer(str(path), OldEngine) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"unix://{path}"
        server.shutdown()
        thread.join()


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
