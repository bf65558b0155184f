"""The log of one run: JSON lines in a private file, redacted before they are written and bounded in size."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from enum import IntEnum
from pathlib import Path
from types import TracebackType

from wellhead.clock import Clock
from wellhead.errors import counted
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

    A log is no reason for a run to fail: nothing is raised where it cannot be opened or written, and `loss` tells so.

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
        self._problem = ""
        self._descriptor: int | None = None
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            self._note(error)
        self._redactor = redactor
        self._clock = clock
        self._common = {"run_id": str(run_id), "connection": str(connection)}
        self._echo = echo
        self._left = max_bytes
        self._dropped = 0
        self._is_closed = False
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
            if self._is_closed:
                return
            size = len(line.encode())
            if size > self._left:
                self._left = 0
                self._dropped += 1
                return
            if self._put(line.encode()):
                self._left -= size
            else:
                self._dropped += 1
        self._show(level, " ".join([message, *(f"{name}={_word(value)}" for name, value in clean.items())]))

    @property
    def loss(self) -> str | None:
        """Say how many lines could not be written and why, once there are any; a log that is full tells it itself."""
        with self._lock:
            if not self._problem:
                return None
            return f"{counted(self._dropped, 'line')} of the run's log could not be written: {self._problem}"

    def close(self) -> None:
        """Say how many lines are missing and close the file; safe to call twice."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            if self._dropped:
                why = self._problem or "the log is full"
                text = f"{why}: {self._dropped} lines were dropped"
                self._put(self._line(Level.WARNING, "host", text, {"dropped": self._dropped}).encode())
            if self._descriptor is not None:
                try:
                    os.fsync(self._descriptor)
                except OSError as error:
                    self._note(error)
                os.close(self._descriptor)

    def _put(self, line: bytes) -> bool:
        """Append a whole line or nothing, and say which."""
        if self._descriptor is None:
            return False
        try:
            before = os.fstat(self._descriptor).st_size
            try:
                while line:
                    line = line[os.write(self._descriptor, line) :]
            except OSError:
                # A disk with room for half a line must not spoil the next one.
                with suppress(OSError):
                    os.ftruncate(self._descriptor, before)
                raise
        except OSError as error:
            self._note(error)
            return False
        return True

    def _note(self, error: OSError) -> None:
        """Remember why the first line was lost."""
        self._problem = self._problem or error.strerror or type(error).__name__

    def _show(self, level: Level, line: str) -> None:
        """Show a line to whoever watches, until that fails once: who went away does not come back."""
        if self._echo is not None:
            try:
                self._echo(level, line)
            except OSError:
                self._echo = None

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
