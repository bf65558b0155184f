"""The log of one run: JSON lines in a private file, redacted before they are written and bounded in size."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import TextIO

from wellhead.clock import Clock
from wellhead.ids import ConnectionKey, RunId
from wellhead.telemetry.redact import Redactor

#: Enough for a week of ordinary runs in one; a connector that floods its log loses its own later lines, not our disk.
MAX_BYTES = 16 * 1024 * 1024
#: One line at the most; a longer message is cut.
MAX_LINE = 16 * 1024

#: Names a line's fields may not take, because the line has them already.
_OWN = ("time", "level", "source", "run_id", "connection", "message")


class Level(IntEnum):
    """How much a line matters; only warnings and errors ask something of a person."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


class RunLog:
    """Writes what a run and its connector say; safe to share between threads.

    Each line is one JSON object: ``time`` (RFC 3339, UTC), ``level``, ``source`` (``host`` or ``connector``),
    ``run_id``, ``connection``, ``message``, and the caller's fields, which never replace those.
    """

    def __init__(
        self,
        file: Path,
        redactor: Redactor,
        clock: Clock,
        *,
        run_id: RunId,
        connection: ConnectionKey,
        echo: Callable[[Level, str], None] | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        """Open ``file`` for appending, mode 0600; its folder is made when missing.

        Args:
            file: where the lines go.
            redactor: knows the run's secrets; values may be added to it while the log is open.
            clock: gives each line its time.
            run_id: of the run.
            connection: of the run.
            echo: is also given each line as ``message key=value …``, for a person who watches.
            max_bytes: of the file; later lines are counted instead of written, and the count is the last line.
        """
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        self._out: TextIO = os.fdopen(descriptor, "w", encoding="utf-8")
        self._redactor = redactor
        self._clock = clock
        self._common = {"run_id": str(run_id), "connection": str(connection)}
        self._echo = echo
        self._left = max_bytes
        self._dropped = 0
        self._lock = threading.Lock()

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def write(self, level: Level, message: str, /, *, source: str = "host", **fields: object) -> None:
        """Write one line; nothing is raised for a closed log, whose last line said that it ended."""
        # Redacted before it is cut: half a secret at the cut would be no form the redactor knows.
        message = self._redactor.text(message)[:MAX_LINE]
        # Names too: a connector chooses them as freely as the values.
        clean = {
            self._redactor.text(name): self._redactor.value(value) for name, value in fields.items() if name not in _OWN
        }
        line = self._line(level, source, message, clean)
        if len(line) > MAX_LINE:
            line = self._line(level, source, message[: MAX_LINE // 2], {"cut": True})
        with self._lock:
            if self._out.closed:
                return
            size = len(line.encode())
            if size > self._left:
                self._left = 0
                self._dropped += 1
                return
            self._left -= size
            self._out.write(line)
            self._out.flush()
        if self._echo is not None:
            self._echo(level, " ".join([message, *(f"{name}={_word(value)}" for name, value in clean.items())]))

    def close(self) -> None:
        """Say how many lines did not fit and close the file; safe to call twice."""
        with self._lock:
            if self._out.closed:
                return
            if self._dropped:
                text = f"the log is full: {self._dropped} lines were dropped"
                self._out.write(self._line(Level.WARNING, "host", text, {"dropped": self._dropped}))
            self._out.flush()
            os.fsync(self._out.fileno())
            self._out.close()

    def _line(self, level: Level, source: str, message: str, fields: dict[str, object]) -> str:
        document = {
            "time": self._clock.now().isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": level.name.lower(),
            "source": source,
            **self._common,
            "message": message,
            **fields,
        }
        return json.dumps(document, ensure_ascii=False).encode("utf-8", "backslashreplace").decode() + "\n"


def _word(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return json.dumps(text, ensure_ascii=False) if not text or any(c.isspace() or c in '="' for c in text) else text
