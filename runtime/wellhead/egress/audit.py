"""What a gateway writes down: one JSON object a line, and never more than its bound."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

#: Denied names are recorded one by one up to here and counted beyond: names are free for who makes them up.
MAX_DENIED_NAMES = 256
#: More than the line of any connection has: a name of 253 bytes, and less than 300 around it.
MAX_LINE_BYTES = 1024


class AuditFullError(Exception):
    """The record has reached its bound, or can no longer be written."""


class Audit:
    """The record of everything asked and done; ``write`` gets whole lines."""

    def __init__(self, max_bytes: int, write: Callable[[bytes], None]) -> None:
        self._left = max_bytes
        self._reserved = 0
        self._write = write
        self._denied_names: set[str] = set()
        self.connections = 0
        self.unrecorded_names = 0
        self.is_full = False

    def reserve(self) -> None:
        """Keep room for the line of a connection that begins: whatever is recorded meanwhile, it will fit.

        Raises:
            AuditFullError: there is none, and the gateway must close.
        """
        if self.is_full or self._left < MAX_LINE_BYTES:
            self.is_full = True
            raise AuditFullError
        self._left -= MAX_LINE_BYTES
        self._reserved += 1

    def connection(self, **fields: Any) -> None:
        """Record one connection that is over, in the room that was reserved for it.

        Raises:
            AuditFullError: it is not recorded, and the gateway must close.
        """
        is_reserved = self._reserved > 0
        if is_reserved:
            self._reserved -= 1
            self._left += MAX_LINE_BYTES
        self._line({"kind": "connect", **fields}, is_reserved=is_reserved)
        self.connections += 1

    def denied_name(self, name: str, reason: str) -> None:
        """Record a name that was not answered, the first time it is asked for.

        Raises:
            AuditFullError: it is not recorded, and the gateway must close.
        """
        name = name[:255]
        if name in self._denied_names:
            return
        if len(self._denied_names) >= MAX_DENIED_NAMES:
            self.unrecorded_names += 1
            return
        self._denied_names.add(name)
        self._line({"kind": "name", "host": name, "verdict": "deny", "reason": reason})

    def event(self, kind: str, **fields: Any) -> None:
        """Write a line that is about the gateway and always fits."""
        self._write(_line(kind, fields))

    def _line(self, fields: dict[str, Any], *, is_reserved: bool = False) -> None:
        line = _line(fields.pop("kind"), fields)
        # What was reserved is there also when the rest is full.
        if len(line) > self._left or (self.is_full and not is_reserved):
            self.is_full = True
            raise AuditFullError
        self._left -= len(line)
        try:
            self._write(line)
        except OSError as exc:
            self.is_full = True
            raise AuditFullError from exc


def _line(kind: str, fields: dict[str, Any]) -> bytes:
    return json.dumps({"kind": kind, "at": time.time(), **fields}).encode() + b"\n"
