"""The one host the hostile connector may reach: a TLS server of ours, beside which every other way must stay shut."""

from __future__ import annotations

import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.parts import certificate


class Door(socketserver.ThreadingTCPServer):
    """Greets over TLS and keeps the names it was asked for."""

    daemon_threads = True
    allow_reuse_address = True
    context: ssl.SSLContext
    names: list[str]

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    def get_request(self) -> tuple[socket.socket, Any]:
        """Wrap the connection; the handshake is the handler's, so that a stuck one holds up nobody else."""
        line, peer = super().get_request()
        return self.context.wrap_socket(line, server_side=True, do_handshake_on_connect=False), peer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent: a peer that breaks off is what this server is here for."""


class _Greeting(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(b"welcome\n")


@contextmanager
def opened(address: str, name: str, folder: Path) -> Iterator[Door]:
    """Listen on a free port of ``address`` with a certificate for ``name``, whose files go into ``folder``."""
    files = certificate(folder, name)
    with Door((address, 0), _Greeting) as door:
        door.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        door.context.load_cert_chain(files.certificate, files.key)
        door.names = []
        door.context.sni_callback = lambda _line, asked, _context: door.names.append(asked)
        thread = threading.Thread(target=door.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield door
        finally:
            door.shutdown()
            thread.join()
