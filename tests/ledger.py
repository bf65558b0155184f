"""A source's own memory of what was acknowledged, kept in the test's process: no kill of host or connector touches it.

The other end is `wellhead_generator.ledger`, through a Unix socket in a folder that is mounted read-only: connecting to
a socket writes nothing.
"""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

SOCKET_NAME = "ledger.sock"


@dataclass
class Ledger:
    """What each unit was acknowledged up to, and every acknowledgement in the order it came."""

    folder: Path
    positions: dict[str, int] = field(default_factory=dict)
    acknowledgements: list[tuple[str, int]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, question: dict[str, object]) -> dict[str, int]:
        """Answer one question of the connector."""
        unit = str(question["unit"])
        with self._lock:
            if question["op"] == "ack":
                position = int(str(question["position"]))
                self.acknowledgements.append((unit, position))
                self.positions[unit] = max(self.positions.get(unit, 0), position)
            return {"position": self.positions.get(unit, 0)}


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    ledger: Ledger


class _Line(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(json.dumps(self.server.ledger.answer(json.loads(line))).encode() + b"\n")


@contextmanager
def kept(folder: Path) -> Iterator[Ledger]:
    """Keep a ledger whose socket lies in ``folder``, for every user of the machine."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    path = folder / SOCKET_NAME
    with _Server(str(path), _Line) as server:
        path.chmod(0o666)
        server.ledger = Ledger(folder)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="ledger")
        thread.start()
        try:
            yield server.ledger
        finally:
            server.shutdown()
            thread.join()
            path.unlink()
