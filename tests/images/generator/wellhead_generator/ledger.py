"""The line to a source that deletes what was acknowledged, as a queue or a replication slot does.

The ledger lives in the test's own process and outlives every container, host process and kill. It is a Unix socket in
a mounted folder, one JSON object a line each way:

    {"op": "position", "unit": "all"}              -> {"position": 0}
    {"op": "ack", "unit": "all", "position": 900}  -> {"position": 900}

A row below the position is gone for good. A host that acknowledges before it has committed therefore loses rows that
no later read can bring back, and the test sees the gap.
"""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass

_PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class Ledger:
    """A source's memory of what was acknowledged; one short connection a call, so threads may share it."""

    path: str

    def position(self, unit: str) -> int:
        """Return the first row of ``unit`` that the source still has."""
        return self._ask({"op": "position", "unit": unit})

    def acknowledge(self, unit: str, position: int) -> int:
        """Let the source forget every row below ``position``; never moves back, so a repeat is harmless."""
        return self._ask({"op": "ack", "unit": unit, "position": position})

    def _ask(self, question: dict[str, object]) -> int:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(_PATIENCE_S)
            line.connect(self.path)
            line.sendall(json.dumps(question).encode() + b"\n")
            with line.makefile("rb") as answers:
                return int(json.loads(answers.readline())["position"])
