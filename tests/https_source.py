"""A real HTTPS source, on loopback if not told otherwise, with a certificate of its own authority and faults on demand.

Answers are played in the order they were put in; a source without answers left answers by its route. Every request is
on the tape.
"""

from __future__ import annotations

import json
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests import parts

START = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Asked:
    """One request as it arrived."""

    path: str
    query: tuple[tuple[str, str], ...]
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Reply:
    """What to answer; ``fault`` is truncated (the line is cut in the body), drip (a byte now and then) or hang."""

    status: int = 200
    body: bytes = b"{}"
    headers: Mapping[str, str] = field(default_factory=dict)
    fault: str = ""


def page(document: Any) -> Reply:
    """Return a reply with a JSON body."""
    return Reply(body=json.dumps(document).encode())


@dataclass
class Source:
    """The server; ``base_url`` and ``ca_pem`` are what a client needs."""

    base_url: str
    ca_pem: str
    tape: list[Asked] = field(default_factory=list)
    replies: deque[Reply] = field(default_factory=deque)
    route: Callable[[Asked], Reply] = lambda _: Reply(404)
    over: threading.Event = field(default_factory=threading.Event)

    def answer(self, *replies: Reply) -> None:
        """Play these replies next."""
        self.replies.extend(replies)


@contextmanager
def https_source(folder: Path, *, address: str = "127.0.0.1", name: str = "localhost") -> Iterator[Source]:
    """Serve on an address, under a certificate for a name, until the block ends."""
    certificate = parts.certificate(folder, name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    server = _Server((address, 0), _Handler)
    server.context = context
    server.source = Source(f"https://{name}:{server.server_port}", certificate.authority.read_text())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.source
    finally:
        server.source.over.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    context: ssl.SSLContext
    source: Source

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that leaves in the middle is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        # In the connection's own thread, so that a client that refuses the certificate holds up nobody.
        self.request = self.server.context.wrap_socket(self.request, server_side=True)
        super().setup()

    def finish(self) -> None:
        super().finish()
        self.request.close()

    def do_GET(self) -> None:
        parts_ = urlsplit(self.path)
        asked = Asked(parts_.path, tuple(parse_qsl(parts_.query, keep_blank_values=True)), dict(self.headers.items()))
        source = self.server.source
        source.tape.append(asked)
        reply = source.replies.popleft() if source.replies else source.route(asked)
        if reply.fault == "hang":
            source.over.wait()
            return
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body) + (10 if reply.fault else 0)))
        self.end_headers()
        self.wfile.write(reply.body)
        self.close_connection = bool(reply.fault)
        while reply.fault == "drip" and not source.over.wait(0.02):
            self.wfile.write(b" ")

    def log_message(self, format: str, *args: Any) -> None:
        """The tape is the log."""


@dataclass
class FakeClock:
    """Time that passes only where somebody waits."""

    at: datetime = START
    slept: list[float] = field(default_factory=list)

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return (self.at - START).total_seconds()

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.at += timedelta(seconds=seconds)


@dataclass
class Watcher:
    """What a session told of itself; waiting moves the clock."""

    clock: FakeClock
    waits: list[tuple[float, str]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, **added: int) -> None:
        for name, number in added.items():
            self.counts[name] = self.counts.get(name, 0) + number

    def wait(self, until: datetime, reason: str) -> None:
        self.waits.append(((until - self.clock.at).total_seconds(), reason))
        self.clock.at = until
