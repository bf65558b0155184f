"""Names that must not be mixed, and how new ones are made."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import NewType

RunId = NewType("RunId", str)
StreamName = NewType("StreamName", str)
UnitKey = NewType("UnitKey", str)
ConnectorId = NewType("ConnectorId", str)
Digest = NewType("Digest", str)

#: The unit that covers a whole stream and holds the stream's state.
WHOLE_STREAM = UnitKey("all")

_UNIT_KEY = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}")


@dataclass(frozen=True, slots=True)
class ConnectionKey:
    """Whose connection it is; the scope of every state, lease and folder."""

    tenant: str
    project: str
    name: str

    def __str__(self) -> str:
        return f"{self.tenant}/{self.project}/{self.name}"


@dataclass(frozen=True, slots=True)
class StreamKey:
    """One stream of one connection; never names a unit or a generation."""

    connection: ConnectionKey
    stream: StreamName

    def __str__(self) -> str:
        return f"{self.connection}/{self.stream}"


def new_run_id(now: datetime) -> RunId:
    """Make an id that sorts by time: 11 hex digits of milliseconds, then 9 random ones."""
    return RunId(f"{int(now.timestamp() * 1000):011x}{secrets.token_hex(5)[:9]}")


def is_run_id(text: str) -> bool:
    """Say whether a run may have this id, which names files: no run's has a dot or a slash."""
    return _RUN_ID.fullmatch(text) is not None


def is_unit_key(text: str) -> bool:
    """Say whether a connector may name a unit so: ``[a-z0-9][a-z0-9-]{0,62}``."""
    return _UNIT_KEY.fullmatch(text) is not None
